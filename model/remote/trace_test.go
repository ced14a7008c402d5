package remote

import (
	"context"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	"inceptor/internal/span"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// A call for a traced record is a span of its trace, which the server gets; baggage it does not
// get. Other calls are no spans.
func TestTracedCall(t *testing.T) {
	span.Enable()
	fake := remotetest.NewFake("inception")
	c, _ := newClient(t, testConfig(remotetest.Serve(t, fake).Addr()))
	got := make(chan metadata.MD, 2)
	fake.SetHook(func(ctx context.Context, _ *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		got <- md
		return nil, nil
	})
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans), sdk.WithSampler(sdk.AlwaysSample()))
	ctx, run := provider.Tracer("").Start(t.Context(), "run")
	for _, ctx := range []context.Context{t.Context(), ctx} {
		if _, err := c.Predict(ctx, batchOf(1)); err != nil {
			t.Fatal(err)
		}
	}
	if md := <-got; len(md.Get("traceparent")) > 0 {
		t.Errorf("a call without a trace has %v", md)
	}
	called := spans.GetSpans()
	if len(called) != 1 || called[0].Name != "tensorflow.serving.PredictionService/Predict" || called[0].Parent.SpanID() != run.SpanContext().SpanID() {
		t.Fatalf("got %v", called)
	}
	s := called[0].SpanContext
	want := "00-" + s.TraceID().String() + "-" + s.SpanID().String() + "-01"
	if md := <-got; len(md.Get("traceparent")) != 1 || md.Get("traceparent")[0] != want || len(md.Get("baggage")) > 0 {
		t.Errorf("got %v, want %s", md, want)
	}
}
