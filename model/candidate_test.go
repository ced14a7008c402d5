package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/testenv"
)

// A precisionRun is a Manager that runs on a model with convolutions, and answers a record now and
// then.
type precisionRun struct {
	*Manager
	t       *testing.T
	stop    func()
	log     *lockedBuffer
	picture []byte
}

// A lockedBuffer is a buffer for many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// runPrecision runs the versions in base with model.precision int8, until stop or the end of the
// test.
func runPrecision(t *testing.T, base string, change ...func(*Config)) *precisionRun {
	t.Helper()
	modeltest.OpenLibrary(t)
	c := tinyConfig(base)
	c.Optimize, c.Precision, c.Calibration.Records = optimizeAuto, precisionInt8, 4
	c.Probation = Probation{Period: time.Minute, Errors: 0.1, Slowdown: 2}
	for _, f := range change {
		f(&c)
	}
	r := &precisionRun{t: t, log: &lockedBuffer{}, picture: modeltest.PNG(t, 48, 48)}
	var err error
	if r.Manager, err = New(c, slog.New(slog.NewTextHandler(r.log, nil)), Unobserved{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		r.Close()
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// until answers records until ok, and returns the precision of the last answer.
func (r *precisionRun) until(what string, ok func(Status) bool) (precision string) {
	r.t.Helper()
	const limit = 10 * time.Minute // hundreds of records are answered in the background
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		status := Status{}
		if list := r.Versions(); len(list) > 0 {
			status = list[0]
		}
		if ok(status) {
			return precision
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: not after %v: %+v", what, limit, status)
		}
		p, err := r.Classify(r.t.Context(), nil, r.picture)
		if err == nil {
			precision = p.Precision
		}
	}
}

func (r *precisionRun) said(text string) func(Status) bool {
	return func(Status) bool { return strings.Contains(r.log.String(), text) }
}

func inInt8(s Status) bool { return s.Precision == precisionInt8 }

// If int8 is slow on probation, float32 serves again, and int8 is not tried again: not after a
// restart either.
func TestPrecisionGoesBack(t *testing.T) {
	base := testenv.Tiny(t, "--kind", "convolutions")
	r := runPrecision(t, base)
	r.until("int8", inInt8)
	if s := r.Versions()[0]; s.Probation.IsZero() || s.State != StateServing || s.WhyPrecision == "" || s.Trying != "" {
		t.Errorf("on probation: %+v", s)
	}
	v := r.published.routes.Load().stable
	if got := r.until("a run in int8", func(Status) bool { _, runs := v.Stats().Medians(); return len(runs) > 0 }); got != precisionInt8 {
		t.Errorf("answers are in %s", got)
	}
	for size := range 2 { // as if they had taken so long
		for _, shared := range []bool{false, true} {
			for range 2 * infer.StatsWindow {
				v.Stats().Add(infer.Run{Size: size + 1, Shared: shared, Took: time.Minute})
			}
		}
	}
	if got := r.until("float32 again", func(s Status) bool { return s.Precision == precisionFloat32 }); got == "" {
		t.Error("no record was answered meanwhile")
	}
	s := r.Versions()[0]
	if s.State != StateServing || s.Label != LabelStable || !strings.HasPrefix(s.WhyPrecision, "int8: slow: its runs take") || !s.Probation.IsZero() {
		t.Errorf("after the way back: %+v", s)
	}
	if p, err := r.Classify(t.Context(), nil, r.picture); err != nil || p.Precision != precisionFloat32 || p.Version != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
	r.stop()

	again := runPrecision(t, base)
	again.until("a version", func(s Status) bool { return s.State == StateServing })
	if s := again.Versions()[0]; s.Precision != precisionFloat32 || !strings.HasPrefix(s.WhyPrecision, "int8: slow") {
		t.Errorf("after a restart: %+v", s)
	}
	if got := again.log.String(); strings.Contains(got, "calibrating") {
		t.Errorf("it tries again:\n%s", got)
	}
}

// A new version ends what is tried with the one before, and begins in float32. It is not slow for
// that.
func TestPrecisionOfANewVersion(t *testing.T) {
	base := testenv.Tiny(t, "--kind", "convolutions")
	r := runPrecision(t, base, func(c *Config) { c.Calibration.Records = 100_000; c.Probation.Period = 0 })
	r.until("calibrating", r.said("step=calibrating"))
	if s := r.Versions()[0]; !strings.HasPrefix(s.Trying, "calibrating int8: ") || s.Precision != precisionFloat32 {
		t.Errorf("meanwhile: %+v", s)
	}
	publishConvolutions(t, base, 2)
	r.until("version 2", func(s Status) bool { return s.Version == 2 && s.State == StateServing })
	r.until("calibrating version 2", r.said(`msg="calibrating another precision on records; the version that serves goes on" model=tiny version=2`))
}

func publishConvolutions(t *testing.T, base string, version int) {
	t.Helper()
	number := fmt.Sprint(version)
	made := testenv.Tiny(t, "--kind", "convolutions", "--version", number)
	if err := os.Rename(made+"/"+number, base+"/"+number); err != nil {
		t.Fatal(err)
	}
}

// A model that cannot run in int8 stays in float32, and says why.
func TestPrecisionIsNotPossible(t *testing.T) {
	r := runPrecision(t, testenv.Tiny(t))
	r.until("a refusal", func(s Status) bool { return s.WhyPrecision != "" && s.Trying == "" })
	s := r.Versions()[0]
	if s.State != StateServing || s.Precision != precisionFloat32 || !strings.HasPrefix(s.WhyPrecision, "int8: no layer of the model can be computed in int8") {
		t.Errorf("got %+v", s)
	}
}

// If native code crashes the process while int8 is tried, int8 is refused, and not the version.
func TestBlamePrecision(t *testing.T) {
	base := testenv.Tiny(t, "--kind", "convolutions")
	first := runPrecision(t, base)
	first.until("comparing", first.said("step=comparing"))
	crashed := modeltest.CopyVersion(t, base) // as the process would leave it
	if err := os.CopyFS(crashed+"/.inceptor.precision", os.DirFS(base+"/.inceptor.precision")); err != nil {
		t.Fatal(err)
	}
	first.stop()

	c := tinyConfig(crashed)
	c.Optimize, c.Precision, c.Calibration.Records = optimizeAuto, precisionInt8, 4
	m, err := New(c, slog.New(slog.DiscardHandler), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !m.Blame(1) {
		t.Fatal("nothing is to blame")
	}
	if m.Blame(1) {
		t.Error("it is to blame twice")
	}
	again := runPrecision(t, crashed)
	again.until("a version", func(s Status) bool { return s.State == StateServing })
	if s := again.Versions()[0]; !strings.HasPrefix(s.WhyPrecision, "int8: crash: ") {
		t.Errorf("after the crash: %+v", s)
	}

	c.Dir = base // it was stopped in order
	if m, err = New(c, slog.New(slog.DiscardHandler), Unobserved{}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Blame(1) {
		t.Error("int8 is to blame although the process has stopped in order")
	}
}

// A calibration that the machine ends is tried again later: int8 is not refused for it.
func TestCalibrationInterrupted(t *testing.T) {
	r := runPrecision(t, testenv.Tiny(t, "--kind", "convolutions"), func(c *Config) { c.Precision = precisionFloat32 })
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := r.published.routes.Load().stable
	ended, end := context.WithCancel(t.Context())
	end()
	w := stepWork{serving: v, v: v, tap: &tap{}, progress: &progress{log: slog.New(slog.DiscardHandler)}}
	if _, err := w.calibrate(ended, 1); !errors.Is(err, context.Canceled) || errors.As(err, new(*refusal)) {
		t.Errorf("got %v (%T)", err, err)
	}
	if err := infer.CheckInt8(v); err != nil {
		t.Errorf("it can run in int8: %v", err)
	}
}
