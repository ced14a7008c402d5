package model

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

func testConfig(dir string) Config {
	return Config{Name: "inception", Dir: dir, Batch: infer.Batch{Max: 4}, MaxPixels: 40e6,
		Poll: time.Second, Quiet: 100 * time.Millisecond, Gate: Gate{Timeout: 10 * time.Minute}}
}

func open(t testing.TB, c Config) *Manager {
	t.Helper()
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	m, err := New(c, slog.New(slog.DiscardHandler), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if err := m.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// tolerance is how far a score may be from Python TensorFlow's.
const tolerance = 1e-4

func TestClassifyEqualsPython(t *testing.T) {
	for _, optimize := range []string{"off", "auto"} {
		t.Run("optimize "+optimize, func(t *testing.T) { testClassifyEqualsPython(t, optimize) })
	}
}

func testClassifyEqualsPython(t *testing.T, optimize string) {
	c := testConfig(testenv.Model(t))
	c.Optimize = optimize
	m := open(t, c)
	var wg sync.WaitGroup
	for _, want := range testenv.Answers(t) {
		if want.Format == "webp" && want.Error != "" {
			continue // alpha and an animation: TestWebPOnWhite
		}
		image, err := os.ReadFile(want.File)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { // side by side, so that batches form
			p, err := m.Classify(t.Context(), nil, image)
			checkAnswer(t, want, p, err)
		})
	}
	wg.Wait()
}

func checkAnswer(t *testing.T, want testenv.Answer, p infer.Prediction, err error) {
	name := filepath.Base(want.File)
	var guilty *infer.InputError
	switch {
	case want.Error != "":
		if !errors.As(err, &guilty) {
			t.Errorf("%s: got %v, Python refuses it: %s", name, err, want.Error)
		}
		return
	case err != nil:
		t.Errorf("%s: %v", name, err)
		return
	}
	if h := p.Image; h.Format != want.Format || h.Width != want.Width || h.Height != want.Height {
		t.Errorf("%s: got %s %d×%d, want %s %d×%d", name, h.Format, h.Width, h.Height, want.Format, want.Width, want.Height)
	}
	if len(p.Classes) != len(want.Scores) {
		t.Errorf("%s: got %d classes, want %d", name, len(p.Classes), len(want.Scores))
	}
	for i, c := range p.Classes {
		if d := math.Abs(float64(c.Score) - want.Scores[c.Index]); d > tolerance {
			t.Errorf("%s: class %d scores %v, Python says %v", name, c.Index, c.Score, want.Scores[c.Index])
		}
		if i > 0 && c.Score > p.Classes[i-1].Score {
			t.Errorf("%s: classes are not ranked: %v", name, p.Classes)
		}
		if want := []string{"Drawing", "Hentai", "Neutral", "Porn", "Sexy"}[c.Index]; c.Label != want {
			t.Errorf("%s: class %d is called %q, want %q", name, c.Index, c.Label, want)
		}
	}
}

// The signature of encoded images answers like the one of pixels. An image that it refuses does not
// affect the others of the batch.
func TestClassifyEncoded(t *testing.T) {
	dir := modeltest.CopyVersion(t, testenv.Model(t))
	spec := "signature: serving_bytes\noutput: scores\nlabels: labels.txt\ntop_k: 5\n"
	if err := os.WriteFile(filepath.Join(dir, "1", infer.SpecFile), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, testConfig(dir))
	var wg sync.WaitGroup
	for _, want := range testenv.Answers(t) {
		image, err := os.ReadFile(want.File)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			p, err := m.Classify(t.Context(), nil, image)
			checkAnswer(t, want, p, err)
		})
	}
	wg.Wait()
}

func TestClassifyLimits(t *testing.T) {
	c := testConfig(testenv.Model(t))
	c.MaxPixels = 640*427 - 1
	m := open(t, c)
	image, err := os.ReadFile(filepath.Join(testenv.Photos(t), "china.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Classify(t.Context(), nil, image)
	var guilty *infer.InputError
	if !errors.As(err, &guilty) || guilty.Reason != infer.ReasonTooManyPixels {
		t.Errorf("got %v, want %s", err, infer.ReasonTooManyPixels)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Classify(ctx, nil, modeltest.BlackImage); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if p, err := m.Classify(t.Context(), nil, modeltest.BlackImage); err != nil || p.Image.Width != 1 {
		t.Errorf("black pixel: got %+v, %v", p, err)
	}
}

func TestClose(t *testing.T) {
	m := open(t, testConfig(testenv.Model(t)))
	v, _, err := m.published.acquire(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		m.Close()
	}()
	for m.published.routes.Load().stable != nil {
		time.Sleep(time.Millisecond)
	}
	if _, err := m.Classify(t.Context(), nil, modeltest.BlackImage); !errors.Is(err, ErrNoVersion) {
		t.Errorf("closed manager: got %v, want ErrNoVersion", err)
	}
	if _, err := v.Classify(t.Context(), modeltest.BlackImage); err != nil {
		t.Errorf("retained version: %v", err)
	}
	v.Release()
	<-closed
	if v.Retain() {
		t.Error("a version was retained after it had been freed")
	}
}

func TestLoadRefuses(t *testing.T) {
	good := testenv.Model(t)
	change := func(name, content string) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := modeltest.CopyVersion(t, good)
			if err := os.WriteFile(filepath.Join(dir, "1", name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
	for _, test := range []struct {
		name string
		dir  func(*testing.T) string
		want string
	}{
		{"no directory", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, "model.dir"},
		{"no version", func(t *testing.T) string { return t.TempDir() }, "has no version"},
		{"a version itself", func(*testing.T) string { return filepath.Join(good, "1") }, "is a version itself"},
		{"missing shard", func(t *testing.T) string {
			dir := modeltest.CopyVersion(t, good)
			if err := os.Remove(filepath.Join(dir, "1/variables/variables.data-00000-of-00001")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "variables.data-00000-of-00001"},
		{"short shard", func(t *testing.T) string {
			dir := modeltest.CopyVersion(t, good)
			shard := filepath.Join(dir, "1/variables/variables.data-00000-of-00001")
			info, err := os.Stat(shard)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(shard, info.Size()-1); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "variables.data-00000-of-00001"},
		{"not a model", change("saved_model.pb", "nonsense"), "saved_model.pb"},
		{"too few labels", change("assets/labels.txt", "one\ntwo\n"), "2 labels for 5 classes"},
		{"unknown key", change(infer.SpecFile, "signatur: x\n"), "signatur"},
		{"unknown signature", change(infer.SpecFile, "signature: x\n"), `no signature "x"`},
		{"unknown output", change(infer.SpecFile, "output: x\n"), `no output "x"`},
		{"wrong size", change(infer.SpecFile, "input: {size: [1, 2]}\n"), "input.size: [1, 2] is not the size of the input"},
		{"wrong resize", change(infer.SpecFile, "input: {resize: cubic}\n"), "cubic"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
				t.Fatal(err)
			}
			m, err := New(testConfig(test.dir(t)), slog.New(slog.DiscardHandler), Unobserved{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err = m.Load(t.Context()); err == nil {
				t.Fatal("it loaded")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want it to tell of %q", err, test.want)
			}
		})
	}
}
