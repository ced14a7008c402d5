package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"inceptor/model"
	"inceptor/service"
)

type modelsCmd struct {
	List     modelsListCmd     `cmd:"" default:"withargs" help:"List the versions: what serves, what was refused or taken back, and why."`
	Use      modelsUseCmd      `cmd:"" help:"Let a version serve, now and after a restart, whatever else is there."`
	Rollback modelsRollbackCmd `cmd:"" help:"Take the newest version back: the one before it serves. Safer than removing its directory, which unloads nothing."`
}

// A running is a service that is asked by HTTP.
type running struct {
	Address string `default:"127.0.0.1:8080" help:"Where the service listens: its http.listen." placeholder:"HOST:PORT"`
}

type modelsListCmd struct {
	running
	JSON bool `name:"json" help:"Print JSON."`
}

// Help is the long help.
func (*modelsListCmd) Help() string {
	return `States: found (its files do not rest yet, or another version is on probation), loading (it goes through the gates), ` +
		`serving (with its label: stable, canary or shadow), warm (loaded, to serve at once when it is needed), ` +
		`refused (with the gate and the reason; it is tried again when its files change), rejected (taken back, by hand or by itself; likewise), ` +
		`available (not loaded, since a higher one serves or model.versions does not name it). An asterisk marks the version that was chosen by hand.`
}

type modelsUseCmd struct {
	running
	Version string        `arg:"" help:"Number of the version, or highest: whatever is the highest that passes its gates, as if none had been chosen." placeholder:"VERSION"`
	Timeout time.Duration `default:"3m" help:"How long to wait until it serves."`
}

// Help is the long help.
func (*modelsUseCmd) Help() string {
	return `Waits until the version serves; it may have to be loaded, and to pass its gates, while the one before goes on. It stays chosen until another one is, ` +
		`"highest" is, or it is rolled back: newer versions are not taken meanwhile. This is how a canary or shadow begins to serve everything. ` +
		`Of the versions that are there, none becomes a canary or shadow by itself any more. ` +
		`The service takes it from its own machine only.`
}

type modelsRollbackCmd struct{ running }

// Help is the long help.
func (*modelsRollbackCmd) Help() string {
	return `Takes the canary or shadow away if there is one, else the version that serves; it is not taken again until its files change, or "inceptor models use" names it. ` +
		`The version before serves at once if it is still loaded, else once it is. The service takes it from its own machine only.`
}

// Bounds on the answer of a service.
const (
	modelsTimeout  = 10 * time.Second
	maxModelsBytes = 16 << 20
)

// ask sends a request and decodes the answer to it, with whatever status.
func (r running) ask(ctx context.Context, method, path string, answer any) (status string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, modelsTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Address+path, nil)
	if err != nil {
		return "", false, err
	}
	req.Host = "localhost" // a name in r.Address may be one that the service does not answer to
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", false, fmt.Errorf("is the service running? %w", err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxModelsBytes)).Decode(answer); err != nil {
		return "", false, fmt.Errorf("%s: %s: %w", req.URL, res.Status, err)
	}
	return res.Status, res.StatusCode == http.StatusOK, nil
}

func (r running) versions(ctx context.Context) ([]model.Status, error) {
	var versions []model.Status
	status, ok, err := r.ask(ctx, http.MethodGet, "/models", &versions)
	if err == nil && !ok {
		err = errors.New(status)
	}
	return versions, err
}

// change asks for a change of the model, and passes its warning on.
func (r running) change(ctx context.Context, a *app, path string) (version *int64, err error) {
	var c service.Change
	_, ok, err := r.ask(ctx, http.MethodPost, path, &c)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errors.New(c.Error)
	case c.Warning != "":
		fmt.Fprintf(a.stderr, "inceptor: warning: %s\n", printable(c.Warning))
	}
	return c.Version, nil
}

func (c *modelsListCmd) Run(ctx context.Context, a *app) error {
	versions, err := c.versions(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(versions)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tSTATE\tLABEL\tSINCE\tSIZE\t")
	for _, v := range versions {
		number, since, size, detail := strconv.FormatInt(v.Version, 10), "", "", v.Digest
		if v.Kernels != "" {
			detail += ", " + v.Kernels + ", " + v.Precision
		}
		if v.Chosen {
			number += "*"
		}
		if !v.Since.IsZero() {
			since = v.Since.Local().Format(time.DateTime)
		}
		if v.Bytes > 0 {
			size = fmt.Sprintf("%.1f MiB", float64(v.Bytes)/(1<<20))
		}
		switch {
		case v.Gate != "":
			detail = v.Gate + ": " + v.Reason
		case v.Reason != "":
			detail = v.Reason
		case !v.Probation.IsZero():
			detail += ", on probation until " + v.Probation.Local().Format(time.TimeOnly)
		}
		if v.Assumed != "" {
			detail += "; " + v.Assumed
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", number, printable(v.State), printable(v.Label), since, size, printable(detail))
	}
	return w.Flush()
}

func (c *modelsUseCmd) Run(ctx context.Context, a *app) error {
	chosen, err := c.change(ctx, a, "/models/use?version="+url.QueryEscape(c.Version))
	if err != nil {
		return err
	}
	if chosen == nil {
		fmt.Fprintln(a.stdout, "the highest version that passes its gates serves, as if none had been chosen")
		return nil
	}
	version := *chosen
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for {
		versions, err := c.versions(ctx)
		if err != nil {
			return err
		}
		for _, v := range versions {
			switch {
			case v.Version != version:
			case v.Label == model.LabelStable:
				fmt.Fprintf(a.stdout, "version %d serves\n", version)
				return nil
			case v.State == model.StateRefused:
				return fmt.Errorf("version %d was refused: %s: %s", version, v.Gate, v.Reason)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("version %d was chosen, and does not serve yet: see \"inceptor models\"", version)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *modelsRollbackCmd) Run(ctx context.Context, a *app) error {
	version, err := c.change(ctx, a, "/models/rollback")
	if err == nil && version != nil {
		fmt.Fprintf(a.stdout, "version %d was taken back\n", *version)
	}
	return err
}
