package fallback

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// watched is a FallbackObserver that records its calls.
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

// A harness is a Fallback with tiny local versions and a fake server.
type harness struct {
	testing.TB
	*Fallback
	base   string // folder of the local versions
	fake   *remotetest.Fake
	server *remotetest.Server
	seen   *watched
	failed *failures
}

// failures records at which gates local versions failed.
type failures struct {
	model.Unobserved
	mu    sync.Mutex
	gates map[int64][]string
}

func (f *failures) VersionFailed(version int64, gate string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gates == nil {
		f.gates = map[int64][]string{}
	}
	f.gates[version] = append(f.gates[version], gate)
}

func (f *failures) of(version int64) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.gates[version])
}

// remoteConfig gives calls enough time on a busy machine.
func remoteConfig(server *remotetest.Server) remote.Config {
	c := settings.Default[remote.Config]()
	c.Address = server.Addr()
	c.Timeout, c.Budget = 30*time.Second, 30*time.Second
	c.Breaker.Failures, c.Breaker.Open = 3, 200*time.Millisecond
	return c
}

// hasty is for calls that fail until their budget is spent.
func hasty(_ *model.Config, r *remote.Config) {
	r.Timeout, r.Budget = 300*time.Millisecond, 500*time.Millisecond
}

// localConfig is the configuration of tiny versions in base.
func localConfig(base string) model.Config {
	return model.Config{
		Name: "tiny", Dir: base, Batch: infer.Batch{Max: 2}, MaxPixels: 1e6,
		Poll: 20 * time.Millisecond, Quiet: 60 * time.Millisecond, Gate: model.Gate{Timeout: time.Minute},
	}
}

func runFallback(t *testing.T, base string, change ...func(*model.Config, *remote.Config)) *harness {
	t.Helper()
	fake := remotetest.NewFake("tiny")
	fake.Versions, fake.Classes = []int64{1, 2}, 1
	b := &harness{TB: t, base: base, fake: fake, server: remotetest.Serve(t, fake), seen: &watched{}, failed: &failures{}}
	c, r := localConfig(base), remoteConfig(b.server)
	c.Backend = model.LocalThenRemote
	for _, f := range change {
		f(&c, &r)
	}
	var err error
	if b.Fallback, err = New(c, r, testenv.TensorFlow(t), slog.New(slog.DiscardHandler), b.failed, b.seen); err != nil {
		t.Fatal(err)
	}
	runBackend(t, b.Fallback)
	return b
}

// put publishes a version as one should: by rename.
func (b *harness) put(version int64, m modeltest.Tiny) {
	b.Helper()
	staging := filepath.Join(b.TempDir(), "v")
	m.Write(b, staging)
	b.must(os.Rename(staging, filepath.Join(b.base, strconv.FormatInt(version, 10))))
}

// patience is for what must happen in the end, on a busy machine too.
const patience = 3 * time.Minute

func (b *harness) await(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not after %v; versions %+v", what, patience, b.Versions())
		}
	}
}

func (b *harness) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// runBackend runs a Fallback or Server until the test ends.
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

func (b *harness) classify(image []byte) (infer.Prediction, error) {
	return b.Classify(context.Background(), nil, image)
}

// awaitBackend waits until this backend answers.
func (b *harness) awaitBackend(name string) infer.Prediction {
	b.Helper()
	var p infer.Prediction
	b.await("backend "+name, func() bool {
		var err error
		p, err = b.classify(modeltest.BlackImage)
		return err == nil && p.Backend == name
	})
	return p
}

// The server answers while there is no local version, with the reason. As soon as there is one,
// that answers.
func TestFallbackUntilThereIsAVersion(t *testing.T) {
	b := runFallback(t, t.TempDir())
	b.must(b.Wait(t.Context()))
	p := b.awaitBackend(infer.BackendRemote)
	if p.Version != 2 || p.Server != b.server.Addr() || !strings.Contains(p.Reason, "no version is serving") || p.Wanted != nil || p.Digest != "" {
		t.Errorf("got %+v", p)
	}
	if info, err := b.Serving(); err != nil || info.Version != 2 {
		t.Errorf("serving: %v, %v", info, err)
	}
	b.await("the observer's word", func() bool { fell, did := b.seen.state(); return fell && did > 0 })
	b.put(2, modeltest.TinyOf(2))
	if p := b.awaitBackend(infer.BackendLocal); p.Version != 2 || p.Reason != "" || p.Server != "" {
		t.Errorf("got %+v", p)
	}
	b.await("the observer's word", func() bool { fell, _ := b.seen.state(); return !fell })
}

// When local runs fail and no image is to blame, the server answers. When they recover, the local
// version answers again.
func TestFallbackWhileRunsFail(t *testing.T) {
	needed := filepath.Join(t.TempDir(), "file")
	modeltest.Write(t, needed+"0", nil)
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Needs: needed}.Write(t, filepath.Join(base, "2"))
	b := runFallback(t, base)
	b.awaitBackend(infer.BackendLocal)
	b.must(os.Remove(needed + "0"))
	for i := range 20 {
		p, err := b.classify(modeltest.BlackImage)
		if err != nil || p.Backend != infer.BackendRemote || p.Version != 2 || !strings.Contains(p.Reason, "runs fail: ") {
			t.Fatalf("image %d: got %+v, %v", i, p, err)
		}
	}
	if got := b.whyNotLocal(); !strings.Contains(got, "runs fail") {
		t.Errorf("it is not given a rest: %q", got)
	}
	modeltest.Write(t, needed+"0", nil)
	b.awaitBackend(infer.BackendLocal)
}

// With any fault of the server the image is not to blame, and does not wait for its end. When the
// server recovers, it answers.
func TestFallbackServerFaults(t *testing.T) {
	for _, test := range []struct {
		name   string
		broken func(*harness)
		mended func(*harness)
	}{
		{"killed", func(b *harness) { b.server.Kill() }, func(b *harness) { b.server.Start() }},
		{"frozen", func(b *harness) { b.server.Freeze() }, func(b *harness) { b.server.Thaw() }},
		{"cut", func(b *harness) { b.server.CutAfter(20) }, func(b *harness) { b.server.CutAfter(1 << 30) }},
		{"slow", func(b *harness) {
			b.fake.SetHook(func(ctx context.Context, _ *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}, func(b *harness) { b.fake.SetHook(nil) }},
		{"refusing", func(b *harness) { b.fake.Fail(remotetest.PermissionDenied, "no") }, func(b *harness) { b.fake.SetHook(nil) }},
		{"failing", func(b *harness) { b.fake.Fail(remotetest.Internal, "oh") }, func(b *harness) { b.fake.SetHook(nil) }},
		{"garbage", func(b *harness) {
			b.fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				return &tfpb.PredictResponse{Outputs: map[string]*tfpb.TensorProto{remotetest.Output: remotetest.Scores(7, 3)}}, nil
			})
		}, func(b *harness) { b.fake.SetHook(nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := runFallback(t, t.TempDir(), hasty)
			b.awaitBackend(infer.BackendRemote)
			test.broken(b)
			for range 5 {
				_, err := b.classify(modeltest.BlackImage)
				if err == nil || !mayPass(err) || !strings.Contains(err.Error(), "no version is serving") {
					t.Fatalf("got %v", err)
				}
			}
			test.mended(b)
			b.awaitBackend(infer.BackendRemote)
			if _, err := b.Serving(); err != nil {
				t.Errorf("it answers, and is said not to: %v", err)
			}
		})
	}
}

// A killed server makes the service not ready, until it is back.
func TestFallbackReadiness(t *testing.T) {
	b := runFallback(t, t.TempDir())
	b.awaitBackend(infer.BackendRemote)
	b.server.Kill()
	b.await("not ready", func() bool {
		_, _ = b.classify(modeltest.BlackImage)
		_, err := b.Serving()
		return errors.Is(err, model.ErrNoVersion) && strings.Contains(err.Error(), "does not answer")
	})
	b.server.Start()
	b.awaitBackend(infer.BackendRemote)
}

// With fallback.version=same only the version answers that would serve locally. With any, another
// one may, and the answer says so.
func TestFallbackParity(t *testing.T) {
	bad := func(t *testing.T) string {
		base := t.TempDir()
		modeltest.Tiny{Bias: 3, Broken: "weights"}.Write(t, filepath.Join(base, "3"))
		return base
	}
	t.Run("same", func(t *testing.T) {
		b := runFallback(t, bad(t))
		b.await("refusal", func() bool { return len(b.failed.of(3)) > 0 })
		if _, err := b.classify(modeltest.BlackImage); err == nil || !mayPass(err) || !strings.Contains(err.Error(), "3") {
			t.Errorf("got %v", err)
		}
		if _, err := b.Serving(); err == nil {
			t.Error("it is ready")
		}
		b.fake.Versions = []int64{1, 2, 3}
		if p := b.awaitBackend(infer.BackendRemote); p.Version != 3 || p.Wanted != nil {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("same, version 0", func(t *testing.T) {
		base := t.TempDir()
		modeltest.Tiny{Bias: 3, Broken: "weights"}.Write(t, filepath.Join(base, "0"))
		b := runFallback(t, base)
		b.await("refusal", func() bool { return len(b.failed.of(0)) > 0 })
		if p, err := b.classify(modeltest.BlackImage); err == nil || !mayPass(err) {
			t.Errorf("version 0 is wanted, and version %d has answered: %v", p.Version, err)
		}
		b.fake.Versions = []int64{0, 1, 2}
		if p := b.awaitBackend(infer.BackendRemote); p.Version != 0 || p.Wanted != nil {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("any, version 0 is wanted", func(t *testing.T) {
		base := t.TempDir()
		modeltest.Tiny{Bias: 3, Broken: "weights"}.Write(t, filepath.Join(base, "0"))
		b := runFallback(t, base, func(_ *model.Config, r *remote.Config) { r.Version = remote.AnyVersion })
		b.await("refusal", func() bool { return len(b.failed.of(0)) > 0 })
		if p := b.awaitBackend(infer.BackendRemote); p.Version != 2 || p.Wanted == nil || *p.Wanted != 0 {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("any", func(t *testing.T) {
		b := runFallback(t, bad(t), func(_ *model.Config, r *remote.Config) { r.Version = remote.AnyVersion })
		b.await("refusal", func() bool { return len(b.failed.of(3)) > 0 })
		if p := b.awaitBackend(infer.BackendRemote); p.Version != 2 || p.Wanted == nil || *p.Wanted != 3 || p.Classes[0].Label != "label 0" {
			t.Errorf("got %+v", p)
		}
	})
}

// The server's refusal of an image counts like that of a local version, and the others in the
// batch are answered.
func TestFallbackBadImage(t *testing.T) {
	b := runFallback(t, t.TempDir())
	b.awaitBackend(infer.BackendRemote)
	hold := make(chan struct{})
	b.fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		<-hold
		for _, image := range r.GetInputs()[remotetest.BytesInput].GetStringVal() {
			if string(image) == string(modeltest.WhiteImage) {
				return nil, remotetest.Invalid("too bright")
			}
		}
		return nil, nil
	})
	time.AfterFunc(50*time.Millisecond, func() { close(hold) })
	var callers sync.WaitGroup
	for i := range 10 {
		callers.Go(func() {
			image := modeltest.BlackImage
			if i == 5 {
				image = modeltest.WhiteImage
			}
			_, err := b.classify(image)
			var guilty *infer.InputError
			if bad := errors.As(err, &guilty); bad != (i == 5) || !bad && err != nil || bad && guilty.Reason != infer.ReasonModelRefused {
				t.Errorf("image %d: got %v", i, err)
			}
		})
	}
	callers.Wait()
	if _, err := b.classify([]byte("no image")); mayPass(err) {
		t.Errorf("not an image: got %v", err)
	}
}

// Without the library, the server is asked for the version that would serve locally.
func TestFallbackWithoutLibrary(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Versions, fake.Classes = []int64{1, 2}, 1
	server := remotetest.Serve(t, fake)
	c := localConfig(modeltest.TinyVersions(t, 1))
	b, err := New(c, remoteConfig(server), "", slog.New(slog.DiscardHandler), model.Unobserved{}, &watched{})
	if err != nil {
		t.Fatal(err)
	}
	missing := errors.New("none")
	b.missing.Store(&missing) // as on a machine without: this process has one
	if err := b.Scan(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.server.model.DecodeLimits() != b.DecodeLimits() {
		t.Error("the server and the local versions do not share the limits on decoding")
	}
	p, err := b.Classify(t.Context(), nil, modeltest.BlackImage)
	if err != nil || p.Backend != infer.BackendRemote || p.Version != 1 || !strings.Contains(p.Reason, "no TensorFlow runtime") {
		t.Errorf("got %+v, %v", p, err)
	}
}

// When the server changes to another version, labels and preprocessing are those of that version.
// A server that answers with another version than it reports is an error.
func TestServerGoesOn(t *testing.T) {
	base := t.TempDir()
	modeltest.Tiny{Label: "first"}.Write(t, filepath.Join(base, "1"))
	modeltest.Tiny{Label: "second"}.Write(t, filepath.Join(base, "2"))
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	server := remotetest.Serve(t, fake)
	c := localConfig(base)
	c.Backend = model.OnlyRemote
	s, err := NewServer(c, remoteConfig(server), slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	answer := func() (p infer.Prediction) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if p, err = s.Classify(t.Context(), nil, modeltest.BlackImage); err == nil {
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
	if _, err := s.Classify(t.Context(), nil, modeltest.BlackImage); err == nil || !mayPass(err) || !strings.Contains(err.Error(), "reports version 2, and answers with version 1") {
		t.Errorf("got %v", err)
	}
}

// A Server alone needs neither a directory nor the library.
func TestServerAlone(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	server := remotetest.Serve(t, fake)
	c := localConfig("")
	c.Backend = model.OnlyRemote
	s, err := NewServer(c, remoteConfig(server), slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := s.Classify(t.Context(), nil, modeltest.BlackImage)
	if err != nil || p.Backend != infer.BackendRemote || p.Version != 1 || p.Reason != "" || p.Classes[0].Index != 0 || p.Image.Format != "bmp" {
		t.Errorf("got %+v, %v", p, err)
	}
	if info, err := s.Check(t.Context(), 1); err != nil || info.Version != 1 {
		t.Errorf("check: %v, %v", info, err)
	}
}
