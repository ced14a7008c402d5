package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

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
	var g sync.WaitGroup
	defer g.Wait()
	interval := time.Duration(float64(time.Second) / b.rate)
	begin := time.Now()
	for n := 1; ; n++ {
		due := begin.Add(time.Duration(n) * interval)
		if pause(ctx, time.Until(due)) != nil {
			return
		}
		g.Go(func() {
			_, err := b.manager.Classify(context.Background(), nil, image)
			s := sent{due, time.Now(), err}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.photos = append(b.photos, s)
		})
	}
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
	before, then := float64(b.done[base-1].resident), float64(b.done[last-1].resident)

	row := func(what, format string, args ...any) {
		fmt.Fprintf(w, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	row(fmt.Sprintf("%d swaps at %g photos/s", last, b.rate), "")
	row("---", "---")
	row(fmt.Sprintf("resident after swap %d", base), "%.0f MB", before/1e6)
	row(fmt.Sprintf("resident after swap %d", last), "%.0f MB", then/1e6)
	row("growth; aim ≤ 3 %", "%+.1f %%", 100*(then/before-1))
	row("photos", "%d", len(b.photos))
	row("errors; aim 0", "%d", failed)
	row("live tensors at the end; aim 0", "%d", savedmodel.LiveTensors())
	row("directory complete to serving, median, most", "%.2f, %.2f s", quantile(took, 0.5), quantile(took, 1))
	row("– of it files at rest", "%.2f s", b.config.Quiet.Seconds())
	row("latency p50, p99, most in steady state", "%.0f, %.0f, %.0f ms", quantile(steady, 0.5), quantile(steady, 0.99), quantile(steady, 1))
	row("latency p50, p99, most during swaps", "%.0f, %.0f, %.0f ms", quantile(during, 0.5), quantile(during, 0.99), quantile(during, 1))
	row("p99 during swaps ÷ steady; aim ≤ 1.3", "%.2f", quantile(during, 0.99)/quantile(steady, 0.99))
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

func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// resident is this process' memory, in bytes; zero on anything but Linux.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}
