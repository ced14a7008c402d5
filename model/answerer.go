package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"inceptor/model/pixels"
)

// An answerer is the way of a record's content through a model, wherever that
// runs. Safe for concurrent use.
type answerer struct {
	info      Info
	backend   string // BackendLocal or BackendRemote
	precision string // that the version runs in; empty: it is not known
	content   Content
	scores    bool   // the version has some, not arrays alone
	output    string // key of the scores; empty: there are none, or an answer has them as an array
	values    bool   // an answer has the scores as they are, if nothing names their classes
	labels    []string
	topK      int

	maxPixels int64
	formats   []string                                                          // of images that it takes; nil: all
	decoders  []string                                                          // in the model's graph, which take them
	decode    func(ctx context.Context, content []byte, h Header) (item, error) // nil: the model takes it as it is
	perPixel  int64                                                             // bytes that decode takes of a pixel; 0: what TensorFlow does
	decoding  *decoding                                                         // shared by the versions of a model
	batcher   *batcher

	pixels     *Preprocessing // nil: the model takes other things than pixels
	assumption string         // what of it nothing says, and what to write; empty: all is known
}

// note notes what of the preprocessing is assumed, and warns of it. The version's
// directory is dir; empty: there is none.
func (a *answerer) note(dir string, log *slog.Logger) {
	if a.pixels == nil {
		return
	}
	if a.assumption = a.pixels.note(dir); a.assumption != "" {
		log.Warn("preprocessing is assumed: scores are wrong if the model takes something else",
			"model", a.info.Model, "version", numberOr(a.info.Version, "not told"), "backend", a.backend, "note", a.assumption)
		return
	}
	log.Info("preprocessing", "model", a.info.Model, "version", numberOr(a.info.Version, "not told"), "backend", a.backend, "input", a.pixels.String())
}

// bound takes over what a signature takes and gives.
func (a *answerer) bound(sig signature) {
	a.scores, a.values = sig.Output.Scores != "", sig.values
	if key := sig.Output.Scores; !slices.Contains(sig.Outputs, key) {
		a.output = key
	}
	a.formats, a.decoders = sig.formats, sig.decoders
}

func (a *answerer) classify(ctx context.Context, content []byte) (p Prediction, err error) {
	defer Recovered(&err)
	start := time.Now()
	header, err := a.look(content)
	if err != nil {
		return Prediction{}, err
	}
	if err := acquire(ctx, a.batcher.limit); err != nil {
		return Prediction{}, err
	}
	defer release(a.batcher.limit)

	it := item{encoded: content}
	var decode time.Duration
	if a.decode != nil {
		if it, decode, err = a.decoded(ctx, content, header); err != nil {
			return Prediction{}, err
		}
	} else if a.backend == BackendLocal { // the model decodes it when it runs
		need := a.decoding.need(content, header, a.perPixel)
		if err := a.decoding.room.Acquire(ctx, need); err != nil {
			return Prediction{}, err
		}
		defer a.decoding.room.Release(need)
	}
	r, err := a.batcher.submit(ctx, it)
	if err != nil {
		return Prediction{}, a.named(err)
	}
	if err := a.fits(r); err != nil {
		return Prediction{}, err
	}
	p = Prediction{
		Info: a.info, Backend: a.backend, Server: r.server, Precision: a.precision,
		Image:   header,
		Outputs: r.arrays,
		Assumed: a.assumption,
		Timings: Timings{Wait: time.Since(start) - decode - r.infer, Decode: decode, Infer: r.infer},
	}
	if r.version >= 0 {
		p.Version = r.version
	}
	switch {
	case !a.scores:
	case a.values && a.labels == nil && r.classes == nil:
		p.Output, p.Scores = a.output, r.scores
	default:
		p.Classes = topK(r.scores, r.classes, a.topK, a.labels)
	}
	return p, nil
}

// fits makes sure that the labels are those of a result's classes. They were when
// it was loaded, as far as that could be known.
func (a *answerer) fits(r result) error {
	var err error
	if r.classes == nil {
		err = checkLabels(len(a.labels), len(r.scores))
	} else {
		err = checkIndices(len(a.labels), r.classes)
	}
	if err != nil {
		return &InputError{ReasonModelRefused, err}
	}
	return nil
}

// named adds to the error of a run that does not end which version it is of.
func (a *answerer) named(err error) error {
	if late := (*OverdueError)(nil); errors.As(err, &late) {
		own := *late // which callers share
		own.Version = a.info.Version
		err = fmt.Errorf("%w: %w", ErrHangs, &own)
	}
	if errors.Is(err, ErrHangs) {
		err = fmt.Errorf("version %d %w", a.info.Version, err)
	}
	return err
}

// look reads what an image says of itself; other contents say nothing.
func (a *answerer) look(content []byte) (Header, error) {
	if !a.content.image() {
		return Header{}, nil
	}
	h, err := ParseHeader(content)
	if err == nil && h.Pixels > a.maxPixels {
		err = &InputError{ReasonTooManyPixels, fmt.Errorf("%s of %d×%d needs %d pixels decoded, at most %d are allowed",
			h.Format, h.Width, h.Height, h.Pixels, a.maxPixels)}
	}
	if err == nil && a.decode == nil && h.Format == "webp" && pixels.AnimatedWebP(content) {
		err = &InputError{ReasonAnimated, errAnimatedWebP}
	}
	if err == nil {
		err = a.takes(h)
	}
	return h, err
}

func (a *answerer) decoded(ctx context.Context, content []byte, h Header) (item, time.Duration, error) {
	need := a.decoding.need(content, h, a.perPixel)
	if err := a.decoding.begin(ctx, need); err != nil {
		return item{}, 0, err
	}
	defer a.decoding.end(need)
	start := time.Now()
	it, err := a.decode(ctx, content, h)
	return it, time.Since(start), err
}

func acquire(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func release(places chan struct{}) { <-places }
