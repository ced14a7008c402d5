// Package span records the steps of a record's way in the trace that its context belongs to. Where
// no trace is recorded, which is the usual case, nothing is allocated.
package span

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"

	"inceptor/internal/clip"
)

// Scope names the program as the one that makes the spans.
const Scope = "inceptor"

var enabled atomic.Bool

// Enable lets spans be made, for the rest of the process. Until then a step costs one look at a
// variable; to look for a span in its context takes several times as long.
func Enable() { enabled.Store(true) }

// Enabled tells whether spans may be made.
func Enabled() bool { return enabled.Load() }

// A Span is one step. The methods of the zero value do nothing. Safe for concurrent use.
type Span struct{ span trace.Span }

// Of returns the span that a context belongs to.
func Of(ctx context.Context) Span {
	if !Enabled() {
		return Span{}
	}
	return Span{trace.SpanFromContext(ctx)}
}

// Start starts a step below the span of ctx, if that is recorded, and else returns that span. End
// what it returns.
func Start(ctx context.Context, name string) (context.Context, Span) {
	return start(ctx, name, trace.SpanKindInternal)
}

// StartClient is Start for a request to another process.
func StartClient(ctx context.Context, name string) (context.Context, Span) {
	return start(ctx, name, trace.SpanKindClient)
}

func start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	parent := Of(ctx)
	if !parent.Recorded() {
		return ctx, parent
	}
	ctx, s := parent.span.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{s}
}

// Join starts one step that several spans share. It is below the first of them that is recorded,
// and linked to each that is; the spans of other traces are linked to it.
func Join(name string, of []Span) (context.Context, Span) {
	ctx := context.Background()
	var parent trace.Span
	var links []trace.Link
	for _, s := range of {
		if !s.Recorded() {
			continue
		}
		if parent == nil {
			parent = s.span
		}
		links = append(links, trace.Link{SpanContext: s.span.SpanContext()})
	}
	if parent == nil {
		return ctx, Span{}
	}
	ctx, joint := parent.TracerProvider().Tracer(Scope).Start(trace.ContextWithSpan(ctx, parent), name, trace.WithLinks(links...))
	for _, s := range of {
		if s.Recorded() && s.span.SpanContext().TraceID() != parent.SpanContext().TraceID() {
			s.span.AddLink(trace.Link{SpanContext: joint.SpanContext()})
		}
	}
	return ctx, Span{joint}
}

// Recorded tells whether the span is recorded, and has not ended.
func (s Span) Recorded() bool { return s.span != nil && s.span.IsRecording() }

// Set adds attributes. Ask Recorded first: making them allocates.
func (s Span) Set(attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.SetAttributes(attributes...)
	}
}

// Into returns a context that belongs to the span.
func (s Span) Into(ctx context.Context) context.Context {
	if s.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, s.span)
}

// End ends the span; an error is its status.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	s.Fail(err)
	s.span.End()
}

// maxStatus bounds the text of an error: it may quote what a record holds.
const maxStatus = 1024

// Fail makes an error the span's status. Nil is none.
func (s Span) Fail(err error) {
	if err != nil && s.Recorded() {
		s.span.SetStatus(codes.Error, clip.Text(err.Error(), maxStatus))
	}
}

// A Provider is for libraries that make spans themselves. It starts one only below a span that is
// recorded.
type Provider struct{ embedded.TracerProvider }

// Tracer implements trace.TracerProvider.
func (Provider) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return tracer{name: name, options: options}
}

type tracer struct {
	embedded.Tracer
	name    string
	options []trace.TracerOption
}

// Start implements trace.Tracer.
func (t tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(t.name, t.options...).Start(ctx, name, options...)
}
