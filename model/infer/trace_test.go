package infer

import (
	"context"
	"slices"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"inceptor/internal/span"
)

// plain is a batchFunc that has no use for the trace.
func plain(run func([]item) (batchResult, error)) batchFunc {
	return func(_ context.Context, batch []item) (batchResult, error) { return run(batch) }
}

// A run is part of the trace of its first traced record, and linked to the steps of all of them;
// those of other traces are linked to it. A record that is not traced does not matter.
func TestRunIsLinkedToItsRecords(t *testing.T) {
	span.Enable()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans), sdk.WithSampler(sdk.AlwaysSample()))
	var within trace.SpanContext
	b := &batcher{observer: unobservedRuns{}, run: func(ctx context.Context, batch []item) (batchResult, error) {
		within = trace.SpanContextFromContext(ctx)
		return batchResult{scores: make([][]float32, len(batch))}, nil
	}}
	batch := make([]item, 4)
	for i := range batch {
		batch[i].result = make(chan result, 1)
	}
	for _, i := range []int{1, 3} {
		ctx, root := provider.Tracer("").Start(t.Context(), "process")
		_, batch[i].step = span.Start(ctx, "batch")
		root.End()
	}
	b.answer(batch, batch)
	for _, it := range batch {
		it.step.End(nil)
	}
	steps, run := map[trace.TraceID]tracetest.SpanStub{}, tracetest.SpanStub{}
	for _, s := range spans.GetSpans() {
		switch s.Name {
		case "batch":
			steps[s.SpanContext.TraceID()] = s
		case "run":
			run = s
		}
	}
	if len(steps) != 2 || !run.SpanContext.Equal(within) {
		t.Fatalf("got %d batches, and the run had %v in its context, want %v", len(steps), within, run.SpanContext)
	}
	first := steps[run.SpanContext.TraceID()]
	if run.Parent.SpanID() != first.SpanContext.SpanID() || len(first.Links) != 0 {
		t.Errorf("the run is below %v, want %v, which has %d links, want none", run.Parent.SpanID(), first.SpanContext.SpanID(), len(first.Links))
	}
	delete(steps, run.SpanContext.TraceID())
	linked := func(s tracetest.SpanStub, to trace.SpanContext) bool {
		return slices.ContainsFunc(s.Links, func(l sdk.Link) bool { return l.SpanContext.Equal(to) })
	}
	for _, other := range steps {
		if len(run.Links) != 2 || !linked(run, first.SpanContext) || !linked(run, other.SpanContext) || !linked(other, run.SpanContext) {
			t.Errorf("the run has the links %v, the other record %v", run.Links, other.Links)
		}
	}
}
