package tracing

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"inceptor/internal/span"
	"inceptor/service/stream"
)

// newTestTracer returns a tracer, and what gives its spans when it is closed.
func newTestTracer(t *testing.T) (*Tracer, func() tracetest.SpanStubs) {
	t.Helper()
	collector := tracetest.NewInMemoryExporter()
	tracer := newTracerWith(kept{collector}, defaultQueue, resource.Empty(), slog.New(slog.DiscardHandler))
	return tracer, func() tracetest.SpanStubs {
		tracer.Close(context.Background())
		return collector.GetSpans()
	}
}

// kept is an exporter whose spans outlast its end.
type kept struct{ *tracetest.InMemoryExporter }

func (kept) Shutdown(context.Context) error { return nil }

var _ sdk.SpanExporter = kept{}

func asIs(h []stream.Header) []stream.Header { return h }

// waiting counts the outputs whose spans have not ended.
func (t *Tracer) waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, of := range t.sending {
		n += len(of)
	}
	return n
}

// A handler that succeeds after its generation has ended, when the record was answered again, ends
// its own spans, and not those of the new attempt. So does the answer to a record that is given up.
func TestLateHandler(t *testing.T) {
	tracer, spans := newTestTracer(t)
	r := stream.Record{Topic: "in", Offset: 7}
	first, end := context.WithCancel(t.Context())
	var config stream.Config
	var handle stream.Handler
	answer := []stream.Record{{Topic: "out"}}
	config, handle = tracer.Records(stream.Config{
		Observer: stream.Unobserved{},
		OnFailure: func(context.Context, stream.Record, time.Duration, error) ([]stream.Record, bool) {
			return slices.Clone(answer), true
		},
	}, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if ctx.Err() == nil && first.Err() == nil { // the first attempt
			end()
			config.Observer.Revoked()
			if _, err := handle(t.Context(), r); err != nil {
				t.Error(err)
			}
		}
		return slices.Clone(answer), nil
	}, asIs)
	if _, err := handle(first, r); err != nil {
		t.Fatal(err)
	}
	config.OnFailure(first, r, time.Hour, errors.New("no version is serving"))
	if n := tracer.waiting(); n != 1 {
		t.Errorf("the spans of %d records wait, want those of the new attempt", n)
	}
	config.Observer.Delivered(r.Source(), 7, 7)
	if n := tracer.waiting(); n != 0 {
		t.Errorf("the spans of %d records wait, want none", n)
	}
	ended := map[string]int{}
	for _, s := range spans() {
		if s.Name == "send out" {
			ended[s.Status.Description]++
		}
	}
	if want := map[string]int{"": 1, errRevoked.Error(): 2}; !maps.Equal(ended, want) {
		t.Errorf("got %v, want %v", ended, want)
	}
}

// Delivered ends the spans of its offsets, and no others, whether its offsets are fewer than the
// records that wait or more.
func TestDelivered(t *testing.T) {
	tracer, spans := newTestTracer(t)
	for offset := int64(0); offset < 100; offset += 10 { // the log is compacted
		for _, partition := range []int{0, 1} {
			r := stream.Record{Topic: "in", Partition: partition, Offset: offset}
			ctx, _ := tracer.tracer.Start(t.Context(), "send")
			tracer.keep(t.Context(), r, []span.Span{span.Of(ctx)}, errAgain)
		}
	}
	for i, test := range []struct {
		first, last int64
		left        int
	}{{10, 10, 19}, {11, 19, 19}, {15, 25, 18}, {20, 20, 18}, {0, 1 << 60, 10}, {0, 0, 10}} {
		tracer.Delivered(stream.Partition{Topic: "in"}, test.first, test.last)
		if n := tracer.waiting(); n != test.left {
			t.Errorf("%d: %d wait, want %d", i, n, test.left)
		}
	}
	failed := 0
	for _, s := range spans() {
		if s.Status.Description != "" {
			failed++
		}
	}
	if failed != 10 {
		t.Errorf("%d have failed, want those of partition 1", failed)
	}
}
