// Command precision measures what it costs the requests that are being answered to find another
// precision on the stream. It sends photos at a steady rate to an Inception v3 in process, through
// model.Manager: first in float32 alone, which is the steady state, then with
// model.precision=int8, from the first record until a while after int8 serves. It prints as
// Markdown how long each step takes, the latencies meanwhile, and the memory.
//
// Run it in the checkout's folder after `testenv/setup.sh test`. Arguments after the flags are
// settings, as "inceptor run" takes them:
//
//	go run ./bench/precision -rate 5 -- --model.calibration.records 256
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"inceptor/bench/measure"
	"inceptor/internal/retry"
	"inceptor/model"
)

const modelDir = "savedmodel/inception/1"

// The phases besides the steps, which have the names that model.Status gives them.
const (
	alone    = "float32 alone"
	switched = "around the switch" // from switchTime before to switchTime after
	settled  = "int8"
)

const switchTime = 2 * time.Second

type options struct {
	rate   float64
	steady time.Duration
	config model.Config
}

func main() { measure.Main("precision", run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("precision", flag.ContinueOnError)
	flags.Float64Var(&o.rate, "rate", 5, "photos sent a second")
	flags.DurationVar(&o.steady, "steady", 40*time.Second, "time in float32 alone, and in int8")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if !(o.rate > 0) || o.steady <= switchTime {
		return o, fmt.Errorf("want a positive rate, and a steady state of more than %v", switchTime)
	}
	c, err := measure.Settings(append([]string{"--model.precision=int8"}, flags.Args()...)...)
	o.config = c.Model
	return o, err
}

// sent is one photo: when it was due and answered, and in which phase it was due.
type sent struct {
	due, answered time.Time
	phase         string
	precision     string // of the answer
	err           error
}

// A phase is a time in which the same was going on.
type phase struct {
	name     string
	took     time.Duration
	resident float64 // bytes, at its end
}

// A bench is one run of this command.
type bench struct {
	options // set once
	photos  [][]byte

	// Guarded by mu.
	mu     sync.Mutex
	now    string // the phase
	phases []phase
	sent   []sent
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	b := &bench{options: o}
	if b.photos, err = measure.Photos(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "inceptor-precision")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.config.Dir = filepath.Join(dir, "versions")
	if err := os.CopyFS(filepath.Join(b.config.Dir, "1"), os.DirFS(modelDir)); err != nil {
		return err
	}
	plain := b.config
	plain.Precision = "float32"
	if err := b.with(ctx, plain, func(context.Context, *model.Manager) string { return alone }); err != nil {
		return err
	}
	if err := b.with(ctx, b.config, b.phaseOf()); err != nil {
		return err
	}
	b.write(os.Stdout)
	return nil
}

// phaseOf returns a function that says what a manager with model.precision=int8 does.
func (b *bench) phaseOf() func(context.Context, *model.Manager) string {
	return func(_ context.Context, m *model.Manager) string {
		for _, s := range m.Versions() {
			if s.Precision == "int8" {
				return settled
			}
			if step, _, _ := strings.Cut(s.Trying, " "); step != "" {
				return step
			}
			if s.WhyPrecision != "" {
				return "refused: " + s.WhyPrecision
			}
		}
		return "before"
	}
}

// with sends photos to a manager until the last phase, float32 alone or int8, has lasted as long as
// steady.
func (b *bench) with(ctx context.Context, c model.Config, phaseOf func(context.Context, *model.Manager) string) error {
	m, err := model.New(c, slog.New(slog.NewTextHandler(os.Stderr, nil)), model.Unobserved{})
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	failed := make(chan error, 1)
	g.Go(func() { failed <- m.Run(ctx) })
	if err := m.Wait(ctx); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	b.enter(phaseOf(ctx, m))
	g.Go(func() {
		measure.AtRate(ctx, b.rate, func(n int, due time.Time) {
			b.mu.Lock()
			s := sent{due: due, phase: b.now}
			b.mu.Unlock()
			p, err := m.Classify(context.WithoutCancel(ctx), nil, b.photos[n%len(b.photos)])
			s.answered, s.precision, s.err = time.Now(), p.Precision, err
			b.mu.Lock()
			defer b.mu.Unlock()
			b.sent = append(b.sent, s)
		})
	})
	for began, last := time.Now(), b.now; ; {
		retry.Sleep(ctx, 20*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
		now := phaseOf(ctx, m)
		if strings.HasPrefix(now, "refused") {
			return errors.New(now)
		}
		if now != last || (now == alone || now == settled) && time.Since(began) >= b.steady {
			b.leave(last, time.Since(began))
			if now == last {
				return nil
			}
			b.enter(now)
			began, last = time.Now(), now
		}
	}
}

func (b *bench) enter(phase string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = phase
}

func (b *bench) leave(name string, took time.Duration) {
	resident, _ := measure.ProcessMemory(os.Getpid())
	b.phases = append(b.phases, phase{name, took, resident})
}

// write prints the table.
func (b *bench) write(w io.Writer) {
	var first time.Time // sent in int8
	failed := 0
	latencies := map[string][]float64{}
	for _, s := range b.sent {
		if s.err != nil {
			failed++
			fmt.Fprintln(os.Stderr, "precision: an error:", s.err)
		}
		if s.precision == "int8" && (first.IsZero() || s.due.Before(first)) {
			first = s.due
		}
		latencies[s.phase] = append(latencies[s.phase], 1000*s.answered.Sub(s.due).Seconds())
	}
	for _, s := range b.sent {
		if d := s.due.Sub(first); -switchTime <= d && d <= switchTime {
			latencies[switched] = append(latencies[switched], 1000*s.answered.Sub(s.due).Seconds())
		}
	}
	steady := measure.Quantile(latencies[alone], 0.99)
	measure.WriteRow(w, fmt.Sprintf("%g photos/s, %d errors", b.rate, failed), "seconds", "photos", "p50, ms", "p99, ms", "p99 ÷ alone", "MiB resident at the end")
	measure.WriteRow(w, "---", "---", "---", "---", "---", "---", "---")
	row := func(name, took, resident string) {
		list := latencies[name]
		if len(list) == 0 {
			return
		}
		p99 := measure.Quantile(list, 0.99)
		measure.WriteRow(w, name, took, fmt.Sprint(len(list)), fmt.Sprintf("%.0f", measure.Quantile(list, 0.5)), fmt.Sprintf("%.0f", p99),
			fmt.Sprintf("%.2f", p99/steady), resident)
	}
	for _, p := range b.phases {
		row(p.name, fmt.Sprintf("%.1f", p.took.Seconds()), fmt.Sprintf("%.0f", p.resident/(1<<20)))
	}
	row(switched, fmt.Sprintf("%.1f", 2*switchTime.Seconds()), "")
}
