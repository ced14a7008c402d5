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

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// none stands for no version where a test lists versions.
const none = -1

// A witness is an Observer that records its calls.
type witness struct {
	Unobserved
	mu         sync.Mutex
	served     []int64
	failed     map[int64][]string
	rolledBack []string // causes
	pauses     int
	desired    int64
	unproven   []int64
	overdue    int
	leaked     []int64 // versions whose load is overdue
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

func (w *witness) VersionUnproven(version int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok {
		version = none
	}
	w.unproven = append(w.unproven, version)
}

func (w *witness) VersionLoaded(_ int64, took infer.Durations) {
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

func (w *witness) VersionRolledBack(_ int64, cause string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rolledBack = append(w.rolledBack, cause)
}

func (w *witness) servedSoFar() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.served)
}

func (w *witness) VersionServing(version int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok {
		version = none
	}
	w.served = append(w.served, version)
}

func (w *witness) VersionFailed(version int64, gate string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = map[int64][]string{}
	}
	w.failed[version] = append(w.failed[version], gate)
}

func (w *witness) VersionDesired(version int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.desired = version
}

func (w *witness) refusals(version int64) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.failed[version])
}

// A harness runs a Manager on a base directory with tiny versions.
type harness struct {
	testing.TB
	base string
	*Manager
	*witness
}

func runTiny(t testing.TB, base string, change ...func(*Config)) *harness {
	t.Helper()
	return runTinyOn(t, base, nil, change...)
}

func tinyConfig(base string) Config {
	return Config{
		Name: "tiny", Dir: base, Batch: infer.Batch{Max: 2}, MaxPixels: 1e6,
		Poll: 20 * time.Millisecond, Quiet: 60 * time.Millisecond, Gate: Gate{Timeout: time.Minute},
	}
}

// runTinyOn is runTiny on a base directory, and calls prepare with the manager first.
func runTinyOn(t testing.TB, base string, prepare func(*Manager), change ...func(*Config)) *harness {
	t.Helper()
	modeltest.OpenLibrary(t)
	c := tinyConfig(base)
	for _, f := range change {
		f(&c)
	}
	b := &harness{TB: t, base: base, witness: &witness{}}
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

func (b *harness) dir(version int64) string {
	return filepath.Join(b.base, strconv.FormatInt(version, 10))
}

// put publishes a version by a rename.
func (b *harness) put(version int64, m modeltest.Tiny) {
	b.Helper()
	staging := b.TempDir()
	m.Write(b, filepath.Join(staging, "v"))
	if err := os.Rename(filepath.Join(staging, "v"), b.dir(version)); err != nil {
		b.Fatal(err)
	}
}

// serves returns the version that answers, or none, and checks that the answer is that version's.
func (b *harness) serves() int64 {
	p, err := b.Classify(context.Background(), nil, modeltest.BlackImage)
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

// patience is for what must happen in the end. On a busy machine a load in the background takes
// long.
const patience = 3 * time.Minute

func (b *harness) await(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not after %v; served %v, refused %v, states %v", what, patience, b.servedSoFar(), b.failed, b.states())
		}
	}
}

func (b *harness) awaitVersion(v int64) {
	b.Helper()
	b.await(fmt.Sprintf("version %d", v), func() bool { return b.serves() == v })
}

// awaitServed waits until exactly these versions have begun to serve, in this order.
func (b *harness) awaitServed(want ...int64) {
	b.Helper()
	b.await(fmt.Sprintf("versions %v served", want), func() bool { return slices.Equal(b.servedSoFar(), want) })
}

func (b *harness) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
