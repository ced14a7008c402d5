package savedmodel

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	tuneRounds = 2 // loads of each setting, in turn, so that others' work hits all alike
	tuneRuns   = 4 // timed runs of each load
)

// A KernelTime is the shortest time that a run took with some kernels.
type KernelTime struct {
	Kernels Kernels
	Run     time.Duration
}

// FastestKernels measures how fast the version in dir runs with each of the
// kernels that Options.Kernels can name, the fastest first, for the caller to
// choose, and to remember: it costs four loads and twenty runs. The function
// run makes one run, on a batch such as will come. There is no answer for a
// model that Load does not freeze. One copy of the model is loaded at a time.
func FastestKernels(dir string, o Options, run func(*Model) error) ([]KernelTime, error) {
	if err := OpenLibrary(""); err != nil {
		return nil, err
	}
	var times []KernelTime
	for _, k := range []Kernels{KernelsTensorFlow, KernelsOneDNN} {
		times = append(times, KernelTime{Kernels: k})
	}
	for range tuneRounds {
		for i := range times {
			o.Kernels = times[i].Kernels
			shortest, err := timeRuns(dir, o, run)
			if err != nil {
				return nil, err
			}
			if times[i].Run == 0 || shortest < times[i].Run {
				times[i].Run = shortest
			}
		}
		// Zero is what timeRuns gives for a setting that is not to be had.
		times = slices.DeleteFunc(times, func(t KernelTime) bool { return t.Run == 0 })
	}
	slices.SortStableFunc(times, func(a, b KernelTime) int { return int(a.Run - b.Run) })
	return times, nil
}

// timeRuns returns the time of the shortest run; zero if the model cannot be
// frozen with these kernels.
func timeRuns(dir string, o Options, run func(*Model) error) (shortest time.Duration, err error) {
	m, err := loadFrozen(dir, o)
	if errors.Is(err, errRefused) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load %s: %w", dir, err)
	}
	defer func() {
		if e := m.Close(); err == nil {
			err = e
		}
	}()
	for i := range 1 + tuneRuns {
		begin := time.Now()
		if err := run(m); err != nil {
			return 0, fmt.Errorf("%v kernels: %w", o.Kernels, err)
		}
		// The first run makes the kernels.
		if took := time.Since(begin); i > 0 && (shortest == 0 || took < shortest) {
			shortest = max(took, 1)
		}
	}
	return shortest, nil
}
