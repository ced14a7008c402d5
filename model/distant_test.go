package model

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// While a version is loaded in place of another one, the server answers.
func TestFallbackWhileReplacing(t *testing.T) {
	base := with(t, 1)
	fake := remotetest.NewFake("tiny")
	fake.Versions, fake.Classes = []int64{1, 2}, 1
	c := tinyConfig(base)
	c.Backend, c.Copies = LocalThenRemote, copiesOne
	r := remoteConfig(remotetest.Serve(t, fake))
	r.Timeout, r.Budget = 10*time.Second, 10*time.Second
	witness := &witness{}
	f, err := NewFallback(c, r, testenv.TensorFlow(t), slog.New(slog.DiscardHandler), witness, &watched{})
	if err != nil {
		t.Fatal(err)
	}
	b := &fallBench{bench: &bench{TB: t, base: base, Manager: f.Manager, witness: witness}, Fallback: f}
	runBackend(t, f)
	b.awaitBackend(BackendLocal)
	b.put(2, tiny{bias: 2, slow: 3000})
	b.await("pause", func() bool { return f.routes.Load().paused != nil })
	p, err := b.classify(blackPixel)
	if err != nil || p.Backend != BackendRemote || !strings.Contains(p.Reason, "version 2 is being loaded in place of the last one") {
		t.Errorf("got %+v, %v", p, err)
	}
	if p := b.awaitBackend(BackendLocal); p.Version != 2 {
		t.Errorf("got %+v", p)
	}
}

// After three failures in a row the version here has a rest of five seconds;
// then one image tries it.
func TestFallbackRests(t *testing.T) {
	needed := filepath.Join(t.TempDir(), "file")
	write(t, needed+"0", nil)
	base := t.TempDir()
	tiny{bias: 2, needs: needed}.write(t, filepath.Join(base, "2"))
	b := runFallback(t, base)
	b.awaitBackend(BackendLocal)
	b.must(os.Remove(needed + "0"))
	var opened time.Time
	for i := range 3 {
		if s := b.breaker.State(); s != gobreaker.StateClosed {
			t.Errorf("after %d failures: %v", i, s)
		}
		if p, err := b.classify(blackPixel); err != nil || p.Backend != BackendRemote {
			t.Fatalf("got %+v, %v", p, err)
		}
		opened = time.Now()
	}
	if s := b.breaker.State(); s != gobreaker.StateOpen {
		t.Errorf("after 3 failures: %v", s)
	}
	write(t, needed+"0", nil)
	b.awaitBackend(BackendLocal)
	if took := time.Since(opened); took < 4500*time.Millisecond {
		t.Errorf("it is tried again after %v", took)
	}
}

// Images go to the server in batches, so many at once.
func TestServerBatches(t *testing.T) {
	b := runFallback(t, t.TempDir(), func(r *remote.Config) {
		r.Concurrency, r.Timeout, r.Budget = 1, 20*time.Second, 20*time.Second
	})
	b.awaitBackend(BackendRemote)
	var mu sync.Mutex
	var sizes []int
	entered, hold := make(chan struct{}, 10), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	b.fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		mu.Lock()
		sizes = append(sizes, len(r.GetInputs()[remotetest.BytesInput].GetStringVal()))
		mu.Unlock()
		entered <- struct{}{}
		<-hold
		return nil, nil //nolint:nilnil // it goes on with the request
	})
	var callers sync.WaitGroup
	ask := func() {
		callers.Go(func() {
			if _, err := b.classify(blackPixel); err != nil {
				t.Error(err)
			}
		})
	}
	ask()
	<-entered
	for range 4 { // they gather meanwhile, two in a batch
		ask()
	}
	places := b.Fallback.server.bound.batcher.limit // two batches', the one under way included
	b.await("the others wait", func() bool { return len(places) == cap(places) })
	release()
	callers.Wait()
	mu.Lock()
	defer mu.Unlock()
	if sizes[0] != 1 || slices.Max(sizes) != 2 || b.fake.Most.Load() != 1 {
		t.Errorf("batches of %v, %d at once", sizes, b.fake.Most.Load())
	}
}

// What is told of labels and preprocessing is that of the version that the
// server has, else of the wanted one, else of the highest.
func TestDirOf(t *testing.T) {
	base, zero := with(t, 1, 2, 10), with(t, 0, 1)
	for _, test := range []struct {
		dir       string
		has, want int64
		from      string
	}{
		{base, 2, 1, "2"},
		{base, 7, 1, "1"},
		{base, 7, 8, "10"},
		{base, 7, remote.NoVersion, "10"},
		{zero, 7, 0, "0"},
		{zero, remote.NoVersion, remote.NoVersion, "1"},
		{t.TempDir(), 1, 1, ""},
		{"", 1, 1, ""},
	} {
		d := &distant{config: Config{Dir: test.dir}, log: slog.New(slog.DiscardHandler)}
		from := ""
		if dir := d.dirOf([]int64{test.has, test.want}); dir != "" {
			from = filepath.Base(dir)
		}
		if from != test.from {
			t.Errorf("the server has %d, wanted is %d: told by %q, want %q", test.has, test.want, from, test.from)
		}
	}
	d := &distant{log: slog.New(slog.DiscardHandler)}
	spec, labels, err := d.spec(1, 1)
	if err != nil || !reflect.DeepEqual(spec, defaultSpec()) || labels != nil {
		t.Errorf("without a directory: %+v, %q, %v", spec, labels, err)
	}
}

// Images are sent as they came where the server or the version takes them so,
// else as pixels that TensorFlow makes where its library is.
func TestHowImagesAreSent(t *testing.T) {
	openLibrary(t)
	info := func(dtype savedmodel.DataType, shape ...int64) map[string]savedmodel.TensorInfo {
		return map[string]savedmodel.TensorInfo{"images": {DType: dtype, Shape: shape}}
	}
	scores := info(savedmodel.Float32, -1, 1)
	pixels := savedmodel.Signature{Inputs: info(savedmodel.Float32, -1, 2, 2, 3), Outputs: scores}
	encoded := savedmodel.Signature{Inputs: info(savedmodel.String, -1), Outputs: scores}
	for name, test := range map[string]struct {
		signatures map[string]savedmodel.Signature
		pixels     bool
	}{
		"both signatures":       {map[string]savedmodel.Signature{"serving_default": pixels, "serving_bytes": encoded}, false},
		"its own takes strings": {map[string]savedmodel.Signature{"serving_default": encoded}, false},
		"pixels alone":          {map[string]savedmodel.Signature{"serving_default": pixels}, true},
	} {
		d := &distant{config: tinyConfig(""), lanes: 1, log: slog.New(slog.DiscardHandler)}
		b, err := d.newBinding(remote.Metadata{Version: 1, Signatures: test.signatures}, remote.NoVersion, false)
		if err != nil {
			t.Fatal(err)
		}
		if (b.decoder != nil) != test.pixels || (b.decode != nil) != test.pixels {
			t.Errorf("%s: decoded %v, by TensorFlow %v, want %v", name, b.decode != nil, b.decoder != nil, test.pixels)
		}
		b.drop()
		<-b.freed
	}
}

// An asked is a fake that counts how often it is asked what it takes.
type asked struct {
	*remotetest.Fake
	n atomic.Int64
}

func (a *asked) GetModelMetadata(ctx context.Context, r *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	a.n.Add(1)
	return a.Fake.GetModelMetadata(ctx, r)
}

func runAsked(t *testing.T, content Content) (*asked, *Server) {
	t.Helper()
	fake := &asked{Fake: remotetest.NewFake("tiny")}
	c := tinyConfig("")
	c.Backend, c.Content = OnlyRemote, content
	r := remoteConfig(remotetest.Serve(t, fake))
	r.Timeout, r.Budget, r.Breaker.Failures = 10*time.Second, 10*time.Second, 1000
	s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fake, s
}

// What the server takes is asked once, and again when it begins to refuse.
func TestServerIsAskedOnce(t *testing.T) {
	fake, s := runAsked(t, Images)
	for range 10 {
		if _, err := s.Classify(t.Context(), nil, blackPixel); err != nil {
			t.Fatal(err)
		}
	}
	if n := fake.n.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	fake.Fail(remotetest.PermissionDenied, "no")
	if _, err := s.Classify(t.Context(), nil, blackPixel); err == nil || !mayPass(err) {
		t.Errorf("got %v", err)
	}
	fake.SetHook(nil)
	if _, err := s.Classify(t.Context(), nil, blackPixel); err != nil {
		t.Error(err)
	}
	if n := fake.n.Load(); n < 2 {
		t.Errorf("asked %d times, want again", n)
	}
}

// A row that the server refuses is to blame only while the server has the
// signature that it had: there is no blank row to try.
func TestServerRefusesRow(t *testing.T) {
	fake, s := runAsked(t, Rows)
	row := []byte("[[[1,2,3]]]")
	if _, err := s.Classify(t.Context(), nil, row); err != nil {
		t.Fatal(err)
	}
	fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return nil, remotetest.Invalid("no")
	})
	if _, err := s.Classify(t.Context(), nil, row); err == nil || mayPass(err) {
		t.Errorf("with the signature that it had: got %v", err)
	}
	fake.Classes = 7
	if _, err := s.Classify(t.Context(), nil, row); err == nil || !mayPass(err) {
		t.Errorf("with another signature: got %v", err)
	}
}

// An image that the server does not take for its size, alone too, is a dead
// letter where the server alone answers, and waits where a version here may.
func TestTooLargeForServer(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	r := remoteConfig(remotetest.Serve(t, fake, remotetest.AtMost(1000)))
	large := slices.Concat(pngImage(t, 1, 1), make([]byte, 2000)) // what follows IEND plays no part
	c := tinyConfig(t.TempDir())
	c.Backend = OnlyRemote
	s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	var guilty *InputError
	if _, err := s.Classify(t.Context(), nil, large); !errors.As(err, &guilty) || guilty.Reason != ReasonServerTooLarge {
		t.Errorf("the server alone: got %v", err)
	}
	if _, err := s.Classify(t.Context(), nil, blackPixel); err != nil {
		t.Errorf("a small one: got %v", err)
	}
	c.Backend = LocalThenRemote
	f, err := NewFallback(c, r, testenv.TensorFlow(t), slog.New(slog.DiscardHandler), Unobserved{}, &watched{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, f)
	if _, err := f.Classify(t.Context(), nil, large); err == nil || !mayPass(err) {
		t.Errorf("as a fallback: got %v", err)
	}
}
