package model

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// watched observes a fallback.
type watched struct {
	remote.Unobserved
	mu   sync.Mutex
	fell bool
	did  time.Duration
}

func (w *watched) FellBack(now bool, did time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fell = now
	w.did += did
}

func (w *watched) state() (fell bool, did time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fell, w.did
}

// A fallBench is a fallback with tiny versions here and a fake server.
type fallBench struct {
	*bench
	*Fallback
	fake   *remotetest.Fake
	server *remotetest.Server
	seen   *watched
}

func remoteConfig(server *remotetest.Server) remote.Config {
	c := remote.Default()
	c.Address = server.Addr()
	c.Timeout, c.Budget = 300*time.Millisecond, 500*time.Millisecond
	c.Breaker.Failures, c.Breaker.Open = 3, 200*time.Millisecond
	return c
}

func runFallback(t *testing.T, base string, change ...func(*remote.Config)) *fallBench {
	t.Helper()
	return runFallbackOn(t, base, nil, change...)
}

// runFallbackOn is runFallback after a look at the manager.
func runFallbackOn(t *testing.T, base string, prepare func(*Manager), change ...func(*remote.Config)) *fallBench {
	t.Helper()
	fake := remotetest.NewFake("tiny")
	fake.Versions, fake.Classes = []int64{1, 2}, 1
	b := &fallBench{fake: fake, server: remotetest.Serve(t, fake), seen: &watched{}}
	r := remoteConfig(b.server)
	for _, f := range change {
		f(&r)
	}
	c := tinyConfig(base)
	c.Backend = LocalThenRemote
	var err error
	witness := &witness{}
	if b.Fallback, err = NewFallback(c, r, testenv.TensorFlow(t), slog.New(slog.DiscardHandler), witness, b.seen); err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(b.Fallback.Manager)
	}
	b.bench = &bench{TB: t, base: base, Manager: b.Fallback.Manager, witness: witness}
	runBackend(t, b.Fallback)
	return b
}

// runBackend runs a fallback or server until the test ends.
func runBackend(t *testing.T, b interface {
	Run(context.Context) error
	Close()
}) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		b.Close()
	})
}

func (b *fallBench) classify(image []byte) (Prediction, error) {
	return b.Classify(context.Background(), nil, image)
}

// awaitBackend waits until this backend answers.
func (b *fallBench) awaitBackend(name string) Prediction {
	b.Helper()
	var p Prediction
	b.await("backend "+name, func() bool {
		var err error
		p, err = b.classify(blackPixel)
		return err == nil && p.Backend == name
	})
	return p
}

// While there is no version here, the server answers, and says why; as soon as
// there is one, that does.
func TestFallbackUntilThereIsAVersion(t *testing.T) {
	b := runFallback(t, t.TempDir())
	b.must(b.Wait(t.Context()))
	p := b.awaitBackend(BackendRemote)
	if p.Version != 2 || p.Server != b.server.Addr() || !strings.Contains(p.Reason, "no version is serving") || p.Wanted != nil || p.Digest != "" {
		t.Errorf("got %+v", p)
	}
	if info, err := b.Serving(); err != nil || info.Version != 2 {
		t.Errorf("serving: %v, %v", info, err)
	}
	b.await("the observer's word", func() bool { fell, did := b.seen.state(); return fell && did > 0 })
	b.put(2, tinyOf(2))
	if p := b.awaitBackend(BackendLocal); p.Version != 2 || p.Reason != "" || p.Server != "" {
		t.Errorf("got %+v", p)
	}
	b.await("the observer's word", func() bool { fell, _ := b.seen.state(); return !fell })
}

// When runs fail here, not for the image's sake, no image fails; when they work
// again, that is found out.
func TestFallbackWhileRunsFail(t *testing.T) {
	needed := filepath.Join(t.TempDir(), "file")
	write(t, needed+"0", nil)
	base := t.TempDir()
	tiny{bias: 2, needs: needed}.write(t, filepath.Join(base, "2"))
	b := runFallback(t, base)
	b.awaitBackend(BackendLocal)
	b.must(os.Remove(needed + "0"))
	for i := range 20 {
		p, err := b.classify(blackPixel)
		if err != nil || p.Backend != BackendRemote || p.Version != 2 || !strings.Contains(p.Reason, "runs fail: ") {
			t.Fatalf("image %d: got %+v, %v", i, p, err)
		}
	}
	if got := b.unavailable(); !strings.Contains(got, "runs fail") {
		t.Errorf("it is not given a rest: %q", got)
	}
	write(t, needed+"0", nil)
	b.awaitBackend(BackendLocal)
}

// Whatever is wrong with the server: the image is not to blame, it takes no
// longer than the budget, and when the server is well again, it answers.
func TestFallbackServerFaults(t *testing.T) {
	for _, test := range []struct {
		name   string
		broken func(*fallBench)
		mended func(*fallBench)
	}{
		{"killed", func(b *fallBench) { b.server.Kill() }, func(b *fallBench) { b.server.Start() }},
		{"frozen", func(b *fallBench) { b.server.Freeze() }, func(b *fallBench) { b.server.Thaw() }},
		{"cut", func(b *fallBench) { b.server.CutAfter(20) }, func(b *fallBench) { b.server.CutAfter(1 << 30) }},
		{"slow", func(b *fallBench) {
			b.fake.SetHook(func(ctx context.Context, _ *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}, func(b *fallBench) { b.fake.SetHook(nil) }},
		{"refusing", func(b *fallBench) { b.fake.Fail(remotetest.PermissionDenied, "no") }, func(b *fallBench) { b.fake.SetHook(nil) }},
		{"failing", func(b *fallBench) { b.fake.Fail(remotetest.Internal, "oh") }, func(b *fallBench) { b.fake.SetHook(nil) }},
		{"garbage", func(b *fallBench) {
			b.fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				return &tfpb.PredictResponse{Outputs: map[string]*tfpb.TensorProto{remotetest.Output: remotetest.Scores(7, 3)}}, nil
			})
		}, func(b *fallBench) { b.fake.SetHook(nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := runFallback(t, t.TempDir())
			b.awaitBackend(BackendRemote)
			test.broken(b)
			for range 5 {
				begun := time.Now()
				_, err := b.classify(blackPixel)
				if err == nil || !mayPass(err) || !strings.Contains(err.Error(), "no version is serving") {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("it took %v", took)
				}
			}
			test.mended(b)
			b.awaitBackend(BackendRemote)
			if _, err := b.Serving(); err != nil {
				t.Errorf("it answers, and is said not to: %v", err)
			}
		})
	}
}

// A server that is killed makes the service not ready, until it is back.
func TestFallbackReadiness(t *testing.T) {
	b := runFallback(t, t.TempDir())
	b.awaitBackend(BackendRemote)
	b.server.Kill()
	b.await("not ready", func() bool {
		_, _ = b.classify(blackPixel)
		_, err := b.Serving()
		return errors.Is(err, ErrNoVersion) && strings.Contains(err.Error(), "does not answer")
	})
	b.server.Start()
	b.awaitBackend(BackendRemote)
}

// With fallback.version=same no other version answers than the one that would
// here; with any, it is said.
func TestFallbackParity(t *testing.T) {
	bad := func(t *testing.T) string {
		base := t.TempDir()
		tiny{bias: 3, broken: "weights"}.write(t, filepath.Join(base, "3"))
		return base
	}
	t.Run("same", func(t *testing.T) {
		b := runFallback(t, bad(t))
		b.await("refusal", func() bool { return len(b.refusals(3)) > 0 })
		if _, err := b.classify(blackPixel); err == nil || !mayPass(err) || !strings.Contains(err.Error(), "3") {
			t.Errorf("got %v", err)
		}
		if _, err := b.Serving(); err == nil {
			t.Error("it is ready")
		}
		b.fake.Versions = []int64{1, 2, 3}
		if p := b.awaitBackend(BackendRemote); p.Version != 3 || p.Wanted != nil {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("same, version 0", func(t *testing.T) {
		base := t.TempDir()
		tiny{bias: 3, broken: "weights"}.write(t, filepath.Join(base, "0"))
		b := runFallback(t, base)
		b.await("refusal", func() bool { return len(b.refusals(0)) > 0 })
		if p, err := b.classify(blackPixel); err == nil || !mayPass(err) {
			t.Errorf("version 0 is wanted, and version %d has answered: %v", p.Version, err)
		}
		b.fake.Versions = []int64{0, 1, 2}
		if p := b.awaitBackend(BackendRemote); p.Version != 0 || p.Wanted != nil {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("any, version 0 is wanted", func(t *testing.T) {
		base := t.TempDir()
		tiny{bias: 3, broken: "weights"}.write(t, filepath.Join(base, "0"))
		b := runFallback(t, base, func(c *remote.Config) { c.Version = remote.AnyVersion })
		b.await("refusal", func() bool { return len(b.refusals(0)) > 0 })
		if p := b.awaitBackend(BackendRemote); p.Version != 2 || p.Wanted == nil || *p.Wanted != 0 {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("any", func(t *testing.T) {
		b := runFallback(t, bad(t), func(c *remote.Config) { c.Version = remote.AnyVersion })
		b.await("refusal", func() bool { return len(b.refusals(3)) > 0 })
		if p := b.awaitBackend(BackendRemote); p.Version != 2 || p.Wanted == nil || *p.Wanted != 3 || p.Classes[0].Label != "label 0" {
			t.Errorf("got %+v", p)
		}
	})
}

// What the server says of an image counts as what a version here says; its
// neighbours are answered.
func TestFallbackBadImage(t *testing.T) {
	b := runFallback(t, t.TempDir())
	b.awaitBackend(BackendRemote)
	hold := make(chan struct{})
	b.fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		<-hold
		for _, image := range r.GetInputs()[remotetest.BytesInput].GetStringVal() {
			if string(image) == string(whitePixel) {
				return nil, remotetest.Invalid("too bright")
			}
		}
		return nil, nil
	})
	time.AfterFunc(50*time.Millisecond, func() { close(hold) })
	var callers sync.WaitGroup
	for i := range 10 {
		callers.Go(func() {
			image := blackPixel
			if i == 5 {
				image = whitePixel
			}
			_, err := b.classify(image)
			var guilty *InputError
			if bad := errors.As(err, &guilty); bad != (i == 5) || !bad && err != nil || bad && guilty.Reason != ReasonModelRefused {
				t.Errorf("image %d: got %v", i, err)
			}
		})
	}
	callers.Wait()
	if _, err := b.classify([]byte("no image")); mayPass(err) {
		t.Errorf("not an image: got %v", err)
	}
}

// No library: what would serve here is known all the same, and asked for.
func TestFallbackWithoutLibrary(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Versions, fake.Classes = []int64{1, 2}, 1
	server := remotetest.Serve(t, fake)
	c := tinyConfig(with(t, 1))
	b, err := NewFallback(c, remoteConfig(server), "", slog.New(slog.DiscardHandler), Unobserved{}, &watched{})
	if err != nil {
		t.Fatal(err)
	}
	missing := errors.New("none")
	b.missing.Store(&missing) // as on a machine without: this process has one
	candidates, err := scan(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	b.remember(candidates)
	defer b.Close()
	if b.server.decoding != b.decoding {
		t.Error("images for the server are decoded besides those for the versions here, each with all the memory")
	}
	p, err := b.Classify(t.Context(), nil, blackPixel)
	if err != nil || p.Backend != BackendRemote || p.Version != 1 || !strings.Contains(p.Reason, "no TensorFlow runtime") {
		t.Errorf("got %+v, %v", p, err)
	}
}

// When the server goes on to another version, what is said of an image is that
// version's; one that does not answer with what it says it has is not believed.
func TestServerGoesOn(t *testing.T) {
	base := t.TempDir()
	tiny{label: "first"}.write(t, filepath.Join(base, "1"))
	tiny{label: "second"}.write(t, filepath.Join(base, "2"))
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	server := remotetest.Serve(t, fake)
	c := tinyConfig(base)
	c.Backend = OnlyRemote
	s, err := NewServer(c, remoteConfig(server), slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	answer := func() (p Prediction) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if p, err = s.Classify(t.Context(), nil, blackPixel); err == nil {
				return p
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	if p := answer(); p.Version != 1 || p.Classes[0].Label != "first" {
		t.Errorf("got %+v", p)
	}
	server.Kill()
	fake.Versions = []int64{1, 2}
	server.Start()
	if p := answer(); p.Version != 2 || p.Classes[0].Label != "second" {
		t.Errorf("got %+v", p)
	}
	fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		r.ModelSpec.VersionChoice = &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(1)}
		return nil, nil //nolint:nilnil // it goes on with the request
	})
	if _, err := s.Classify(t.Context(), nil, blackPixel); err == nil || !mayPass(err) || !strings.Contains(err.Error(), "it has version 2, and answers with 1") {
		t.Errorf("got %v", err)
	}
}

// A Server alone needs neither directory nor library.
func TestServerAlone(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	server := remotetest.Serve(t, fake)
	c := tinyConfig("")
	c.Backend = OnlyRemote
	s, err := NewServer(c, remoteConfig(server), slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := s.Classify(t.Context(), nil, blackPixel)
	if err != nil || p.Backend != BackendRemote || p.Version != 1 || p.Reason != "" || p.Classes[0].Index != 0 || p.Image.Format != "bmp" {
		t.Errorf("got %+v, %v", p, err)
	}
	if err := s.Use(t.Context(), 1); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("use: got %v", err)
	}
	if info, err := s.Check(t.Context(), 1); err != nil || info.Version != 1 {
		t.Errorf("check: %v, %v", info, err)
	}
}
