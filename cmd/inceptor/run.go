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
	"inceptor/model/fallback"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/tracing"
)

type runCmd struct {
	service.Config `embed:""`
}

// Help is the long help.
func (c *runCmd) Help() string {
	return `Examples:

	inceptor run --model.dir savedmodel/inception --kafka.brokers kafka:9092
	inceptor run --config inceptor.yaml --log.level debug
	INCEPTOR_MODEL_DIR=/models/inception inceptor run --kafka.create-topics`
}

func (c *runCmd) Run(ctx context.Context, a *app) error {
	return serve(ctx, c.Config, a.log, a.level)
}

// serve runs the service with its model until ctx ends. level is the log's.
func serve(ctx context.Context, c service.Config, log *slog.Logger, level *slog.LevelVar) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := service.NewMetrics(registry)
	tracer, err := tracing.FromEnvironment(ctx, version, log)
	if err != nil {
		return err
	}
	flush, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(c.Shutdown.Timeout, giveUp) })()
	defer tracer.Close(flush)
	c.Tracer = tracer
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
	s.Version, s.LogLevel = version, level
	// ctx ends both: no version is swapped while the stream drains.
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Run(running) })
	g.Go(func() error { return ignoreEnd(ctx, s.Run(running)) })
	return errors.Join(g.Wait(), s.Close())
}

// ignoreEnd returns err, or nil if ctx has ended: the error is then only its consequence.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// A backend answers images. Its Run keeps it up to date until ctx ends.
type backend interface {
	service.Classifier
	Load(ctx context.Context) error
	Run(ctx context.Context) error
	Close()
}

// An observer can observe every kind of backend.
type observer interface {
	model.Observer
	fallback.Observer
}

func newModel(c service.Config, log *slog.Logger, o observer) (backend, error) {
	config := c.ModelConfig()
	switch config.Backend {
	case model.OnlyRemote:
		return fallback.NewServer(config, c.Fallback, log, o)
	case model.LocalThenRemote:
		return fallback.New(config, c.Fallback, c.TensorFlow.Library, log, o, o)
	}
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return nil, err
	}
	return model.New(config, log, o)
}

// A noObserver does nothing.
type noObserver struct{ model.Unobserved }

func (noObserver) CallDone(string, string, time.Duration) {}
func (noObserver) BreakerChanged(string)                  {}
func (noObserver) FellBack(bool, time.Duration)           {}

// openModel loads the newest version, once, for commands that do not watch for others.
func openModel(ctx context.Context, c service.Config, log *slog.Logger) (backend, error) {
	m, err := newModel(c, log, noObserver{})
	if err != nil {
		return nil, err
	}
	if err := m.Load(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// buildInfo is a metric with the value 1 and the versions in its labels.
func buildInfo() prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "inceptor_build_info", Help: "1, with the versions of the program, Go and TensorFlow.",
		ConstLabels: prometheus.Labels{
			"version": version, "go": runtime.Version(), "tensorflow": savedmodel.LibraryVersion(),
		},
	})
	info.Set(1)
	return info
}
