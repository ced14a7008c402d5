package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
)

type runCmd struct {
	service.Config `embed:""`
}

// Help is the long help.
func (c *runCmd) Help() string {
	return `Records are worked on side by side and answered in the order of their partition; an offset is committed only after the broker ` +
		`has acknowledged the answer. SIGTERM stops fetching, finishes what is in flight within --shutdown.timeout, commits and leaves the group.`
}

func (c *runCmd) Run(ctx context.Context, a *app) error {
	if problems := c.Validate(); len(problems) > 0 {
		return usageError{problems}
	}
	return serve(ctx, c.Config, a.log)
}

// serve runs the service with its model until ctx ends.
func serve(ctx context.Context, c service.Config, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := service.NewMetrics(registry)
	m, err := newModel(c, log, metrics)
	if err != nil {
		return err
	}
	defer m.Close()
	registry.MustRegister(buildInfo())

	s, err := service.New(c, m, metrics, registry, log)
	if err != nil {
		return err
	}
	// What serves is not swapped any more while the stream drains.
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Run(running) })
	g.Go(func() error { return ignoreEnd(ctx, s.Run(running)) })
	return errors.Join(g.Wait(), s.Close())
}

// ignoreEnd makes nothing of an error that is but the end of ctx.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// A backend answers images, and is what it is only while it runs.
type backend interface {
	service.Model
	Load(ctx context.Context) error
	Run(ctx context.Context) error
	Close()
}

// An observer observes any backend.
type observer interface {
	model.Observer
	model.FallbackObserver
}

func newModel(c service.Config, log *slog.Logger, o observer) (backend, error) {
	config := c.ModelConfig()
	switch config.Backend {
	case model.OnlyRemote:
		return model.NewServer(config, c.Fallback, log, o)
	case model.LocalThenRemote:
		return model.NewFallback(config, c.Fallback, c.TensorFlow.Library, log, o, o)
	}
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return nil, err
	}
	return model.New(config, log, o)
}

// unobserved is an observer that does nothing.
type unobserved struct{ model.Unobserved }

func (unobserved) CallDone(string, string, time.Duration) {}
func (unobserved) BreakerChanged(string)                  {}
func (unobserved) FellBack(bool, time.Duration)           {}

// openModel is for commands that need answers at once, from one version only.
func openModel(ctx context.Context, c service.Config, log *slog.Logger) (backend, error) {
	m, err := newModel(c, log, unobserved{})
	if err != nil {
		return nil, err
	}
	if err := m.Load(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// buildInfo is a metric of value 1 with the versions in its labels.
func buildInfo() prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "inceptor_build_info", Help: "1, with the versions of the program, Go and TensorFlow.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version(), "tensorflow": savedmodel.LibraryVersion()},
	})
	info.Set(1)
	return info
}
