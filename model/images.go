package model

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// maxImageBytes bounds the images that are kept for agreement.
const maxImageBytes = 64 << 20

// images are the last ones that the stable version answered, to try a new one
// on. Safe for concurrent use.
type images struct {
	most int

	mu    sync.Mutex
	last  []answered // the newest last
	bytes int
}

type answered struct {
	image   []byte
	best    Class
	version int64
}

func (s *images) add(image []byte, p Prediction) {
	best, ok := p.best()
	if len(image) > maxImageBytes || !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last, answered{slices.Clone(image), best, p.Version})
	s.bytes += len(image)
	drop := 0
	for len(s.last)-drop > s.most || s.bytes > maxImageBytes {
		s.bytes -= len(s.last[drop].image)
		drop++
	}
	s.last = slices.Delete(s.last, 0, drop)
}

func (s *images) list() []answered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.last)
}

// agrees tells whether two answers have the same best class.
func agrees(a, b Class) bool {
	if a.Label != "" && b.Label != "" {
		return a.Label == b.Label
	}
	return a.Index == b.Index && a.Index != NoIndex
}

// Agrees tells whether two predictions have the same best class: by label if
// both have labels, else by index. It is not known where neither has classes, but
// arrays alone.
func (p Prediction) Agrees(q Prediction) (same, known bool) {
	a, oka := p.best()
	b, okb := q.best()
	return oka && okb && agrees(a, b), oka || okb
}

// checkAgreement classifies the last images, a part of which must have the
// best class that they had. An image that the version cannot answer counts
// against it.
func (v *version) checkAgreement(ctx context.Context, last []answered, least float64) error {
	same, other := 0, ""
	for _, a := range last {
		p, err := v.classify(ctx, a.image)
		best, _ := p.best()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			other = err.Error()
		case agrees(best, a.best):
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
