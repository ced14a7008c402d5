package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"inceptor/model"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// A Classifier answers one encoded image, or what else the model is for; those
// of one key by the same version. A *model.InputError blames the image; any
// other error may pass. Safe for concurrent use.
type Classifier interface {
	Classify(ctx context.Context, key, image []byte) (model.Prediction, error)
}

// A handler is the way of one record: read what it holds or names, ask the
// model, answer.
type handler struct {
	input      *input.Reader
	classifier Classifier
	turns      *turns
	output     string // topics
	deadLetter string
	tombstones string // Kafka.Tombstones
	metrics    *Metrics
	recent     *recent
	comparer   *comparer // nil: there is never a second version
	journal    *journal
	log        *slog.Logger
	stop       func(error) // ends the service, with this error
}

// handle is a stream.Handler. Its error means that the model, not the record,
// is in trouble.
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
	if panicked := (*model.PanicError)(nil); errors.As(err, &panicked) {
		h.log.Error("a record made the program panic, and becomes a dead letter: please report this",
			"record", recordID(r), "panic", panicked.Value, "stack", string(panicked.Stack))
	}
	h.metrics.deadLetter(reason)
	h.recent.deadLetter(r, reason, err)
	return []stream.Record{deadLetter(r, h.deadLetter, reason, err)}, nil
}

// tombstone is what is published for a record without a value that is no dead
// letter: with kafka.tombstones=forward one in the output, with drop nothing.
func (h *handler) tombstone(r stream.Record) []stream.Record {
	if h.tombstones == tombstonesDrop {
		h.metrics.tombstone(dropped)
		h.recent.tombstone(r, dropped)
		return nil
	}
	h.metrics.tombstone(forwarded)
	h.recent.tombstone(r, forwarded)
	return []stream.Record{{
		Topic: h.output, Key: r.Key, Time: r.Time,
		Headers: append(slices.Clone(r.Headers), header(headerID, recordID(r))),
	}}
}

// answer is handle without what becomes of an error. A panic is one.
func (h *handler) answer(ctx context.Context, r stream.Record) (answer []stream.Record, err error) {
	defer model.Recovered(&err)
	start := time.Now()
	image, err := h.input.Read(ctx, r.Value)
	read := time.Since(start)
	defer image.Release()
	if err != nil {
		return nil, err
	}
	p, err := h.classify(ctx, r, image.Bytes)
	if err != nil {
		return nil, err
	}
	h.metrics.answered(read, p)
	if h.comparer != nil {
		h.comparer.offer(r, image, p)
	}
	h.recent.answered(r, p)
	return answerRecord(r, image, p, h.output), nil
}

// classify is the way through native code, which may crash the process.
func (h *handler) classify(ctx context.Context, r stream.Record, image []byte) (model.Prediction, error) {
	waited, err := h.turns.enter(ctx, r.Source())
	if err != nil {
		return model.Prediction{}, err
	}
	defer h.turns.leave()
	work, err := h.journal.begin(r)
	if err != nil {
		return model.Prediction{}, err
	}
	came := workedOn // also if it panics
	defer func() { work.end(came) }()
	p, err := h.classifier.Classify(ctx, routingKey(r), image)
	if err != nil {
		came = h.outcomeOf(err)
	}
	p.Timings.Wait += waited
	return p, err
}

// outcomeOf is what an error means for the journal.
func (h *handler) outcomeOf(err error) outcome {
	if _, bad := reasonOf(err); bad {
		return workedOn
	}
	late := (*model.OverdueError)(nil)
	if errors.As(err, &late) && !h.journal.tries(late.Version) { // else the version is to blame
		return runOverdue
	}
	return notWorkedOn
}

// routingKey decides which version answers while there are two: that of the
// key, or, without one, of the record, the same for a repeat of it.
func routingKey(r stream.Record) []byte {
	if len(r.Key) > 0 {
		return r.Key
	}
	return appendRecordID(nil, r)
}

// reasonOf tells whether an error blames the record, and by which word.
func reasonOf(err error) (reason string, bad bool) {
	if err == nil { // mostly, and what follows allocates
		return "", false
	}
	var in *input.Error
	var image *model.InputError
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
