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
	runs           map[int]*window // by the size of the batch
	began          time.Time       // of the run under way; zero: there is none
	size           int             // of its batch
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

func (v *vitals) begin(size int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.began, v.size = time.Now(), size
}

// end notes a run that has ended. One with an error says nothing about how
// long runs take.
func (v *vitals) end(r Run) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.began = time.Time{}
	if !r.Halved {
		v.images += int64(r.Size)
		v.failed += int64(r.Failed)
	}
	if r.Err != nil {
		return
	}
	if v.runs == nil {
		v.runs = map[int]*window{}
	}
	w := v.runs[r.Size]
	if w == nil {
		w = &window{}
		v.runs[r.Size] = w
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

// medians are what runs take, by the size of their batch.
func (v *vitals) medians() (took map[int]time.Duration, runs map[int]int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	took, runs = map[int]time.Duration{}, map[int]int{}
	for size, w := range v.runs {
		took[size], runs[size] = w.median(), w.n
	}
	return took, runs
}

// hanging tells how long the run under way has taken, and of how many images.
func (v *vitals) hanging() (took time.Duration, size int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.began.IsZero() {
		return 0, 0
	}
	return time.Since(v.began), v.size
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

// verdict compares with the version before. Nil: nothing speaks against it.
func (p Probation) verdict(v, before *vitals) *verdict {
	images, failed := v.counts()
	imagesBefore, failedBefore := before.counts()
	usual := float64(failedBefore) / float64(max(imagesBefore, 1))
	if failed >= leastFailures && float64(failed) > (p.Errors+usual)*float64(images) {
		return &verdict{CauseErrors, fmt.Sprintf("it failed on %d of %d images; the version before on %d of %d", failed, images, failedBefore, imagesBefore)}
	}
	if p.Slowdown == 0 {
		return nil
	}
	was, wasRuns := before.medians()
	is, isRuns := v.medians()
	if took, size := v.hanging(); took > leastHanging && was[size] > 0 && took > time.Duration(hangingFactor*p.Slowdown*float64(was[size])) {
		return &verdict{CauseHangs, fmt.Sprintf("a run of %d images has not ended after %v; it took %v before",
			size, took.Round(time.Millisecond), was[size].Round(time.Millisecond))}
	}
	// Batches of equal size are compared, weighted by how many there were.
	var ratio, weight float64
	for size, n := range isRuns {
		if n = min(n, len(window{}.last)); wasRuns[size] >= leastEach {
			ratio += float64(n) * float64(is[size]) / float64(was[size])
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
