package model

import (
	"fmt"
	"slices"
	"time"
)

// How long a run may take: the longer of leastBound and boundFactor times the
// longest run of the warm-up, which includes the version's own requests.
const (
	leastBound  = 30 * time.Second
	boundFactor = 50
)

func boundOf(longest time.Duration) time.Duration { return max(leastBound, boundFactor*longest) }

// tickEvery is how often runs under way are looked at. A run's time is counted
// in ticks, each of which is no longer than this: time in which the process was
// stopped, or its machine suspended, does not count.
const tickEvery = 250 * time.Millisecond

// An OverdueError is the error of images whose own run takes longer than a run
// may. It does not blame them: one of them may be the cause, or none.
type OverdueError struct {
	Version int64 // whose run it is

	Size  int           // images in the run
	Since time.Time     // when it began
	After time.Duration // that it was allowed
}

func (e *OverdueError) Error() string {
	return fmt.Sprintf("a run of %d images, begun at %s, has not ended within %v", e.Size, e.Since.UTC().Format(time.RFC3339), e.After)
}

// An underway is a run that has not ended.
type underway struct {
	size    int
	since   time.Time
	took    time.Duration // in ticks
	shared  bool          // another one ran meanwhile
	overdue *OverdueError // nil: it is not
	items   []item        // whose callers wait for it, in the run or after it; none if it is overdue
}

// begin notes that a batch of a size runs, and who waits for it to end.
func (b *batcher) begin(size int, waiting []item) *underway {
	b.mu.Lock()
	defer b.mu.Unlock()
	var u *underway
	if n := len(b.spare) - 1; n >= 0 {
		u, b.spare = b.spare[n], b.spare[:n]
	} else {
		u = &underway{}
	}
	*u = underway{size: size, since: time.Now(), items: waiting}
	b.runs = append(b.runs, u)
	for _, other := range b.runs {
		other.shared = other.shared || len(b.runs) > 1
	}
	return u
}

// end notes that a run has ended, and returns what it was. If that is overdue,
// its callers do not wait any more.
func (b *batcher) end(u *underway) underway {
	b.mu.Lock()
	b.runs = slices.DeleteFunc(b.runs, func(other *underway) bool { return other == u })
	was := *u
	*u = underway{}
	b.spare = append(b.spare, u)
	if was.overdue == nil {
		b.mu.Unlock()
		return was
	}
	b.late.Add(-1)
	if b.stuck {
		b.stuck, b.allLate = false, make(chan struct{})
	}
	b.mu.Unlock()
	b.observer.overdue(was, true)
	return was
}

// bind lets runs take no longer than this, from now on. To be called once.
func (b *batcher) bind(bound time.Duration) {
	b.bound = bound
	b.watching.Go(func() {
		t := time.NewTicker(tickEvery)
		defer t.Stop()
		last := time.Now()
		for {
			select {
			case <-b.closed:
				return
			case now := <-t.C:
				b.tick(now.Sub(last))
				last = now
			}
		}
	})
}

// tick adds to the time of the runs under way. Nobody waits any more for one
// that is overdue: its callers get an error. The call into TensorFlow cannot be
// cancelled. It keeps its lane and its memory until it ends; if it is the last
// lane, nobody waits for one either.
func (b *batcher) tick(elapsed time.Duration) {
	var late []underway
	b.mu.Lock()
	for _, u := range b.runs {
		u.took += min(elapsed, tickEvery)
		if u.overdue != nil || u.took <= b.bound {
			continue
		}
		u.overdue = &OverdueError{Size: u.size, Since: u.since, After: b.bound}
		late = append(late, *u)
		b.late.Add(1)
		for _, it := range u.items {
			it.result <- result{err: u.overdue}
		}
		u.items = nil
	}
	if !b.stuck && int(b.late.Load()) == b.places {
		b.stuck = true
		close(b.allLate)
	}
	b.mu.Unlock()
	for _, u := range late {
		failed := len(u.items) // the run's own, and those that would have run after it
		b.observer.ran(Run{Size: failed, Failed: failed, Took: u.took, Err: u.overdue})
		b.observer.overdue(u, false)
		b.signalEnded() // for the lane that gathers
	}
}

// underway are the runs that have not ended.
func (b *batcher) underway() []underway {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]underway, len(b.runs))
	for i, u := range b.runs {
		list[i] = *u
	}
	return list
}

// hang is the oldest run that is overdue; nil: none is.
func (b *batcher) hang() *OverdueError {
	for _, u := range b.underway() { // in the order in which they began
		if u.overdue != nil {
			return u.overdue
		}
	}
	return nil
}

// blocked is closed while every lane has a run that is overdue.
func (b *batcher) blocked() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allLate
}

// isStuck tells whether every lane has a run that is overdue.
func (b *batcher) isStuck() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stuck
}
