package model

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/model/infer"
)

// published is what other goroutines read of the reconciler. Each part is replaced whole and never
// changed, so it is safe for concurrent use.
type published struct {
	routes   atomic.Pointer[routes]
	snapshot atomic.Pointer[snapshot]

	once  sync.Once     // closes ready
	ready chan struct{} // closed when a version serves for the first time
}

func newPublished() *published {
	p := &published{ready: make(chan struct{})}
	p.routes.Store(&routes{})
	p.snapshot.Store(&snapshot{routes: &routes{}})
	return p
}

// A snapshot is a copy of the parts of a state that other goroutines read.
type snapshot struct {
	versions   []versionEntry // the highest first
	routes     *routes
	trying     *progress // of another precision of the version that serves; nil: none is tried
	loading    *int64    // the version that is being loaded; nil: none
	probation  time.Time // when the serving version's probation ends; zero: it is not on probation
	waits      string    // why no load may begin now
	unreadable error     // why the state file cannot be read; nil: it can
	served     []int64   // versions that have served, each once in a row; never changed

	slowdown map[*infer.Version]float64 // of versions that are compared with another one
}

// unknown returns why no version may begin to serve; nil: one may.
func (s *snapshot) unknown() error {
	if s.unreadable == nil {
		return nil
	}
	return fmt.Errorf("nothing new serves until it can be read: %w", s.unreadable)
}

// served closes ready.
func (p *published) served() { p.once.Do(func() { close(p.ready) }) }

// serving returns the version that serves. Its error is ErrNoVersion, or ErrHangs while a run
// of it is overdue.
func (p *published) serving() (infer.Info, error) {
	r := p.routes.Load()
	if r.paused != nil {
		return infer.Info{}, fmt.Errorf("%w: version %d is being loaded in place of the last one", ErrNoVersion, r.coming)
	}
	if r.stable == nil {
		if err := p.snapshot.Load().unknown(); err != nil {
			return infer.Info{}, fmt.Errorf("%w: %w", ErrNoVersion, err)
		}
		return infer.Info{}, ErrNoVersion
	}
	if overdue := r.stable.OverdueRun(); overdue != nil {
		return infer.Info{}, fmt.Errorf("version %d %w: %w", r.stable.Info().Version, infer.ErrHangs, overdue)
	}
	return r.stable.Info(), nil
}

// acquire returns the version that answers the key, and its label. The caller releases the version.
// During a pause it waits.
func (p *published) acquire(ctx context.Context, key []byte) (*infer.Version, string, error) {
	for {
		r := p.routes.Load()
		if r.paused != nil {
			select {
			case <-r.paused:
				continue
			case <-ctx.Done():
				return nil, "", ctx.Err()
			}
		}
		v, label := r.pick(key)
		if v == nil {
			return nil, "", ErrNoVersion
		}
		if v.Retain() {
			return v, label, nil
		}
	}
}

// acquireLabel returns the version that has a label. The caller releases it. It does not wait.
func (p *published) acquireLabel(label string) (*infer.Version, error) {
	r := p.routes.Load()
	v := r.stable
	if label != LabelStable {
		v = r.secondary
		if r.label != label {
			v = nil
		}
	}
	if v == nil || !v.Retain() {
		return nil, ErrNoVersion
	}
	return v, nil
}
