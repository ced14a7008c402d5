// Command swap measures what a new version costs the requests that are being answered. It sends
// photos at a steady rate to an Inception v3 in process, through model.Manager, while one version
// replaces the other. It prints as Markdown how much memory each leaves behind, how long it takes
// to serve, and the latencies meanwhile.
//
// A photo counts to a swap if any of its time lies between the start of a version's load and half a
// second after the version serves, when the old one has been freed. The time between swaps gives
// the steady state of the same minutes, so other work on the machine affects both alike.
//
// Run it in the checkout's folder after `testenv/setup.sh test`. Arguments
// after the flags are settings, as "inceptor run" takes them:
//
//	go run ./bench/swap -swaps 200 -- --model.batch.max 4
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"inceptor/bench/measure"
	"inceptor/internal/retry"
	"inceptor/model"
	"inceptor/model/infer"
)

const (
	modelDir = "savedmodel/inception/1"
	photo    = ".tools/photos/china.jpg"

	early = 20 // the swap whose memory is compared with that of the last one
	after = 500 * time.Millisecond
)

type options struct {
	swaps  int
	rate   float64
	rest   time.Duration
	config model.Config
}

func main() { measure.Main("swap", run) }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("swap", flag.ContinueOnError)
	flags.IntVar(&o.swaps, "swaps", 40, "how often the version changes")
	flags.Float64Var(&o.rate, "rate", 4, "photos sent a second")
	flags.DurationVar(&o.rest, "rest", 2*time.Second, "steady state between swaps")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.swaps < 2 || !(o.rate > 0) || o.rest <= after {
		return o, fmt.Errorf("want two swaps, a positive rate, and a rest of more than %v", after)
	}
	// With probation, each version would wait for the one before.
	c, err := measure.Settings(append([]string{"--model.probation.period=0s"}, flags.Args()...)...)
	o.config = c.Model
	return o, err
}

// A swap is the result of one change of versions.
type swap struct {
	took       time.Duration // from directory complete to serving
	begin, end time.Time     // when its photos were sent or answered
	resident   float64       // bytes, at the end of the rest after it
}

// A bench is one run of this command.
type bench struct {
	// Set once.
	options
	model.Unobserved
	manager *model.Manager
	source  string // a copy of the version, to be linked

	serving chan time.Time // the same, of a version that has begun to serve
	failed  chan error

	began time.Time // when the latest load began; used by the manager's goroutine only

	// Guarded by mu.
	mu     sync.Mutex
	photos []sent
	done   []swap
}

// VersionLoaded implements model.Observer.
func (b *bench) VersionLoaded(_ int64, took infer.Durations) { b.began = time.Now().Add(-took.Gates) }

// VersionServing implements model.Observer.
func (b *bench) VersionServing(_ int64, ok bool) {
	if ok {
		b.serving <- b.began
	}
}

// VersionFailed implements model.Observer.
func (b *bench) VersionFailed(version int64, gate string) {
	b.failed <- fmt.Errorf("version %d failed at the gate %s", version, gate)
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	image, err := os.ReadFile(photo)
	if err != nil {
		return fmt.Errorf("%w: run this in the checkout's folder, after `testenv/setup.sh test`", err)
	}
	dir, err := os.MkdirTemp("", "inceptor-swap")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{
		options: o, source: filepath.Join(dir, "source"),
		serving: make(chan time.Time, 1), failed: make(chan error, 1),
	}
	// A copy, so that the links do not change the files of the original.
	if err := os.CopyFS(b.source, os.DirFS(modelDir)); err != nil {
		return err
	}
	b.config.Dir = filepath.Join(dir, "versions")
	if err := os.Mkdir(b.config.Dir, 0o700); err != nil {
		return err
	}
	if b.manager, err = model.New(b.config, slog.New(slog.DiscardHandler), b); err != nil {
		return err
	}
	if err = b.publish(1); err == nil {
		err = b.manager.Load(ctx)
	}
	if err == nil {
		<-b.serving
		err = b.measure(ctx, image)
	}
	b.manager.Close()
	if err == nil {
		b.write(os.Stdout)
	}
	return err
}

// measure sends photos and changes versions until that was done often enough.
func (b *bench) measure(ctx context.Context, image []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() { _ = b.manager.Run(ctx) }) // it ends only with ctx
	g.Go(func() { b.send(ctx, image) })
	if err := pause(ctx, b.rest); err != nil {
		return err
	}
	for n := range b.swaps {
		s, err := b.swap(ctx, int64(n+1))
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.done = append(b.done, s)
		b.mu.Unlock()
	}
	return nil
}

// swap publishes the version after old, and waits until it serves and has settled.
func (b *bench) swap(ctx context.Context, old int64) (swap, error) {
	if err := b.publish(old + 1); err != nil {
		return swap{}, err
	}
	complete := time.Now()
	s := swap{}
	select {
	case s.begin = <-b.serving:
	case err := <-b.failed:
		return s, err
	case <-ctx.Done():
		return s, ctx.Err()
	}
	s.took = time.Since(complete)
	s.end = time.Now().Add(after)
	err := errors.Join(os.RemoveAll(b.version(old)), pause(ctx, b.rest))
	s.resident, _ = measure.ProcessMemory(os.Getpid())
	return s, err
}

func (b *bench) version(n int64) string {
	return filepath.Join(b.config.Dir, strconv.FormatInt(n, 10))
}

// publish makes a version of links to the source, complete at once.
func (b *bench) publish(n int64) error {
	coming := filepath.Join(b.config.Dir, "coming")
	err := filepath.WalkDir(b.source, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(coming, path[len(b.source):])
		if e.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		return os.Link(path, to)
	})
	if err != nil {
		return err
	}
	return os.Rename(coming, b.version(n))
}

func pause(ctx context.Context, d time.Duration) error {
	retry.Sleep(ctx, d)
	return ctx.Err()
}
