package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"

	"inceptor/model"
	"inceptor/model/fallback"
	"inceptor/model/infer"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/tracing"
)

type checkCmd struct {
	JSON bool `name:"json" help:"Print one JSON object a line: status (ok, warn, fail or skip), thing and text."`

	service.Config `embed:""`
}

// Help is the long help.
func (*checkCmd) Help() string {
	return `Prints one line for each part: ok; warn, if run would work but not as you may expect; FAIL, with ` +
		`what to do; or skip, if it was not tried because of another line. Every part is tried, even after one ` +
		`has failed. The exit status is 1 if a line says FAIL. It creates no topic, joins no group and leaves ` +
		`no file behind. Example:

	inceptor check --config inceptor.yaml`
}

func (c *checkCmd) Run(ctx context.Context, a *app) error {
	log := slog.New(slog.DiscardHandler) // the lines say it all
	if a.log.Enabled(ctx, slog.LevelDebug) {
		log = a.log
	}
	r := &checkReport{w: a.stdout, json: c.JSON}
	r.print(service.Finding{Status: service.OK, Thing: "configuration", Text: "valid"})
	for _, w := range a.given.Warnings {
		r.warn("configuration", w.String())
	}
	if tracer, err := tracing.FromEnvironment(ctx, version, log); tracer != nil || err != nil {
		r.result("traces", err, "on, by the OTEL_ variables; the collector is not tried")
		tracer.Close(ctx)
	}
	r.print(service.CheckMachine(c.Config)...)
	r.print(service.CheckKafka(ctx, c.Config, log)...) // before the model, which takes longer
	serving := int64(remote.NoVersion)
	if c.Model.Backend != model.OnlyRemote {
		serving = c.checkLocal(ctx, log, r)
	}
	if c.Model.AsksServer() {
		answered, assumed, err := c.checkServer(ctx, log, serving)
		r.result("model server "+c.Fallback.Address, err, answered.String()+", classifies")
		r.warn("model server "+c.Fallback.Address, assumed)
	}
	switch {
	case r.err != nil:
		return r.err
	case r.failed > 0:
		return fmt.Errorf("the check failed: %d of %d lines say FAIL", r.failed, r.lines)
	}
	return nil
}

// A checkReport prints one line for each thing that is checked.
type checkReport struct {
	w    io.Writer
	json bool

	lines, failed int
	err           error // of writing
}

func (r *checkReport) print(findings ...service.Finding) {
	for _, f := range findings {
		f.Text = oneLine(f.Text)
		r.lines++
		word := string(f.Status)
		if f.Status == service.Fail {
			r.failed++
			word = "FAIL"
		}
		var err error
		if r.json {
			err = json.NewEncoder(r.w).Encode(f)
		} else {
			_, err = fmt.Fprintf(r.w, "%-5s %s: %s\n", word, printable(f.Thing), printable(f.Text))
		}
		r.err = errors.Join(r.err, err)
	}
}

// oneLine joins the lines of a longer error.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// result prints the error of a thing, or the detail if there is none.
func (r *checkReport) result(thing string, err error, detail string) {
	if err != nil {
		r.print(service.Failed(thing, err))
		return
	}
	r.print(service.Finding{Status: service.OK, Thing: thing, Text: detail})
}

// warn prints a warning about a thing; an empty text is none.
func (r *checkReport) warn(thing, text string) {
	if text != "" {
		r.print(service.Finding{Status: service.Warn, Thing: thing, Text: text})
	}
}

// checkLocal checks the library and the model, and returns the version that serves.
func (c *checkCmd) checkLocal(ctx context.Context, log *slog.Logger, r *checkReport) (version int64) {
	version = remote.NoVersion
	state := model.CheckState(c.Model)
	r.print(stateFinding(state, c.Model.State != ""))
	err := savedmodel.OpenLibrary(c.TensorFlow.Library)
	r.result("TensorFlow", err, savedmodel.LibraryVersion()+" at "+savedmodel.LibraryPath())
	untried := ""
	switch {
	case err != nil:
		untried = "there is no TensorFlow library"
	case state.Read != nil:
		untried = "the state file cannot be read, so no version would be taken"
	}
	if untried != "" {
		r.print(service.Skipped("model", untried))
		return version
	}
	serving, assumed, err := c.checkModel(ctx, log)
	r.result("model", err, serving.String())
	r.warn("model", assumed)
	switch {
	case err != nil && c.Model.Optimizes():
		r.print(service.Skipped("optimized graph", "no version can be loaded"))
		return version
	case err != nil:
		return version
	case !c.Model.Optimizes():
		return serving.Version
	}
	measured, err := model.CompareGraphs(ctx, c.ModelConfig(), serving.Version)
	r.result("optimized graph", err, comparison(measured))
	return serving.Version
}

// stateFinding says what a check of the state file means. Without model.state it is only a warning
// that the file cannot be changed: the model's directory is often meant to be read only.
func stateFinding(s model.StateCheck, configured bool) service.Finding {
	const thing = "model.state"
	advice := "name a file in a folder that can be written in model.state"
	var call *fs.PathError
	err := s.Write
	if errors.As(err, &call) {
		err = call.Err
	}
	switch {
	case s.Read != nil:
		return service.Failed(thing, s.Read)
	case err == nil:
		return service.Finding{Status: service.OK, Thing: thing, Text: s.Path + " can be written"}
	case errors.Is(err, syscall.ENOSPC):
		advice = "free some space there, or " + advice
	case errors.Is(err, fs.ErrNotExist):
		advice = "make the folder, or " + advice
	}
	if !configured {
		text := fmt.Sprintf("%s: %v: what \"inceptor models\" changes would be forgotten at a restart; %s", s.Path, err, advice)
		return service.Finding{Status: service.Warn, Thing: thing, Text: text}
	}
	return service.Failed(thing, fmt.Errorf("%s: %w: %s", s.Path, err, advice))
}

// checkModel returns the version that serves, and what is assumed of its preprocessing.
func (c *checkCmd) checkModel(ctx context.Context, log *slog.Logger) (infer.Info, string, error) {
	local := c.Config
	local.Model.Backend = model.OnlyLocal
	m, err := openModel(ctx, local, log)
	if err != nil {
		return infer.Info{}, "", err
	}
	defer m.Close()
	serving, err := m.Serving()
	assumed := ""
	if versions, ok := m.(service.VersionController); ok {
		for _, v := range versions.Versions() {
			if v.Version == serving.Version {
				assumed = v.Assumed
			}
		}
	}
	return serving, assumed, err
}

// comparison says how an optimized graph compares with the original one.
func comparison(m model.Measurement) string {
	if m.WhyNot != "" {
		return m.WhyNot
	}
	return fmt.Sprintf("%s, %s, scores of %s differ from the original graph's by at most %.1g",
		m.Kernels, m.Precision, scoresOf(m), m.Differs)
}

// checkServer returns which version has answered, and what is assumed of its preprocessing.
func (c *checkCmd) checkServer(ctx context.Context, log *slog.Logger, version int64) (infer.Info, string, error) {
	server, err := fallback.NewServer(c.ModelConfig(), c.Fallback, log, noObserver{})
	if err != nil {
		return infer.Info{}, "", err
	}
	defer server.Close()
	answered, err := server.Check(ctx, version)
	return answered, server.Assumed(), err
}
