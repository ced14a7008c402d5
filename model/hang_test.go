package model

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inceptor/model/remote/remotetest"
)

// A server of files that is gone: what a model reads from there never comes.
// Until the test mends it, a run hangs, in native code.
type fileServer struct {
	testing.TB
	name   string // of the file, without what the model adds
	suffix string // "1" for white images, "0" for all others
}

func newFileServer(t testing.TB) fileServer {
	f := fileServer{t, filepath.Join(t.TempDir(), "file"), "0"}
	write(t, f.name+"0", nil)
	return f
}

// vanish lets what reads the file of such images hang.
func (f fileServer) vanish() {
	f.Helper()
	if err := errors.Join(os.Remove(f.name+f.suffix), syscall.Mkfifo(f.name+f.suffix, 0o600)); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(f.mend)
}

// mend lets everything go on that hangs.
func (f fileServer) mend() {
	held, err := os.OpenFile(f.name+f.suffix, os.O_RDWR, 0)
	if err != nil {
		f.Error(err)
		return
	}
	write(f, f.name+"new", nil)
	if err := errors.Join(os.Rename(f.name+"new", f.name+f.suffix), held.Close()); err != nil {
		f.Error(err)
	}
}

// impatient lets runs be overdue soon.
func impatient(m *Manager) {
	m.bound = func(time.Duration) time.Duration { return time.Second }
}

// askInVain classifies an image that the version needs its file server for, until it
// is told that the version hangs.
func (b *bench) askInVain() {
	b.Helper()
	_, err := b.Classify(b.Context(), nil, blackPixel)
	if !errors.Is(err, ErrHangs) || !strings.Contains(err.Error(), " hangs: a run of ") {
		b.Errorf("got %v", err)
	}
}

// A version that hangs on probation is taken back, whatever the one before has
// run, and however short the probation; the one before answers.
func TestHangOnProbation(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
	}{
		{"swap", func(*Config) {}},
		{"slowdown 0", func(c *Config) { c.Probation.Slowdown = 0 }},
		{"canary", func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 100 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFileServer(t)
			b := runTinyOn(t, with(t, 1), impatient, onProbation(600*time.Millisecond), test.change)
			b.await("version 1", func() bool { return b.routes.Load().stable != nil }) // it has run nothing
			b.put(2, tiny{bias: 2, needs: f.name})
			b.await("version 2", func() bool { return b.routes.Load().labelOf(b.loadedAs(2)) != "" })
			f.vanish()
			answered := make(chan Prediction, 1)
			go func() {
				for {
					if p, err := b.Classify(context.Background(), nil, blackPixel); err == nil {
						answered <- p
						return
					}
				}
			}()
			select {
			case p := <-answered:
				if p.Version != 1 {
					t.Errorf("version %d has answered", p.Version)
				}
			case <-time.After(time.Minute):
				t.Fatalf("nobody answers; %v", b.states())
			}
			b.awaitStates("2 rejected", "1 serving stable")
			if s := b.Versions()[0]; !strings.HasPrefix(s.Reason, CauseHangs+": ") {
				t.Errorf("reason: %q", s.Reason)
			}
		})
	}
}

// A version that hangs on probation and has none before it that can serve goes on
// with the lanes it has left.
func TestHangWithoutWayBack(t *testing.T) {
	f := newFileServer(t)
	b := runTinyOn(t, with(t, 1), impatient, onProbation(time.Minute), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	write(t, f.name+"1", nil) // for white images, which do not hang
	b.put(2, tiny{bias: 2, needs: f.name})
	b.awaitVersion(2)
	f.vanish()
	b.askInVain()
	b.await("the verdict", func() bool { _, bad := b.choice.now().of(2); return bad })
	for range 20 {
		p, err := b.Classify(b.Context(), nil, whitePixel)
		if err != nil || p.Version != 2 {
			t.Fatalf("got %+v, %v", p, err)
		}
	}
	b.put(3, tinyOf(3))
	b.await("version 3", func() bool {
		v := b.routes.Load().stable
		return v != nil && v.info.Version == 3
	})
}

// A golden image that hangs refuses its version at that gate, without waiting for
// the run to end. The version is tried again when that has ended.
func TestHangAtGate(t *testing.T) {
	f := newFileServer(t)
	f.suffix = "1"
	write(t, f.name+f.suffix, nil)
	f.vanish()
	b := runTinyOn(t, with(t, 1), impatient)
	b.awaitVersion(1)
	staging := filepath.Join(t.TempDir(), "v")
	tiny{bias: 2, needs: f.name, golden: "- {image: white.bmp, label: label 0, floor: 1}\n"}.write(t, staging)
	write(t, filepath.Join(staging, "assets.extra/golden/white.bmp"), whitePixel)
	b.must(os.Rename(staging, b.dir(2)))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != GateGolden || s.Retry.IsZero() || !strings.Contains(s.Reason, "white.bmp: version 2 hangs: ") {
		t.Errorf("got %+v", s)
	}
	b.Manager.mu.Lock()
	late := b.known[2].isLate()
	b.Manager.mu.Unlock()
	if !late {
		t.Error("it may be loaded again beside the run that hangs")
	}
	b.awaitVersion(1)
	f.mend()
	b.awaitVersion(2)
}

// loadedAs is the version of a number that is loaded; nil: none is.
func (b *bench) loadedAs(number int64) *version {
	b.Manager.mu.Lock()
	defer b.Manager.mu.Unlock()
	if k := b.known[number]; k != nil {
		return k.loaded
	}
	return nil
}

// The only version hangs. Callers are told, and so is whoever asks what serves.
// When its runs end after all, it answers again.
func TestOnlyVersionHangs(t *testing.T) {
	f := newFileServer(t)
	base := t.TempDir()
	tiny{bias: 2, needs: f.name}.write(t, filepath.Join(base, "2"))
	b := runTinyOn(t, base, impatient)
	b.awaitVersion(2)
	f.vanish()
	for range Lanes + 2 {
		b.askInVain()
	}
	_, err := b.Serving()
	if !errors.Is(err, ErrHangs) || !strings.Contains(err.Error(), "version 2 hangs: a run of 1 images, begun at 20") {
		t.Errorf("serving: got %v", err)
	}
	if s := b.Versions()[0]; s.State != StateServing || !strings.HasPrefix(s.Reason, CauseHangs+": ") {
		t.Errorf("got %+v", s)
	}
	if n := b.overdueRuns(); n != Lanes {
		t.Errorf("%d runs are overdue", n)
	}
	f.mend()
	b.await("the end of the runs", func() bool { _, err := b.Serving(); return err == nil && b.overdueRuns() == 0 })
	b.awaitVersion(2)
}

// A version of which every lane hangs makes room for another one, a new one or
// an older, also if it was chosen by hand. It is not loaded again until its runs
// have ended.
func TestAnotherVersionAfterHang(t *testing.T) {
	for _, test := range []struct {
		name   string
		others []int64
		come   int64
		change func(*Config)
		byHand bool
		want   int64
	}{
		{name: "an older one", others: []int64{1}, want: 1},
		{name: "an older one is loaded", others: []int64{1}, want: 1, change: func(c *Config) { c.Versions = Policy{latest: 2} }},
		{name: "a new one", come: 3, want: 3},
		{name: "a new one, in one copy's memory", come: 3, want: 3, change: func(c *Config) { c.Copies = copiesOne }},
		{name: "chosen by hand", others: []int64{3}, byHand: true, want: 3},
		{name: "with canaries", come: 3, want: 3, change: func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 10 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFileServer(t)
			base := with(t, test.others...)
			tiny{bias: 2, needs: f.name}.write(t, filepath.Join(base, "2"))
			change := func(c *Config) {
				c.Quiet = 0 // version 2 is there from the start: it is not on probation
				c.Probation.Period = time.Minute
				if test.change != nil {
					test.change(c)
				}
			}
			b := runTinyOn(t, base, impatient, change)
			b.await("a version", func() bool { return b.routes.Load().stable != nil })
			if test.byHand {
				b.must(b.Use(t.Context(), 2))
			}
			b.awaitVersion(2)
			f.vanish()
			var callers sync.WaitGroup
			for range Lanes {
				callers.Go(b.askInVain)
				b.await("a run", func() bool { v := b.loadedAs(2); return v == nil || len(v.batcher.underway()) > 0 })
			}
			callers.Wait()
			_, _ = b.Classify(t.Context(), nil, blackPixel) // both lanes, if they have shared a batch
			if test.come > 0 {
				b.put(test.come, tinyOf(test.come))
			}
			b.await("another version", func() bool {
				p, err := b.Classify(t.Context(), nil, blackPixel)
				return err == nil && p.Version == test.want
			})
			if info, err := b.Serving(); err != nil || info.Version != test.want {
				t.Errorf("got %v, %v", info, err)
			}
			for _, s := range b.Versions() {
				if s.Version == 2 && (s.State != StateRejected || !strings.Contains(s.Reason, "until that run ends")) {
					t.Errorf("got %+v", s)
				}
			}
			f.mend()
			b.await("the end of the runs", func() bool { return b.overdueRuns() == 0 })
			if test.want < 2 || test.byHand {
				b.awaitVersion(2)
			}
		})
	}
}

// While the version here hangs, the model server answers.
func TestFallbackWhileVersionHangs(t *testing.T) {
	f := newFileServer(t)
	base := t.TempDir()
	tiny{bias: 2, needs: f.name}.write(t, filepath.Join(base, "2"))
	b := runFallbackOn(t, base, impatient)
	b.awaitBackend(BackendLocal)
	f.vanish()
	for i := range 10 {
		p, err := b.classify(blackPixel)
		if err != nil || p.Backend != BackendRemote || !strings.Contains(p.Reason, "version 2 hangs: ") {
			t.Fatalf("image %d: got %+v, %v", i, p, err)
		}
	}
	if _, err := b.Serving(); err != nil {
		t.Errorf("the server answers, and is said not to: %v", err)
	}
	b.await("the observer's word", func() bool { fell, _ := b.seen.state(); return fell })
	f.mend()
	b.awaitBackend(BackendLocal)
}

// Whose run it was that does not end can be told, also if the server fails too.
func TestFallbackFailsWhileVersionHangs(t *testing.T) {
	f := newFileServer(t)
	base := t.TempDir()
	tiny{bias: 2, needs: f.name}.write(t, filepath.Join(base, "2"))
	b := runFallbackOn(t, base, impatient)
	b.awaitBackend(BackendLocal)
	b.fake.Fail(remotetest.Internal, "oh")
	f.vanish()
	if _, err := b.classify(blackPixel); !errors.As(err, new(*OverdueError)) || !strings.Contains(err.Error(), "no version here can answer") {
		t.Errorf("got %v", err)
	}
	f.mend()
}

// Close does not wait for ever.
func TestCloseWhileVersionHangs(t *testing.T) {
	f := newFileServer(t)
	base := t.TempDir()
	tiny{bias: 2, needs: f.name}.write(t, filepath.Join(base, "2"))
	b := runTinyOn(t, base, impatient)
	b.awaitVersion(2)
	f.vanish()
	b.askInVain()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = b.ask(context.Background(), func() error { b.Close(); return nil }) // Run does nothing meanwhile
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
}
