package infer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"inceptor/internal/span"
	"inceptor/model/pixels"
	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// A pipeline answers records with one version of a model, which runs in this process or on a
// model server. It checks a record, decodes it, runs it in a batch and ranks the scores. Safe
// for concurrent use, except for setPreprocessing.
type pipeline struct {
	// Set once, before the first record.
	options      Options
	info         Info
	backend      string // BackendLocal or BackendRemote
	precision    string // that the version runs in; empty: unknown
	sig          signature
	labels       []string
	decodeLimits *DecodeLimits // shared by all versions of a model
	*batcher
	assumption string // what of the preprocessing is assumed, and what to write; empty: nothing

	// Set by setPreprocessing.
	decode        func(ctx context.Context, content []byte, h Header) (item, error) // nil: the model takes records as they come
	decoder       *decoder                                                          // that decode uses; nil: none
	bytesPerPixel int64                                                             // that decode needs; 0: as many as TensorFlow
	preprocessing *Preprocessing                                                    // nil: the model does not take pixels
}

// setPreprocessing makes the pipeline decode images to pixels as p says, with Go's decoders
// where TensorFlow's library is missing. No record may be under way.
func (a *pipeline) setPreprocessing(p Preprocessing) error {
	a.preprocessing = &p
	if savedmodel.LibraryPath() == "" {
		recipe := p.recipe(a.sig.dtype)
		a.decode, a.bytesPerPixel = decodeInGo(recipe), goPixel
		return recipe.Check()
	}
	d, err := newDecoder(p, a.sig.dtype, a.options.DecodeFast, a.options.Session)
	if err != nil {
		return err
	}
	if a.decoder != nil {
		err = a.decoder.close()
	}
	a.decoder, a.decode = d, d.item
	return err
}

// reportPreprocessing logs how images become pixels, with a warning if some of that is
// assumed. The version's directory is dir; empty: there is none.
func (a *pipeline) reportPreprocessing(dir string, log *slog.Logger) {
	if a.preprocessing == nil {
		return
	}
	log = log.With("model", a.info.Model, "version", versionText(a.info.Version, "unknown"), "backend", a.backend)
	if a.assumption = a.preprocessing.note(dir); a.assumption != "" {
		log.Warn("preprocessing is assumed: scores are wrong if the model expects something else", "note", a.assumption)
		return
	}
	log.Info("preprocessing", "input", a.preprocessing.String())
}

// versionText returns a version for the log, and none for remote.NoVersion.
func versionText(version int64, none string) string {
	if version == remote.NoVersion {
		return none
	}
	return strconv.FormatInt(version, 10)
}

// close ends the batcher and frees the decoder. No record may be under way.
func (a *pipeline) close() error {
	if a.batcher != nil {
		a.batcher.close()
	}
	if a.decoder == nil {
		return nil
	}
	return a.decoder.close()
}

// Info returns which version this is.
func (a *pipeline) Info() Info { return a.info }

// MaxBatch returns how many records one run takes at most.
func (a *pipeline) MaxBatch() int { return a.config.Max }

// Preprocessing returns how images become pixels; nil: the model does not take pixels.
func (a *pipeline) Preprocessing() *Preprocessing { return a.preprocessing }

// Assumed returns what of the preprocessing is assumed, and how to state it; empty: nothing.
func (a *pipeline) Assumed() string { return a.assumption }

// hasScores reports whether the version gives scores, and not only arrays.
func (a *pipeline) hasScores() bool { return a.sig.Output.Scores != "" }

// Classify answers one record. The error is an *InputError if the record is to blame.
func (a *pipeline) Classify(ctx context.Context, content []byte) (p Prediction, err error) {
	defer Recovered(&err)
	start := time.Now()
	header, err := a.inspect(content)
	if err != nil {
		return Prediction{}, err
	}
	if err := acquire(ctx, a.slots); err != nil {
		return Prediction{}, err
	}
	defer release(a.slots)

	it := item{encoded: content}
	var decode time.Duration
	if a.decode != nil {
		if it, decode, err = a.decodeRecord(ctx, content, header); err != nil {
			return Prediction{}, err
		}
	} else if a.backend == BackendLocal { // the model decodes it when it runs
		need := a.decodeLimits.need(content, header, a.bytesPerPixel)
		if err := a.decodeLimits.bytes.Acquire(ctx, need); err != nil {
			return Prediction{}, err
		}
		defer a.decodeLimits.bytes.Release(need)
	}
	_, it.step = span.Start(ctx, "batch")
	r, err := a.submit(ctx, it)
	it.step.End(err)
	if err != nil {
		return Prediction{}, a.nameVersion(err)
	}
	if err := a.checkLabels(r); err != nil {
		return Prediction{}, err
	}
	p = a.prediction(r)
	p.Image = header
	p.Timings = Timings{Wait: time.Since(start) - decode - r.infer, Decode: decode, Infer: r.infer}
	return p, nil
}

// prediction returns the answer that a result gives.
func (a *pipeline) prediction(r result) Prediction {
	p := Prediction{
		Info: a.info, Backend: a.backend, Server: r.server, Precision: a.precision,
		Outputs: r.arrays,
		Assumed: a.assumption,
	}
	if r.version >= 0 {
		p.Version = r.version
	}
	switch {
	case !a.hasScores():
	case a.sig.values && a.labels == nil && r.classes == nil:
		if key := a.sig.Output.Scores; !slices.Contains(a.sig.Outputs, key) { // else Outputs has them
			p.Output = key
		}
		p.Scores = r.scores
	default:
		p.Classes = topK(r.scores, r.classes, a.sig.TopK, a.labels)
	}
	return p
}

// checkLabels checks that there is a label for each class of a result. The load has checked
// it already, as far as the classes were known.
func (a *pipeline) checkLabels(r result) error {
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

// nameVersion adds the version to the error of a run that does not end.
func (a *pipeline) nameVersion(err error) error {
	if overdue := (*OverdueError)(nil); errors.As(err, &overdue) {
		named := *overdue // callers share overdue
		named.Version = a.info.Version
		err = fmt.Errorf("%w: %w", ErrHangs, &named)
	}
	if errors.Is(err, ErrHangs) {
		err = fmt.Errorf("version %d %w", a.info.Version, err)
	}
	return err
}

// inspect reads an image's header and checks it. The Header of any other content is zero.
func (a *pipeline) inspect(content []byte) (Header, error) {
	if !a.sig.content.Image() {
		return Header{}, nil
	}
	h, err := ParseHeader(content)
	if err == nil && h.Pixels > a.options.MaxPixels {
		err = &InputError{ReasonTooManyPixels, fmt.Errorf("%s of %d×%d needs %d pixels decoded, at most %d are allowed",
			h.Format, h.Width, h.Height, h.Pixels, a.options.MaxPixels)}
	}
	if err == nil && a.decode == nil && h.Format == "webp" && pixels.AnimatedWebP(content) {
		err = &InputError{ReasonAnimated, errAnimatedWebP}
	}
	if err == nil {
		err = a.checkFormat(h)
	}
	return h, err
}

// decodeRecord decodes a record within the limits, and returns how long that took.
func (a *pipeline) decodeRecord(ctx context.Context, content []byte, h Header) (item, time.Duration, error) {
	need := a.decodeLimits.need(content, h, a.bytesPerPixel)
	if err := a.decodeLimits.acquire(ctx, need); err != nil {
		return item{}, 0, err
	}
	defer a.decodeLimits.release(need)
	ctx, step := span.Start(ctx, "decode")
	start := time.Now()
	it, err := a.decode(ctx, content, h)
	step.End(err)
	return it, time.Since(start), err
}

func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func release(slots chan struct{}) { <-slots }
