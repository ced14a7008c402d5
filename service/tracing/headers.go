package tracing

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"inceptor/service/stream"
)

// The headers of W3C's trace context. Any producer can write them.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"

	// A longer one is ignored. The present version of traceparent has 55 bytes.
	maxTraceparent = 128
	maxTracestate  = 4096
)

// A carrier reads the trace context from a record's headers, or collects that of another record.
type carrier struct{ headers []stream.Header }

// Get implements propagation.TextMapCarrier. The first header of a key counts.
func (c carrier) Get(key string) string {
	for _, h := range c.headers {
		if h.Key == key {
			if len(h.Value) > maxTraceparent && key == traceparent || len(h.Value) > maxTracestate {
				return ""
			}
			return string(h.Value)
		}
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(key, value string) {
	c.headers = append(c.headers, stream.Header{Key: key, Value: []byte(value)})
}

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() []string { return []string{traceparent, tracestate} }

// extract returns the span that a record's headers name; invalid: they name none.
func extract(headers []stream.Header) trace.SpanContext {
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &carrier{headers}))
}

// inject inserts the headers that name the span of ctx, at an index. It changes no array that
// others may share.
func inject(ctx context.Context, headers []stream.Header, at int) []stream.Header {
	c := carrier{slices.Grow(slices.Clip(headers[:at:at]), len(headers)-at+2)}
	propagation.TraceContext{}.Inject(ctx, &c)
	return append(c.headers, headers[at:]...)
}

// withoutContext returns the headers that do not name a span.
func withoutContext(headers []stream.Header) []stream.Header {
	names := func(h stream.Header) bool { return h.Key == traceparent || h.Key == tracestate }
	if !slices.ContainsFunc(headers, names) {
		return headers
	}
	return slices.DeleteFunc(slices.Clone(headers), names)
}
