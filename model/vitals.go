package model

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// vitals are how a version fares: what its runs took, and what it failed on.
// Safe for concurrent use.
type vitals struct {
	mu             sync.Mutex
	images, failed int64
	runs           map[kind]*window
}

// A kind is what runs are alike in that are compared: one that shared the
// processors with another one takes longer.
type kind struct {
	size   int // of the batch
	shared bool
}

// A window holds the last durations.
type window struct {
	last [32]time.Duration
	n    int
}

func (w *window) add(d time.Duration) {
	w.last[w.n%len(w.last)] = d
	w.n++
}

func (w *window) median() time.Duration {
	sorted := slices.Sorted(slices.Values(w.last[:min(w.n, len(w.last))]))
	return sorted[len(sorted)/2]
}

// add notes a run that has ended. One with an error says nothing about how long
// runs take.
func (v *vitals) add(r Run) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := kind{r.Size, r.shared}
	if !r.Halved {
		v.images += int64(r.Size)
		v.failed += int64(r.Failed)
	}
	if r.Err != nil {
		return
	}
	if v.runs == nil {
		v.runs = map[kind]*window{}
	}
	w := v.runs[k]
	if w == nil {
		w = &window{}
		v.runs[k] = w
	}
	w.add(r.Took)
}

// forget begins anew.
func (v *vitals) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.images, v.failed, v.runs = 0, 0, nil
}

func (v *vitals) counts() (images, failed int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.images, v.failed
}

// medians are what runs take, by their kind.
func (v *vitals) medians() (took map[kind]time.Duration, runs map[kind]int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	took, runs = map[kind]time.Duration{}, map[kind]int{}
	for k, w := range v.runs {
		took[k], runs[k] = w.median(), w.n
	}
	return took, runs
}

const (
	leastFailures = 5  // before a version is taken back for them
	leastRuns     = 10 // that are compared
	leastEach     = 5  // of the version before, of the same size

	// A run this many times as long as it may take is not waited for, if it
	// has taken leastHanging.
	hangingFactor = 5
	leastHanging  = 5 * time.Second
)

// The causes for which a version is taken back. The words are stable: metrics
// carry them.
const (
	CauseErrors = "errors"  // it fails on images
	CauseSlow   = "slow"    // its runs take longer than those of the version before
	CauseHangs  = "hangs"   // a run of it does not end
	CauseByHand = "by-hand" // "inceptor models rollback"
	CauseCrash  = "crash"   // native code crashed the process while it was new
)

// A verdict is why a version has to go.
type verdict struct{ cause, reason string }

// verdict compares with the version before, and looks at the runs that have not
// ended. Nil: nothing speaks against it.
func (p Probation) verdict(v, before *vitals, runs []underway) *verdict {
	was, wasRuns := before.medians()
	for _, u := range runs {
		took := u.took.Round(time.Millisecond)
		if u.overdue != nil {
			return &verdict{CauseHangs, fmt.Sprintf("a run of %d images has not ended after %v; %v are allowed", u.size, took, u.overdue.After)}
		}
		usually := max(was[kind{u.size, false}], was[kind{u.size, true}])
		if p.Slowdown > 0 && u.took > leastHanging && usually > 0 && u.took > time.Duration(hangingFactor*p.Slowdown*float64(usually)) {
			return &verdict{CauseHangs, fmt.Sprintf("a run of %d images has not ended after %v; it took %v before", u.size, took, usually.Round(time.Millisecond))}
		}
	}
	images, failed := v.counts()
	imagesBefore, failedBefore := before.counts()
	usual := float64(failedBefore) / float64(max(imagesBefore, 1))
	if failed >= leastFailures && float64(failed) > (p.Errors+usual)*float64(images) {
		return &verdict{CauseErrors, fmt.Sprintf("it failed on %d of %d images; the version before on %d of %d", failed, images, failedBefore, imagesBefore)}
	}
	if p.Slowdown == 0 {
		return nil
	}
	is, isRuns := v.medians()
	// Runs of one kind are compared, weighted by how many there were.
	var ratio, weight float64
	for k, n := range isRuns {
		if n = min(n, len(window{}.last)); wasRuns[k] >= leastEach {
			ratio += float64(n) * float64(is[k]) / float64(was[k])
			weight += float64(n)
		}
	}
	if weight < leastRuns {
		return nil
	}
	if ratio /= weight; ratio > p.Slowdown {
		return &verdict{CauseSlow, fmt.Sprintf("its runs take %.1f times as long as those of the version before, in the median over %.0f runs", ratio, weight)}
	}
	return nil
}
