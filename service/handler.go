package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"inceptor/internal/clip"
	"inceptor/internal/span"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/internal/recent"
	"inceptor/service/internal/thumbnail"
	"inceptor/service/page"
	"inceptor/service/stream"
)

// A handler answers one record: it reads the image that the record is, holds or
// names, asks the model, and makes the answer or a dead letter. All fields are
// set once. Safe for concurrent use.
type handler struct {
	input      *input.Reader
	classifier Classifier
	queue      *fairQueue
	output     string // a topic
	deadLetter string // a topic
	tombstones string // Kafka.Tombstones
	metrics    *recordMetrics
	recent     *recent.Records
	thumbnails *thumbnail.Maker // nil: there are none
	comparer   *comparer        // nil: there is never a second version
	journal    *journal         // nil: there is none
	letters    *letterLog
	log        *slog.Logger
	lines      *recordLog  // nil: log.records is off
	stop       func(error) // ends the service, with this error
}

// handle is a stream.Handler. Its error blames the model, not the record, which
// is tried again.
func (h *handler) handle(ctx context.Context, r stream.Record) ([]stream.Record, error) {
	r.Headers = sendersHeaders(r.Headers)
	if r.Value == nil && (h.tombstones == tombstonesForward || h.tombstones == tombstonesDrop) {
		return h.tombstone(r), nil
	}
	answer, err := h.answer(ctx, r)
	reason, bad := reasonOf(err)
	if !bad {
		return answer, err
	}
	if s := span.Of(ctx); s.Recorded() {
		s.Set(semconv.ErrorTypeKey.String(reason))
		s.Fail(err)
	}
	first := h.letterMade(r, reason, err)
	if panicked := (*infer.PanicError)(nil); first && errors.As(err, &panicked) {
		h.log.Error("record caused a panic and becomes a dead letter; please report this",
			"record", r.ID(), "panic", panicked.Value, "stack", string(panicked.Stack))
	}
	letter := deadLetter(r, h.deadLetter, reason, err)
	h.recent.DeadLetter(r, reason, err, letter)
	return []stream.Record{letter}, nil
}

// letterMade counts a dead letter and logs it, and tells whether it is the first one of its reason
// in a while.
func (h *handler) letterMade(r stream.Record, reason string, err error) (first bool) {
	h.metrics.deadLetter(reason)
	h.lines.deadLetter(r, reason, err)
	return h.letters.made(r, reason, err)
}

// tombstone returns what is published for a record without a value: with
// kafka.tombstones=forward a tombstone in the output, with drop nothing.
func (h *handler) tombstone(r stream.Record) []stream.Record {
	if h.tombstones == tombstonesDrop {
		h.metrics.tombstone(page.StateDropped)
		h.recent.Tombstone(r, page.StateDropped)
		return nil
	}
	h.metrics.tombstone(page.StateForwarded)
	h.recent.Tombstone(r, page.StateForwarded)
	return []stream.Record{{
		Topic: h.output, Key: r.Key, Time: r.Time,
		Headers: append(slices.Clone(r.Headers), header(headerID, r.ID())),
	}}
}

// answer returns the answer to a record. A panic becomes an error.
func (h *handler) answer(ctx context.Context, r stream.Record) (answer []stream.Record, err error) {
	defer infer.Recovered(&err)
	start := time.Now()
	reading, step := span.Start(ctx, "read")
	image, err := h.input.Read(reading, r.Value)
	step.End(err)
	read := time.Since(start)
	defer image.Release()
	if err != nil {
		return nil, err
	}
	p, err := h.classify(ctx, r, image.Bytes)
	if err != nil {
		return nil, err
	}
	h.metrics.answer(read, p)
	if h.comparer != nil {
		h.comparer.offer(ctx, r, image, p)
	}
	answer = answerRecord(r, image, p, h.output)
	pictured := h.thumbnails.Offer(r, image.Bytes, p.Image)
	h.recent.Answered(r, read, p, answer[0], pictured)
	h.lines.answered(r, image, p)
	if s := span.Of(ctx); s.Recorded() {
		describe(s, image, p)
	}
	return answer, nil
}

// describe adds to a record's span how it was answered.
func describe(s span.Span, image input.Image, p infer.Prediction) {
	s.Set(
		attribute.String("inceptor.source", clip.Text(image.Source, maxErrorBytes)),
		attribute.String("inceptor.model", p.Model), attribute.Int64("inceptor.version", p.Version),
		attribute.String("inceptor.version_label", p.Label), attribute.String("inceptor.precision", p.Precision),
		attribute.String("inceptor.backend", p.Backend),
	)
	if p.Reason != "" {
		s.Set(attribute.String("inceptor.fallback_reason", clip.Text(p.Reason, maxErrorBytes)))
	}
	if p.Image.Format != "" {
		s.Set(
			attribute.String("inceptor.image.format", p.Image.Format),
			attribute.Int("inceptor.image.width", p.Image.Width), attribute.Int("inceptor.image.height", p.Image.Height),
		)
	}
}

// classify asks the model, whose native code may crash the process: hence the
// journal.
func (h *handler) classify(ctx context.Context, r stream.Record, image []byte) (infer.Prediction, error) {
	waited, err := h.queue.enter(ctx, r.Source())
	if err != nil {
		return infer.Prediction{}, err
	}
	defer h.queue.leave()
	work, err := h.journal.begin(r)
	if err != nil {
		return infer.Prediction{}, err
	}
	result := handled // also after a panic
	defer func() { work.end(result) }()
	p, err := h.classifier.Classify(ctx, routingKey(r), image)
	if err != nil {
		result = h.resultOf(err)
	}
	p.Timings.Wait += waited
	return p, err
}

// resultOf returns what an error of the model means for the journal.
func (h *handler) resultOf(err error) result {
	if _, bad := reasonOf(err); bad {
		return handled
	}
	overdue := (*infer.OverdueError)(nil)
	if errors.As(err, &overdue) && !h.journal.isUnproven(overdue.Version) { // an unproven version is itself to blame
		return runOverdue
	}
	return notHandled
}

// routingKey decides which version answers while there are two. Records of one
// key get the same version; so does a record without a key that is read again.
func routingKey(r stream.Record) []byte {
	if len(r.Key) > 0 {
		return r.Key
	}
	return r.AppendID(nil)
}

// reasonOf tells whether an error blames the record, and the dead letter's reason.
func reasonOf(err error) (reason string, bad bool) {
	if err == nil { // the usual case; errors.As allocates
		return "", false
	}
	var in *input.Error
	var image *infer.InputError
	switch {
	case errors.As(err, &in):
		return string(in.Reason), true
	case errors.As(err, &image):
		return image.Reason, true
	case errors.Is(err, errCrashed):
		return ReasonCrashed, true
	}
	return "", false
}
