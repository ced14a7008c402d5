package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"inceptor/internal/retry"
	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/service"
)

type modelsCmd struct {
	List     modelsListCmd     `cmd:"" default:"withargs" help:"List the versions: what serves, what failed or was rolled back, and why."`
	Use      modelsUseCmd      `cmd:"" help:"Make a version serve, now and after a restart, whatever other versions there are."`
	Rollback modelsRollbackCmd `cmd:"" help:"Go back from the version that serves to the one that served before it."`
}

// A serviceClient asks a running service over HTTP.
type serviceClient struct {
	Listen string `name:"http.listen" aliases:"address" default:"127.0.0.1:8080" help:"Address of the service, by the same setting as run's." placeholder:"HOST:PORT"`
}

// NoSettings tells whether the address, the only setting, is given on the command line.
func (serviceClient) NoSettings(given *settings.Settings) bool {
	return given.Origin("http.listen").Flag
}

type modelsListCmd struct {
	serviceClient
	JSON bool `name:"json" help:"Print JSON, with everything that is known."`
}

// Help is the long help.
func (*modelsListCmd) Help() string {
	return `States: found (its turn has not come: its files do not rest yet, or another version loads or is on probation), ` +
		`loading and warming (it goes through the gates), serving (with its label: stable, canary or shadow), standby (loaded, to serve at once when it is needed), ` +
		`draining (unloaded, and its last runs have not ended), closed (not loaded, since a higher one serves, another one was chosen or model.versions does not name it), ` +
		`failed (at a gate, with the reason; it is tried again when its files change, or after a pause if the machine was to blame), rolled-back (by hand or by itself, with the cause, until its files change or "inceptor models use" names it). ` +
		`An asterisk marks the version that was chosen by hand. The digest of a version's files is cut to 12 digits; --json has it whole.`
}

type modelsUseCmd struct {
	serviceClient
	Version string        `arg:"" help:"Number of the version, or highest: the highest one that passes its gates." placeholder:"VERSION"`
	Timeout time.Duration `default:"3m" help:"How long to wait until the version serves."`
}

// Help is the long help.
func (*modelsUseCmd) Help() string {
	return `Waits until the version serves. It may have to be loaded and to pass its gates first, while ` +
		`the version before goes on. It stays chosen until another version or "highest" is chosen. ` +
		`If it fails for good or is rolled back, the choice before it holds again. Newer versions do not serve meanwhile. This is how a canary or shadow begins ` +
		`to serve everything. None of the present versions becomes a canary or shadow by itself any more. ` +
		`The service accepts the command only from its own machine.`
}

type modelsRollbackCmd struct {
	serviceClient
	Timeout time.Duration `default:"3m" help:"How long to wait until the version before serves."`
}

// Help is the long help.
func (*modelsRollbackCmd) Help() string {
	return `Goes back from the version that serves to the one that served before it: at once if that is still ` +
		`loaded, else as soon as it is. If the process has just started and knows of none that served, the highest ` +
		`of the other versions serves. A canary or shadow, if there is one, is taken away first: then the stable version goes on. ` +
		`The version that was rolled back, and those between the two, are not loaded again until their files change ` +
		`or "inceptor models use" names them; a newer version is taken as always. "inceptor models" shows what serves. ` +
		`The service accepts the command only from its own machine.`
}

// Limits on the answer of a service.
const (
	modelsTimeout  = 10 * time.Second
	maxModelsBytes = 16 << 20
)

// dialAddress returns where to reach a service that listens at an address.
func dialAddress(listen string) (string, error) {
	if listen == "" {
		return "", errors.New("http.listen is empty: the service has no address to ask")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("http.listen: %w", err)
	}
	if port == "0" {
		return "", errors.New("http.listen has port 0: give the port that the service's log names, with --http.listen")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() { // it listens everywhere
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}

// ask sends a request and decodes the answer, whatever its status is.
func (s serviceClient) ask(
	ctx context.Context, method, path string, answer any,
) (status string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, modelsTimeout)
	defer cancel()
	address, err := dialAddress(s.Listen)
	if err != nil {
		return "", false, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		return "", false, err
	}
	req.Host = "localhost" // the service answers to few names, and http.listen may have another one
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", false, fmt.Errorf("no service answers at %s: is it running, and is http.listen the same as its own? %w", address, err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxModelsBytes)).Decode(answer); err != nil {
		return "", false, fmt.Errorf("%s: %s: %w", req.URL, res.Status, err)
	}
	return res.Status, res.StatusCode == http.StatusOK, nil
}

func (s serviceClient) versions(ctx context.Context) ([]model.Status, error) {
	var versions []model.Status
	status, ok, err := s.ask(ctx, http.MethodGet, "/models", &versions)
	if err == nil && !ok {
		err = errors.New(status)
	}
	return versions, err
}

// change asks the service for another version, and prints the warning of its answer.
func (s serviceClient) change(ctx context.Context, a *app, path string) (version *int64, err error) {
	var c service.Change
	_, ok, err := s.ask(ctx, http.MethodPost, path, &c)
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
	return printVersions(a.stdout, versions)
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
	return c.await(ctx, c.Timeout, func(versions []model.Status) (bool, error) {
		for _, v := range versions {
			switch {
			case v.Version != version:
			case v.Label == model.LabelStable:
				fmt.Fprintf(a.stdout, "version %d serves\n", version)
				return true, nil
			case v.State == model.StateFailed:
				return false, fmt.Errorf("version %d failed at the gate %s: %s", version, v.Gate, v.Reason)
			case v.State == model.StateRolledBack && !v.Chosen: // meanwhile, by hand or after a crash
				return false, fmt.Errorf("version %d was rolled back: %s", version, v.Reason)
			}
		}
		return false, nil
	}, fmt.Sprintf("version %d was chosen, and does not serve yet", version))
}

func (c *modelsRollbackCmd) Run(ctx context.Context, a *app) error {
	back, err := c.change(ctx, a, "/models/rollback")
	if err != nil || back == nil {
		return err
	}
	fmt.Fprintf(a.stdout, "version %d was rolled back\n", *back)
	return c.await(ctx, c.Timeout, func(versions []model.Status) (bool, error) {
		for _, v := range versions {
			if v.Label == model.LabelStable && v.Version != *back {
				fmt.Fprintf(a.stdout, "version %d serves\n", v.Version)
				return true, nil
			}
		}
		return false, nil
	}, fmt.Sprintf("no other version serves yet, and version %d may go on until one does", *back))
}

// await asks for the versions until done. It is an error if that takes too long: late says what is
// so then.
func (s serviceClient) await(ctx context.Context, timeout time.Duration, done func([]model.Status) (bool, error), late string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		versions, err := s.versions(ctx)
		if err != nil {
			return err
		}
		if ok, err := done(versions); ok || err != nil {
			return err
		}
		if !retry.Sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("%s: see \"inceptor models\"", late)
		}
	}
}
