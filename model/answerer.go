package model

import (
	"context"
	"fmt"
	"time"
)

// An answerer is the way of an image through a model, wherever that runs.
// Safe for concurrent use.
type answerer struct {
	info    Info
	backend string // BackendLocal or BackendRemote
	labels  []string
	topK    int

	maxPixels int64
	decode    func(ctx context.Context, image []byte, h Header) (item, error) // nil: the model takes encoded images
	decoding  chan struct{}                                                   // a place for each image that is being decoded
	batcher   *batcher
}

func (a *answerer) classify(ctx context.Context, image []byte) (Prediction, error) {
	start := time.Now()
	header, err := ParseHeader(image)
	if err != nil {
		return Prediction{}, err
	}
	if header.Pixels > a.maxPixels {
		return Prediction{}, &InputError{ReasonTooManyPixels, fmt.Errorf("%s of %d×%d needs %d pixels decoded, at most %d are allowed",
			header.Format, header.Width, header.Height, header.Pixels, a.maxPixels)}
	}
	if err := acquire(ctx, a.batcher.limit); err != nil {
		return Prediction{}, err
	}
	defer release(a.batcher.limit)

	it := item{encoded: image}
	var decode time.Duration
	if a.decode != nil {
		if it, decode, err = a.decoded(ctx, image, header); err != nil {
			return Prediction{}, err
		}
	}
	r, err := a.batcher.submit(ctx, it)
	if err != nil {
		return Prediction{}, err
	}
	p := Prediction{
		Info: a.info, Backend: a.backend, Server: r.server,
		Classes: topK(r.scores, a.topK, a.labels),
		Image:   header,
		Timings: Timings{Wait: time.Since(start) - decode - r.infer, Decode: decode, Infer: r.infer},
	}
	if r.version != 0 {
		p.Version = r.version
	}
	return p, nil
}

func (a *answerer) decoded(ctx context.Context, image []byte, h Header) (item, time.Duration, error) {
	if err := acquire(ctx, a.decoding); err != nil {
		return item{}, 0, err
	}
	defer release(a.decoding)
	start := time.Now()
	it, err := a.decode(ctx, image, h)
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
