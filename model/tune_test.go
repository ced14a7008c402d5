package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/testenv"
)

// notShown ignores the progress.
func notShown(string, int, int) {}

func TestTune(t *testing.T) {
	modeltest.OpenLibrary(t)
	c := testConfig(testenv.Tiny(t))
	var shown []string
	found, err := tune(t.Context(), c, time.Millisecond, leastRounds, func(what string, done, total int) {
		shown = append(shown, what)
		if done != len(shown)-1 || total <= done {
			t.Errorf("%d of %d is shown after %d measurements", done, total, len(shown)-1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if first := "round 1, off float32"; shown[0] != first {
		t.Errorf("%q is shown first, want %q", shown[0], first)
	}
	measured := map[string]bool{}
	for _, m := range found.Measurements {
		measured[strings.TrimSpace(fmt.Sprint(m.Optimize, " ", m.Kernels, " ", m.Precision))] = true
		measured[fmt.Sprint(m.Threads, " threads")] = true
		if m.Precision != "" { // it has neither convolutions nor ranges
			if m.WhyNot == "" || m.Precision == precisionInt8 && !strings.Contains(m.WhyNot, "inceptor quantize") {
				t.Errorf("got %+v", m)
			}
			continue
		}
		if m.WhyNot != "" || len(m.Rounds) != leastRounds || len(m.Rounds[0]) != 3 ||
			m.Run(1) <= 0 || m.Load <= 0 || m.Differs > maxDiffers {
			t.Errorf("got %+v", m)
		}
	}
	for _, want := range []string{"off", "auto tensorflow", "auto onednn", "auto onednn bfloat16", "auto onednn int8", "0 threads", fmt.Sprint(runtime.NumCPU()/2, " threads")} {
		if !measured[want] {
			t.Errorf("%s is not measured: %v", want, measured)
		}
	}
	if found.Rounds != leastRounds || found.Batch < 1 || found.Batch > 4 {
		t.Errorf("got %d rounds, batches of %d", found.Rounds, found.Batch)
	}
	c.Dir = t.TempDir()
	if _, err := tune(t.Context(), c, time.Millisecond, leastRounds, notShown); !errors.Is(err, ErrNoVersion) {
		t.Errorf("got %v", err)
	}
	modeltest.TinyOf(1).Write(t, c.Dir+"/1")
	found, err = tune(t.Context(), c, time.Millisecond, leastRounds, notShown)
	if err != nil || found.Measurements[0].WhyNot != "" {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestCompareGraphs(t *testing.T) {
	modeltest.OpenLibrary(t)
	c := testConfig(t.TempDir())
	c.Optimize = optimizeAuto
	if _, err := CompareGraphs(t.Context(), c, 1); !errors.Is(err, ErrNoVersion) {
		t.Errorf("got %v", err)
	}
	c.Dir = testenv.Tiny(t)
	m, err := CompareGraphs(t.Context(), c, 1)
	if err != nil || m.WhyNot != "" || m.Kernels == "" || m.Precision != "float32" || m.Differs > maxDiffers {
		t.Errorf("got %+v, %v", m, err)
	}
}

// A tuner measures the version that is asked for, also 0, or else the newest.
func TestTunerVersionZero(t *testing.T) {
	c := tinyConfig(modeltest.TinyVersions(t, 0, 1))
	for asked, want := range map[int64]int64{0: 0, 1: 1, remote.NoVersion: 1} {
		tuner, err := newTuner(c, 0, asked)
		if err != nil || tuner.folder.Version != want {
			t.Errorf("asked for %d: got %+v, %v", asked, tuner, err)
		}
	}
}

// Scores that differ from the plain model's are an error, except in other precisions.
func TestScoresThatDiffer(t *testing.T) {
	modeltest.OpenLibrary(t)
	for precision, refused := range map[string]bool{"": true, precisionBFloat16: false, precisionInt8: false} {
		tuner, err := newTuner(tinyConfig(modeltest.TinyVersions(t, 1)), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		v, _, release, err := tuner.load(t.Context(), tuner.config)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []float32{0, 5e-6, 3e-5} {
			tuner.want[1] = [][]float32{{1 + off}}
			m := Measurement{Precision: precision}
			_, err := tuner.run(t.Context(), v, 1, &m)
			if (err != nil) != (refused && off > maxDiffers) || off > maxDiffers && m.Differs < maxDiffers {
				t.Errorf("precision %q, off by %v: %v, it differs by %v", precision, off, err, m.Differs)
			}
		}
		release()
	}
}

// A model that parses tf.Examples with a required feature is measured with its golden records.
// Without them it cannot be measured.
func TestTuneExamples(t *testing.T) {
	modeltest.OpenLibrary(t)
	c := testConfig(testenv.Tiny(t, "--kind", "example"))
	c.Content, c.Optimize = infer.Examples, optimizeAuto
	if _, err := tune(t.Context(), c, time.Millisecond, leastRounds, notShown); !errors.Is(err, infer.ErrMadeUp) {
		t.Errorf("got %v", err)
	}
	if m, err := CompareGraphs(t.Context(), c, 1); err != nil || !strings.Contains(m.WhyNot, infer.ErrMadeUp.Error()) {
		t.Errorf("got %+v, %v", m, err)
	}
	list := filepath.Join(c.Dir, "1", infer.GoldenFile)
	// tensorflow/core/example/example.proto: the feature x, a list of the floats 0 and 1.
	modeltest.Write(t, filepath.Join(filepath.Dir(list), "record"), []byte("\x0a\x13\x0a\x11\x0a\x01x\x12\x0c\x12\x0a\x0a\x08\x00\x00\x00\x00\x00\x00\x80\x3f"))
	modeltest.Write(t, list, []byte("- {image: record, label: bright, floor: 0.7}\n"))
	found, err := tune(t.Context(), c, time.Millisecond, leastRounds, notShown)
	if err != nil || found.Measurements[0].WhyNot != "" || found.Measurements[0].Run(1) <= 0 || !found.Measurements[0].Golden {
		t.Errorf("got %+v, %v", found, err)
	}
	if m, err := CompareGraphs(t.Context(), c, 1); err != nil || !m.Golden || strings.Contains(m.WhyNot, "golden") {
		t.Errorf("got %+v, %v", m, err)
	}
}
