package model

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"inceptor/model/infer"
)

// Bounds on the images that are kept for the gate agreement: how many, and the bytes of all.
const (
	maxImages     = 32
	maxImageBytes = 64 << 20
)

// images keeps the last images that the stable version answered, for the gate agreement of a new
// version. Safe for concurrent use.
type images struct {
	mu    sync.Mutex      // guards the fields below
	last  []answeredImage // the newest last
	bytes int             // of the images in last
}

type answeredImage struct {
	image   []byte
	best    infer.Class // of the answer
	version int64       // that answered
}

// add keeps a copy of an image, and drops the oldest ones beyond the limits.
func (s *images) add(image []byte, p infer.Prediction) {
	best, ok := p.Best()
	if len(image) > maxImageBytes || !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last, answeredImage{slices.Clone(image), best, p.Version})
	s.bytes += len(image)
	oldest := 0 // number of images to drop
	for len(s.last)-oldest > maxImages || s.bytes > maxImageBytes {
		s.bytes -= len(s.last[oldest].image)
		oldest++
	}
	s.last = slices.Delete(s.last, 0, oldest)
}

func (s *images) list() []answeredImage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.last)
}

// checkAgreement classifies the last images with a new version. It is an error if the best class
// is the same as before for less than this part of them. An image that the version cannot answer
// counts as different.
func checkAgreement(ctx context.Context, v *infer.Version, last []answeredImage, least float64) error {
	same, other := 0, ""
	for _, a := range last {
		p, err := v.Classify(ctx, a.image)
		best, _ := p.Best()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			other = err.Error()
		case infer.SameClass(best, a.best):
			same++
		default:
			other = fmt.Sprintf("%s, which was %s by version %d", best, a.best, a.version)
		}
	}
	if float64(same) >= least*float64(len(last)) {
		return nil
	}
	return fmt.Errorf("it agrees on %d of the last %d images, %v of them are asked for; one is %s", same, len(last), least, other)
}
