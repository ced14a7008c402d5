package infer

import (
	"slices"
	"sync"
	"time"
)

// RunStats have the durations of a version's last runs, and count its records. Safe for concurrent
// use.
type RunStats struct {
	mu             sync.Mutex
	images, failed int64
	runs           map[RunKind]*window
}

// A RunKind groups runs that are compared with each other: those of the same size that shared
// the processors with another run, or did not.
type RunKind struct {
	Size   int // of the batch
	Shared bool
}

// StatsWindow is how many runs of a kind count at most, the last ones.
const StatsWindow = 32

// A window holds the last durations of a kind.
type window struct {
	last [StatsWindow]time.Duration
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

// Add counts a run that has ended. The time of a run with an error does not count.
func (v *RunStats) Add(r Run) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := RunKind{r.Size, r.Shared}
	if !r.Halved {
		v.images += int64(r.Size)
		v.failed += int64(r.Failed)
	}
	if r.Err != nil {
		return
	}
	if v.runs == nil {
		v.runs = map[RunKind]*window{}
	}
	w := v.runs[k]
	if w == nil {
		w = &window{}
		v.runs[k] = w
	}
	w.add(r.Took)
}

// Forget makes the stats as new.
func (v *RunStats) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.images, v.failed, v.runs = 0, 0, nil
}

// Counts returns how many records have run since Forget, and how many of them failed.
func (v *RunStats) Counts() (images, failed int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.images, v.failed
}

// Medians returns the median duration and the number of runs of each kind.
func (v *RunStats) Medians() (took map[RunKind]time.Duration, runs map[RunKind]int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	took, runs = map[RunKind]time.Duration{}, map[RunKind]int{}
	for k, w := range v.runs {
		took[k], runs[k] = w.median(), w.n
	}
	return took, runs
}
