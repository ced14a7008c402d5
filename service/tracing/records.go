package tracing

import (
	"context"
	"errors"
	"strconv"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"inceptor/internal/span"
	"inceptor/service/stream"
)

var (
	errRevoked = errors.New("no broker had acknowledged it when the generation ended; its record is read again")
	errAgain   = errors.New("no broker had acknowledged it when its record was read again")
)

// A driver's records, traced. Its fields are set once.
type records struct {
	*Tracer
	group   string
	handler stream.Handler
	// senders returns the headers of a record with which its outputs begin.
	senders func([]stream.Header) []stream.Header
}

// Records wraps a driver's configuration and handler. Each call of the handler is a span below that
// of the record's sender, and each output names a span below it in its headers, which ends when the
// brokers have acknowledged it. The senders' own headers are what senders returns.
func (t *Tracer) Records(c stream.Config, h stream.Handler, senders func([]stream.Header) []stream.Header) (stream.Config, stream.Handler) {
	w := &records{t, c.Group, h, senders}
	c.Observer = observer{c.Observer, t}
	if refused := c.ReplaceRefused; refused != nil {
		c.ReplaceRefused = func(source, output stream.Record, reason error) (stream.Record, error) {
			return w.replace(source, output, reason, refused)
		}
	}
	if failed := c.OnFailure; failed != nil {
		c.OnFailure = func(ctx context.Context, r stream.Record, since time.Duration, err error) ([]stream.Record, bool) {
			outputs, ok := failed(ctx, w.plain(r), since, err)
			if ok {
				ctx, s := w.process(ctx, r)
				w.send(ctx, w.plain(r), outputs)
				s.End(err)
			}
			return outputs, ok
		}
	}
	return c, w.handle
}

// handle is a stream.Handler.
func (w *records) handle(ctx context.Context, r stream.Record) ([]stream.Record, error) {
	ctx, s := w.process(ctx, r)
	r = w.plain(r)
	outputs, err := w.handler(ctx, r)
	if err == nil {
		w.send(ctx, r, outputs)
	}
	s.End(err)
	return outputs, err
}

// plain returns the record with its sender's own headers, and without the trace context, which is
// that of the sender.
func (w *records) plain(r stream.Record) stream.Record {
	r.Headers = withoutContext(w.senders(r.Headers))
	return r
}

// process starts the span of a record that is handled, below that of its sender.
func (w *records) process(ctx context.Context, r stream.Record) (context.Context, span.Span) {
	ctx, s := w.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, extract(r.Headers)), "process "+r.Topic, trace.WithSpanKind(trace.SpanKindConsumer))
	if s.IsRecording() {
		s.SetAttributes(
			semconv.MessagingSystemKafka, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
			semconv.MessagingDestinationName(r.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(r.Partition)),
			semconv.MessagingKafkaOffset(int(r.Offset)), semconv.MessagingConsumerGroupName(w.group),
			semconv.MessagingMessageBodySize(len(r.Value)), semconv.MessagingKafkaMessageTombstone(r.Value == nil),
		)
	}
	return ctx, span.Of(ctx)
}

// send starts the spans of a record's outputs, and writes them into their headers.
func (w *records) send(ctx context.Context, source stream.Record, outputs []stream.Record) {
	spans := make([]span.Span, 0, len(outputs))
	for i := range outputs {
		out := &outputs[i]
		one, s := w.start(ctx, *out)
		out.Headers = inject(one, out.Headers, min(len(source.Headers), len(out.Headers)))
		if s.Recorded() {
			spans = append(spans, s)
		}
	}
	w.keep(ctx, source, spans, errAgain)
}

// start starts the span of an output.
func (t *Tracer) start(ctx context.Context, out stream.Record) (context.Context, span.Span) {
	ctx, s := t.tracer.Start(ctx, "send "+out.Topic, trace.WithSpanKind(trace.SpanKindProducer))
	if s.IsRecording() {
		s.SetAttributes(
			semconv.MessagingSystemKafka, semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(out.Topic), semconv.MessagingMessageBodySize(len(out.Value)),
		)
	}
	return ctx, span.Of(ctx)
}

// keep keeps the spans of a record's outputs until they are acknowledged. Those that it had before
// end with that error. If ctx has ended, so has the record's generation: nothing acknowledges
// these, and the record may have been read again. Then they end at once.
func (t *Tracer) keep(ctx context.Context, source stream.Record, spans []span.Span, before error) {
	t.mu.Lock()
	of := t.sending[source.Source()]
	over := of[source.Offset]
	switch {
	case ctx.Err() != nil:
		over, before = spans, errRevoked
	case len(spans) == 0:
		delete(of, source.Offset)
	case of == nil:
		t.sending[source.Source()] = map[int64][]span.Span{source.Offset: spans}
	default:
		of[source.Offset] = spans
	}
	t.mu.Unlock()
	end(over, before)
}

// replace is stream.Config's ReplaceRefused. What takes the place of an output is sent below it.
func (w *records) replace(source, output stream.Record, reason error,
	next func(source, output stream.Record, reason error) (stream.Record, error),
) (stream.Record, error) {
	source = w.plain(source)
	mended, err := next(source, output, reason)
	refused := extract(output.Headers)
	if err != nil || mended.Topic == output.Topic || !refused.IsValid() {
		return mended, err
	}
	// This context does not end: no driver publishes after the end of a generation.
	ctx, s := w.start(trace.ContextWithRemoteSpanContext(context.Background(), refused), mended)
	mended.Headers = inject(ctx, mended.Headers, min(len(source.Headers), len(mended.Headers)))
	w.keep(ctx, source, []span.Span{s}, reason)
	return mended, nil
}

// Publish wraps a function that publishes a record on the side: below the span of its context.
func (t *Tracer) Publish(publish func(context.Context, stream.Record) error) func(context.Context, stream.Record) error {
	return func(ctx context.Context, r stream.Record) error {
		if !trace.SpanContextFromContext(ctx).IsValid() {
			return publish(ctx, r)
		}
		ctx, s := t.start(ctx, r)
		r.Headers = inject(ctx, r.Headers, len(r.Headers))
		err := publish(ctx, r)
		s.End(err)
		return err
	}
}

// Delivered ends the spans of acknowledged outputs: see stream.Observer.
func (t *Tracer) Delivered(partition stream.Partition, first, last int64) {
	for _, spans := range t.take(partition, first, last) {
		end(spans, nil)
	}
}

// take returns the spans of a partition's outputs from offset first to last, and forgets them. It
// looks at those offsets or at all spans, whichever are fewer.
func (t *Tracer) take(partition stream.Partition, first, last int64) (taken [][]span.Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.sending[partition]
	take := func(offset int64, spans []span.Span) {
		taken = append(taken, spans)
		delete(of, offset)
	}
	if last-first < int64(len(of)) {
		for offset := first; offset <= last; offset++ {
			if spans := of[offset]; spans != nil {
				take(offset, spans)
			}
		}
		return taken
	}
	for offset, spans := range of {
		if first <= offset && offset <= last {
			take(offset, spans)
		}
	}
	return taken
}

// Revoked ends the spans of all other outputs: see stream.Observer.
func (t *Tracer) Revoked() {
	t.mu.Lock()
	sending := t.sending
	t.sending = map[stream.Partition]map[int64][]span.Span{}
	t.mu.Unlock()
	for _, of := range sending {
		for _, spans := range of {
			end(spans, errRevoked)
		}
	}
}

func end(spans []span.Span, err error) {
	for _, s := range spans {
		s.End(err)
	}
}

// An observer tells a Tracer too.
type observer struct {
	stream.Observer
	tracer *Tracer
}

// Delivered implements stream.Observer.
func (o observer) Delivered(partition stream.Partition, first, last int64) {
	o.tracer.Delivered(partition, first, last)
	o.Observer.Delivered(partition, first, last)
}

// Revoked implements stream.Observer.
func (o observer) Revoked() {
	o.tracer.Revoked()
	o.Observer.Revoked()
}
