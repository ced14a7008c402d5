// Package tracing makes OpenTelemetry's spans of the records' way, as the standard OTEL_… variables
// ask for. It wraps a driver's configuration and handler, so without it records cost nothing more.
package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"inceptor/internal/span"
	"inceptor/service/stream"
)

// closeTimeout bounds how long Close waits for the collector.
const closeTimeout = 5 * time.Second

// A Tracer makes spans and sends them to a collector. Safe for concurrent use.
type Tracer struct {
	// Set once.
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	queue    *queue
	log      *slog.Logger

	mu      sync.Mutex
	sending map[stream.Partition]map[int64][]span.Span // of outputs that no broker has acknowledged, by offset of the input; guarded by mu
}

// FromEnvironment returns the Tracer that the OTEL_… variables ask for; nil: they ask for none. It
// connects to nothing yet. Close it.
func FromEnvironment(ctx context.Context, version string, log *slog.Logger) (*Tracer, error) {
	e, err := readEnvironment(os.Getenv)
	if err != nil || !e.on {
		return nil, err
	}
	// OpenTelemetry's SDK reads further variables, and tells mistakes only to these two.
	var problems bytes.Buffer
	otel.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(&problems, &slog.HandlerOptions{Level: slog.LevelError})))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { fmt.Fprintln(&problems, err) }))
	t, err := newTracer(ctx, e, version, log)
	if problems.Len() > 0 {
		err = errors.Join(err, errors.New(strings.TrimSpace(problems.String())))
	}
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("OpenTelemetry", "err", err) }))
	if err != nil {
		return nil, fmt.Errorf("traces, by the OTEL_ variables: %w", err)
	}
	log.Info("traces are exported", "endpoint", e.endpoint, "protocol", e.protocol)
	return t, nil
}

func newTracer(ctx context.Context, e environment, version string, log *slog.Logger) (*Tracer, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("inceptor"), semconv.ServiceVersion(version)),
		resource.WithHost(), resource.WithProcessPID(), resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // so that OTEL_SERVICE_NAME is the last word
	)
	if err != nil {
		return nil, err
	}
	var collector sdk.SpanExporter
	if e.protocol == overGRPC {
		collector, err = otlptracegrpc.New(ctx)
	} else {
		collector, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return nil, err
	}
	return newTracerWith(collector, e.queue, about, log), nil
}

func newTracerWith(collector sdk.SpanExporter, limit int, about *resource.Resource, log *slog.Logger) *Tracer {
	q := &queue{limit: int64(limit), log: log, count: func(string, int) {}}
	batches := sdk.NewBatchSpanProcessor(exporter{collector, q}, sdk.WithMaxQueueSize(limit))
	limits := sdk.NewSpanLimits()
	if os.Getenv(linkLimit) == "" {
		limits.LinkCountLimit = -1 // a run has a link for each record, so the batch's size bounds them
	}
	t := &Tracer{
		provider: sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithRawSpanLimits(limits), sdk.WithSpanProcessor(processor{batches, q})),
		queue:    q, log: log, sending: map[stream.Partition]map[int64][]span.Span{},
	}
	span.Enable()
	t.tracer = t.provider.Tracer(span.Scope)
	return t
}

// OnSpans sets what is called with how many spans were Exported, Failed or Dropped. Call it before
// there are spans.
func (t *Tracer) OnSpans(count func(result string, n int)) { t.queue.count = count }

// Close sends the spans that are left, until ctx ends and for closeTimeout at most. A nil Tracer
// may be closed.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	t.Revoked()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil || t.queue.waiting.Load() > 0 {
		t.log.Warn("the last spans are not exported", "spans", t.queue.waiting.Load(), "err", err)
	}
}
