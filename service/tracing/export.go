package tracing

import (
	"context"
	"log/slog"
	"sync/atomic"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// What becomes of a span.
const (
	Exported = "exported" // the collector has it
	Failed   = "failed"   // the collector did not take it
	Dropped  = "dropped"  // too many waited for the collector
)

// A queue bounds the spans that wait for the collector, and counts what becomes of each. Safe for
// concurrent use.
type queue struct {
	limit int64 // set once
	log   *slog.Logger
	count func(result string, n int) // set by Tracer.OnSpans, before there are spans

	waiting atomic.Int64
	failing atomic.Bool // the last export failed
}

// A processor takes spans that have ended. Those for which the queue has no room are dropped, so
// that a collector that is down costs no memory and holds up no record.
type processor struct {
	sdk.SpanProcessor // hands them to the exporter in batches; has room for the whole queue
	queue             *queue
}

// OnEnd implements sdk.SpanProcessor.
func (p processor) OnEnd(s sdk.ReadOnlySpan) {
	if p.queue.waiting.Add(1) > p.queue.limit {
		p.queue.waiting.Add(-1)
		p.queue.count(Dropped, 1)
		return
	}
	p.SpanProcessor.OnEnd(s)
}

// An exporter sends batches of spans to the collector.
type exporter struct {
	sdk.SpanExporter
	queue *queue
}

// ExportSpans implements sdk.SpanExporter. Its error is always nil: it is logged here, once for
// each outage.
func (e exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.queue.waiting.Add(-int64(len(spans)))
	if err != nil {
		e.queue.count(Failed, len(spans))
		if !e.queue.failing.Swap(true) {
			e.queue.log.Warn("spans not exported; records are not affected", "err", err)
		}
		return nil
	}
	e.queue.count(Exported, len(spans))
	if e.queue.failing.Swap(false) {
		e.queue.log.Info("spans are exported again")
	}
	return nil
}
