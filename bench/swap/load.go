package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"inceptor/bench/measure"
	"inceptor/savedmodel"
)

// sent is one photo: when it was due, and when it was answered.
type sent struct {
	due, answered time.Time
	err           error
}

// send sends photos at the rate, whether those before are answered or not,
// until ctx ends; then it waits for the answers.
func (b *bench) send(ctx context.Context, image []byte) {
	measure.AtRate(ctx, b.rate, func(_ int, due time.Time) {
		_, err := b.manager.Classify(context.Background(), nil, image)
		s := sent{due, time.Now(), err}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.photos = append(b.photos, s)
	})
}

// write prints the table.
func (b *bench) write(w io.Writer) {
	steady, during := b.latencies()
	var took []float64
	for _, s := range b.done {
		took = append(took, s.took.Seconds())
	}
	failed := 0
	for _, p := range b.photos {
		if p.err != nil {
			if failed++; failed == 1 {
				fmt.Fprintln(os.Stderr, "swap: the first error:", p.err)
			}
		}
	}
	last := len(b.done)
	base := min(early, last/2)
	before, then := b.residentAfter(base), b.residentAfter(last)

	row := func(what, format string, args ...any) {
		fmt.Fprintf(w, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	row(fmt.Sprintf("%d swaps at %g photos/s", last, b.rate), "")
	row("---", "---")
	row(fmt.Sprintf("resident after swap %d and those before", base), "%s MB", measure.Spread(before, 1e-6, 0))
	row(fmt.Sprintf("resident after swap %d and those before", last), "%s MB", measure.Spread(then, 1e-6, 0))
	row("growth of the median; aim ≤ 3 %", "%+.1f %%", 100*(measure.Quantile(then, 0.5)/measure.Quantile(before, 0.5)-1))
	row("photos", "%d", len(b.photos))
	row("errors; aim 0", "%d", failed)
	row("live tensors at the end; aim 0", "%d", savedmodel.LiveTensors())
	row("directory complete to serving, median, most", "%.2f, %.2f s", measure.Quantile(took, 0.5), measure.Quantile(took, 1))
	row("– of it files at rest", "%.2f s", b.config.Quiet.Seconds())
	row("latency p50, p99, most in steady state", "%.0f, %.0f, %.0f ms", measure.Quantile(steady, 0.5), measure.Quantile(steady, 0.99), measure.Quantile(steady, 1))
	row("latency p50, p99, most during swaps", "%.0f, %.0f, %.0f ms", measure.Quantile(during, 0.5), measure.Quantile(during, 0.99), measure.Quantile(during, 1))
	row("p99 during swaps ÷ steady; aim ≤ 1.3", "%.2f", measure.Quantile(during, 0.99)/measure.Quantile(steady, 0.99))
}

// residentAfter is what was resident after each of ten swaps, the last of them
// the nth: one value goes up and down with what the allocator holds just then.
func (b *bench) residentAfter(n int) (bytes []float64) {
	for _, s := range b.done[max(0, n-10):n] {
		bytes = append(bytes, s.resident)
	}
	return bytes
}

// latencies are those in steady state and during swaps, in milliseconds.
func (b *bench) latencies() (steady, during []float64) {
	for _, p := range b.photos {
		ms := 1000 * p.answered.Sub(p.due).Seconds()
		disturbed := slices.ContainsFunc(b.done, func(s swap) bool {
			return p.due.Before(s.end) && p.answered.After(s.begin)
		})
		if disturbed {
			during = append(during, ms)
		} else {
			steady = append(steady, ms)
		}
	}
	return steady, during
}
