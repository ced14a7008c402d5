package span

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A record that is not traced has no span and costs no allocation, whatever is asked of it, and
// whether or not others are traced.
func TestUntracedAllocates(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), t, 1))
	defer cancel()
	err := errors.New("x")
	work := func() {
		below, s := Start(ctx, "read")
		_, request := StartClient(below, "GET")
		if s.Recorded() || request.Recorded() || Of(below).Recorded() || below != ctx {
			t.Error("there is a span")
		}
		request.End(err)
		s.Fail(err)
		s.End(nil)
		Span{}.End(err)
	}
	off := testing.AllocsPerRun(1000, work)
	Enable()
	if on := testing.AllocsPerRun(1000, work); on > 0 || off > 0 {
		t.Errorf("%v allocations, and %v once there are traces, want none", off, on)
	}
	if _, s := Join("run", []Span{{}, Of(ctx)}); s.Recorded() {
		t.Error("a run of records that are not traced has a span")
	}
}

func BenchmarkUntraced(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	work := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, s := Start(ctx, "read")
			s.End(nil)
		}
	}
	if !Enabled() {
		b.Run("off", work)
	}
	Enable()
	b.Run("on", work)
}

// A library's spans are only below those that are recorded, and an error is a span's status.
func TestProvider(t *testing.T) {
	Enable()
	spans := tracetest.NewInMemoryExporter()
	real := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	_, none := Provider{}.Tracer("library").Start(t.Context(), "none")
	none.End()
	ctx, parent := real.Tracer("").Start(t.Context(), "parent")
	_, child := Provider{}.Tracer("library").Start(ctx, "child")
	child.End()
	_, failed := Start(ctx, "failed")
	failed.End(errors.New(strings.Repeat("x", 1<<20)))
	got := spans.GetSpans()
	if len(got) != 2 || got[0].Name != "child" || got[0].Parent.SpanID() != parent.SpanContext().SpanID() || got[0].InstrumentationScope.Name != "library" {
		t.Fatalf("got %v", got)
	}
	if s := got[1].Status; s.Code != codes.Error || len(s.Description) > 2*maxStatus {
		t.Errorf("got the status %v of %d bytes", s.Code, len(s.Description))
	}
}
