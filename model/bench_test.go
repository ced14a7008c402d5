package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// none stands for no version where a test lists versions.
const none = -1

// A witness observes a manager.
type witness struct {
	Unobserved
	mu       sync.Mutex
	served   []int64
	refused  map[int64][]string
	rejected []string // causes
	pauses   int
	desired  int64
	tried    []int64
	overdue  int
	leaked   []int64 // versions whose load is overdue
}

func (w *witness) LoadOverdue(version int64, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ended {
		w.leaked = append(w.leaked, version)
		return
	}
	w.leaked = slices.DeleteFunc(w.leaked, func(v int64) bool { return v == version })
}

func (w *witness) overdueLoads() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.leaked)
}

func (w *witness) RunOverdue(_ int64, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ended {
		w.overdue--
	} else {
		w.overdue++
	}
}

func (w *witness) overdueRuns() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overdue
}

func (w *witness) VersionTried(version int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok {
		version = none
	}
	w.tried = append(w.tried, version)
}

func (w *witness) VersionLoaded(_ int64, took Durations) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if took.Pause > 0 {
		w.pauses++
	}
}

func (w *witness) paused() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pauses
}

func (w *witness) VersionRejected(_ int64, cause string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rejected = append(w.rejected, cause)
}

func (w *witness) VersionServing(version int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok {
		version = none
	}
	w.served = append(w.served, version)
}

func (w *witness) VersionRefused(version int64, gate string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused == nil {
		w.refused = map[int64][]string{}
	}
	w.refused[version] = append(w.refused[version], gate)
}

func (w *witness) VersionDesired(version int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.desired = version
}

func (w *witness) refusals(version int64) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.refused[version])
}

// A bench runs a manager on a base directory with tiny versions.
type bench struct {
	testing.TB
	base string
	*Manager
	*witness
}

func runTiny(t testing.TB, base string, change ...func(*Config)) *bench {
	t.Helper()
	return runTinyOn(t, base, nil, change...)
}

func tinyConfig(base string) Config {
	return Config{
		Name: "tiny", Dir: base, Batch: Batch{Max: 2}, MaxPixels: 1e6,
		Poll: 20 * time.Millisecond, Quiet: 60 * time.Millisecond, Gate: Gate{Timeout: time.Minute},
	}
}

// runTinyOn is runTiny after a look at the manager.
func runTinyOn(t testing.TB, base string, prepare func(*Manager), change ...func(*Config)) *bench {
	t.Helper()
	openLibrary(t)
	c := tinyConfig(base)
	for _, f := range change {
		f(&c)
	}
	b := &bench{TB: t, base: base, witness: &witness{}}
	var err error
	if b.Manager, err = New(c, slog.New(slog.DiscardHandler), b.witness); err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(b.Manager)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		b.Close()
	})
	return b
}

func (b *bench) dir(version int64) string {
	return filepath.Join(b.base, strconv.FormatInt(version, 10))
}

// put publishes a version as one should: by rename.
func (b *bench) put(version int64, m tiny) {
	b.Helper()
	staging := b.TempDir()
	m.write(b, filepath.Join(staging, "v"))
	if err := os.Rename(filepath.Join(staging, "v"), b.dir(version)); err != nil {
		b.Fatal(err)
	}
}

func tinyOf(n int64) tiny { return tiny{bias: float32(n)} }

// serves tells which version answers, or none, and checks that its answer is its own.
func (b *bench) serves() int64 {
	p, err := b.Classify(context.Background(), nil, blackPixel)
	if errors.Is(err, ErrNoVersion) {
		return none
	}
	if err != nil {
		b.Errorf("classify: %v", err)
		return none
	}
	if p.Outputs != nil {
		return p.Version // it has no classes
	}
	if got := p.Classes[0].Score; got != float32(p.Version) {
		b.Errorf("version %d answered %v", p.Version, got)
	}
	return p.Version
}

func (b *bench) await(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not after 20 s; served %v, refused %v, states %v", what, b.served, b.refused, b.states())
		}
	}
}

func (b *bench) awaitVersion(v int64) {
	b.Helper()
	b.await(fmt.Sprintf("version %d", v), func() bool { return b.serves() == v })
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
