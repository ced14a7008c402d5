package infer

import (
	"fmt"
	"slices"
	"time"
)

// A run may take the longer of minRunLimit and runLimitFactor times the longest run of the
// warm-up, which includes the version's own warm-up requests.
const (
	minRunLimit    = 30 * time.Second
	runLimitFactor = 50
)

func (o Options) runLimit(longest time.Duration) time.Duration {
	if o.RunLimit != nil {
		return o.RunLimit(longest)
	}
	return runLimit(longest)
}

// runLimit returns how long a run may take, by the longest run of the warm-up.
func runLimit(longest time.Duration) time.Duration { return max(minRunLimit, runLimitFactor*longest) }

// tickEvery is how often active runs are checked. The time of a run is counted in ticks that
// are no longer than this, so that time in which the process was stopped or the machine
// suspended does not count.
const tickEvery = 250 * time.Millisecond

// An OverdueError is the error of records whose own run exceeds its limit. It does not blame
// them: one of them may be the cause, or none.
type OverdueError struct {
	Version int64         // whose run it is
	Size    int           // records in the run
	Since   time.Time     // when it began
	After   time.Duration // its limit
}

func (e *OverdueError) Error() string {
	return fmt.Sprintf("a run of %d images, begun at %s, has not ended within %v",
		e.Size, e.Since.UTC().Format(time.RFC3339), e.After)
}

// An ActiveRun is a run that has not ended.
type ActiveRun struct {
	Size    int
	Since   time.Time
	Took    time.Duration // without time in which the process was stopped
	shared  bool          // another run was active meanwhile
	Overdue *OverdueError // nil: the run is within its limit
	items   []item        // whose callers wait for this run, or for one after it; nil once it is overdue
}

// begin records the start of a run of this size, for which the callers of waiting wait.
func (b *batcher) begin(size int, waiting []item) *ActiveRun {
	b.mu.Lock()
	defer b.mu.Unlock()
	var r *ActiveRun
	if n := len(b.free) - 1; n >= 0 {
		r, b.free = b.free[n], b.free[:n]
	} else {
		r = &ActiveRun{}
	}
	*r = ActiveRun{Size: size, Since: time.Now(), items: waiting}
	b.active = append(b.active, r)
	for _, other := range b.active {
		other.shared = other.shared || len(b.active) > 1
	}
	return r
}

// end records the end of a run, and returns its last state. The callers of an overdue run no
// longer wait for it.
func (b *batcher) end(r *ActiveRun) ActiveRun {
	b.mu.Lock()
	b.active = slices.DeleteFunc(b.active, func(other *ActiveRun) bool { return other == r })
	last := *r
	*r = ActiveRun{}
	b.free = append(b.free, r)
	if last.Overdue == nil {
		b.mu.Unlock()
		return last
	}
	b.overdueLanes.Add(-1)
	if b.stuck {
		b.stuck, b.allOverdue = false, make(chan struct{})
	}
	b.mu.Unlock()
	b.observer.runOverdue(last, true)
	return last
}

// limitRuns limits the time of each run from now on. It is called once.
func (b *batcher) limitRuns(limit time.Duration) {
	b.watcher.Go(func() {
		t := time.NewTicker(tickEvery)
		defer t.Stop()
		last := time.Now()
		for {
			select {
			case <-b.closed:
				return
			case now := <-t.C:
				b.tick(now.Sub(last), limit)
				last = now
			}
		}
	})
}

// tick adds to the time of the active runs. The callers of a run over the limit get an error.
// The call into TensorFlow cannot be cancelled: it keeps its lane and its memory until it
// returns. When every lane is in such a call, new callers get an error at once.
func (b *batcher) tick(elapsed, limit time.Duration) {
	var overdue []ActiveRun
	b.mu.Lock()
	for _, r := range b.active {
		r.Took += min(elapsed, tickEvery)
		if r.Overdue != nil || r.Took <= limit {
			continue
		}
		r.Overdue = &OverdueError{Size: r.Size, Since: r.Since, After: limit}
		overdue = append(overdue, *r)
		b.overdueLanes.Add(1)
		for _, it := range r.items {
			it.result <- result{err: r.Overdue}
		}
		r.items = nil
	}
	if !b.stuck && int(b.overdueLanes.Load()) == b.lanes {
		b.stuck = true
		close(b.allOverdue)
	}
	b.mu.Unlock()
	for _, r := range overdue {
		failed := len(r.items) // those of the run, and those that would have run after it
		b.observer.runDone(Run{Size: failed, Most: b.config.Max, Failed: failed, Took: r.Took, Err: r.Overdue})
		b.observer.runOverdue(r, false)
		b.signalRunEnded() // an overdue lane holds back no batch
	}
}

// ActiveRuns returns the runs that have not ended, the oldest first.
func (b *batcher) ActiveRuns() []ActiveRun {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]ActiveRun, len(b.active))
	for i, r := range b.active {
		list[i] = *r
	}
	return list
}

// OverdueRun returns the oldest overdue run; nil: none is overdue.
func (b *batcher) OverdueRun() *OverdueError {
	for _, r := range b.ActiveRuns() {
		if r.Overdue != nil {
			return r.Overdue
		}
	}
	return nil
}

// whileStuck returns a channel that is closed while every lane has an overdue run.
func (b *batcher) whileStuck() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allOverdue
}

// IsStuck reports whether every lane has an overdue run.
func (b *batcher) IsStuck() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stuck
}
