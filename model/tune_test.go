package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"inceptor/model/remote"
	"inceptor/testenv"
)

func TestTune(t *testing.T) {
	openLibrary(t)
	c := testConfig(testenv.Tiny(t))
	trials, err := tune(t.Context(), c, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, trial := range trials {
		tried[strings.TrimSpace(fmt.Sprint(trial.Optimize, " ", trial.Kernels, " ", trial.Precision))] = true
		tried[fmt.Sprint(trial.Threads, " threads")] = true
		if trial.Precision != "" { // it has no convolutions
			if trial.WhyNot == "" || trial.Precision != precisionBFloat16 {
				t.Errorf("got %+v", trial)
			}
			continue
		}
		if trial.WhyNot != "" || len(trial.Runs) != 3 || trial.Runs[1] <= 0 || trial.Load <= 0 || trial.Differs > maxDiffers {
			t.Errorf("got %+v", trial)
		}
	}
	for _, want := range []string{"off", "auto tensorflow", "auto onednn", "auto onednn bfloat16", "0 threads", fmt.Sprint(runtime.NumCPU()/2, " threads")} {
		if !tried[want] {
			t.Errorf("%s is not tried: %v", want, tried)
		}
	}
	if len(trials) < 3 || trials[0].Optimize != optimizeOff && trials[0].Optimize != optimizeAuto {
		t.Errorf("got %+v", trials)
	}
	c.Dir = t.TempDir()
	if _, err := tune(t.Context(), c, time.Millisecond); !errors.Is(err, ErrNoVersion) {
		t.Errorf("got %v", err)
	}
	tinyOf(1).write(t, c.Dir+"/1")
	trials, err = tune(t.Context(), c, time.Millisecond)
	if err != nil || trials[0].WhyNot != "" {
		t.Errorf("got %+v, %v", trials, err)
	}
}

func TestCompareGraphs(t *testing.T) {
	openLibrary(t)
	c := testConfig(t.TempDir())
	c.Optimize = optimizeAuto
	if _, err := CompareGraphs(t.Context(), c, 1); !errors.Is(err, ErrNoVersion) {
		t.Errorf("got %v", err)
	}
	c.Dir = testenv.Tiny(t)
	trial, err := CompareGraphs(t.Context(), c, 1)
	if err != nil || trial.WhyNot != "" || trial.Kernels == "" || trial.Precision != "float32" || trial.Differs > maxDiffers {
		t.Errorf("got %+v, %v", trial, err)
	}
}

// The version that is asked for is tried, 0 too, and else the newest.
func TestTunerVersionZero(t *testing.T) {
	c := tinyConfig(with(t, 0, 1))
	for asked, want := range map[int64]int64{0: 0, 1: 1, remote.NoVersion: 1} {
		tuner, err := newTuner(c, 0, asked)
		if err != nil || tuner.at.number != want {
			t.Errorf("asked for %d: got %+v, %v", asked, tuner, err)
		}
	}
}

// Scores that are not those of the model as it is are an error, but for
// bfloat16.
func TestScoresThatDiffer(t *testing.T) {
	openLibrary(t)
	for precision, refused := range map[string]bool{"": true, precisionBFloat16: false} {
		tuner, err := newTuner(tinyConfig(with(t, 1)), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		v, _, drop, err := tuner.load(t.Context(), tuner.config)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []float32{0, 5e-6, 3e-5} {
			tuner.want[1] = [][]float32{{1 + off}}
			trial := Trial{Precision: precision, Runs: map[int]time.Duration{}}
			err := tuner.run(t.Context(), v, 1, &trial)
			if (err != nil) != (refused && off > maxDiffers) || off > maxDiffers && trial.Differs < maxDiffers {
				t.Errorf("precision %q, off by %v: %v, it differs by %v", precision, off, err, trial.Differs)
			}
		}
		drop()
	}
}

// A model that parses tf.Examples with a feature that must be there is tried
// with its golden records, and not at all without.
func TestTuneExamples(t *testing.T) {
	openLibrary(t)
	c := testConfig(testenv.Tiny(t, "--kind", "example"))
	c.Content, c.Optimize = Examples, optimizeAuto
	if _, err := tune(t.Context(), c, time.Millisecond); !errors.Is(err, errMadeUp) {
		t.Errorf("got %v", err)
	}
	if trial, err := CompareGraphs(t.Context(), c, 1); err != nil || !strings.Contains(trial.WhyNot, errMadeUp.Error()) {
		t.Errorf("got %+v, %v", trial, err)
	}
	list := filepath.Join(c.Dir, "1", goldenFile)
	// tensorflow/core/example/example.proto: the feature x, a list of the floats 0 and 1.
	write(t, filepath.Join(filepath.Dir(list), "record"), []byte("\x0a\x13\x0a\x11\x0a\x01x\x12\x0c\x12\x0a\x0a\x08\x00\x00\x00\x00\x00\x00\x80\x3f"))
	write(t, list, []byte("- {image: record, label: bright, floor: 0.7}\n"))
	trials, err := tune(t.Context(), c, time.Millisecond)
	if err != nil || trials[0].WhyNot != "" || trials[0].Runs[1] <= 0 {
		t.Errorf("got %+v, %v", trials, err)
	}
	if trial, err := CompareGraphs(t.Context(), c, 1); err != nil || len(trial.Runs) == 0 || strings.Contains(trial.WhyNot, "golden") {
		t.Errorf("got %+v, %v", trial, err)
	}
}

func TestTrialOrder(t *testing.T) {
	ms := func(a, b, c int) map[int]time.Duration {
		return map[int]time.Duration{1: time.Duration(a) * time.Millisecond, 2: time.Duration(b) * time.Millisecond, 4: time.Duration(c) * time.Millisecond}
	}
	for _, test := range []struct {
		runs map[int]time.Duration
		size int
		each time.Duration
	}{
		{ms(10, 10, 10), 4, 2500 * time.Microsecond},
		{ms(10, 20, 40), 1, 10 * time.Millisecond},
		{ms(100, 196, 388), 2, 98 * time.Millisecond}, // as good as 4
		{ms(10, 30, 90), 1, 10 * time.Millisecond},
	} {
		if size, each := (Trial{Runs: test.runs}).Each(); size != test.size || each != test.each {
			t.Errorf("%v: got %v in batches of %d", test.runs, each, size)
		}
	}
	fast, slow := Trial{Runs: ms(1, 2, 3)}, Trial{Runs: ms(2, 4, 6)}
	none := Trial{WhyNot: "it differs", Runs: ms(1, 1, 1)}
	half := Trial{Precision: precisionBFloat16, Runs: ms(1, 1, 1)}
	if compareTrials(slow, half) >= 0 || compareTrials(half, none) >= 0 {
		t.Error("bfloat16 is not between those that may be taken and those that may not")
	}
	if compareTrials(fast, slow) >= 0 || compareTrials(none, slow) <= 0 || compareTrials(fast, fast) != 0 {
		t.Error("they are out of order")
	}
}
