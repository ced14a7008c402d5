package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"inceptor/model"
	"inceptor/testenv"
)

// The settings that tune prints are those that it writes, and run accepts them.
func TestTuneCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tuned.yaml")
	code, stdout, stderr := execute(t, "tune", "--model.dir", testenv.Tiny(t), "--tensorflow.library", testenv.TensorFlow(t),
		"--model.batch.max", "1", "--write", file)
	if code != 0 || !regexp.MustCompile(`(?m)^OPTIMIZE +KERNELS +PRECISION +THREADS +LOAD +MEMORY +ROUNDS +SPREAD +MS PER IMAGE, BATCH OF 1 *$`).MatchString(stdout) {
		t.Fatalf("exit status %d\n%s%s", code, stdout, stderr)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	settings := regexp.MustCompile(`(?m)^(\S+): (\S+)$`).FindAllStringSubmatch(string(written), -1)
	if len(settings) != 5 {
		t.Errorf("written:\n%s", written)
	}
	for _, s := range settings {
		if want := " --" + s[1] + " " + s[2]; !strings.Contains(stdout, want) {
			t.Errorf("%s is written, and not printed:\n%s", want, stdout)
		}
	}
	code, stdout, stderr = execute(t, "run", "--config", file)
	if code != exitUsage || !strings.Contains(stderr, "model.dir") || strings.Contains(stderr, "key") {
		t.Errorf("run: exit status %d\n%s%s", code, stdout, stderr)
	}
}

// The conclusion names what is undecided, and a precision that is faster.
func TestTuneConclusion(t *testing.T) {
	measured := func(m model.Measurement, rounds ...time.Duration) model.Measurement {
		for _, took := range rounds {
			m.Rounds = append(m.Rounds, map[int]time.Duration{1: took * time.Millisecond})
		}
		return m
	}
	best := measured(model.Measurement{Optimize: "auto", Kernels: "onednn"}, 50, 60, 70)
	other := measured(model.Measurement{Optimize: "off"}, 55, 60, 65)
	int8 := measured(model.Measurement{Optimize: "auto", Kernels: "onednn", Precision: "int8"}, 20, 20, 20)
	unusable := model.Measurement{Optimize: "auto", Kernels: "onednn", Precision: "bfloat16", WhyNot: "no"}
	const noisy, keep = "Too noisy to decide after 8 rounds", "The settings that were given are kept"
	for _, test := range []struct {
		name    string
		found   model.Tuning
		has     []string
		hasNone []string
	}{
		{"decided", model.Tuning{Measurements: []model.Measurement{best, other, unusable}, Batch: 1},
			[]string{"50 ms per image, with the smallest batches", " --model.kernels onednn"}, []string{noisy, keep, "To try it"}},
		{"undecided", model.Tuning{Measurements: []model.Measurement{best, other}, Batch: 1, Rounds: 8, Undecided: [][]model.Measurement{{best, other}}},
			[]string{noisy, "    auto onednn float32: 50 to 70 ms", "    off float32: 55 to 65 ms", keep}, nil},
		{"undecided batch", model.Tuning{Measurements: []model.Measurement{best}, Batch: 1, Rounds: 8, UndecidedBatch: 4},
			[]string{noisy + " whether batches of 4 are as good as those of 1", keep}, nil},
		{"int8 is faster", model.Tuning{Measurements: []model.Measurement{best, int8}, Batch: 1},
			[]string{"int8 takes 20 ms per image, and changes scores. To try it: --model.precision int8"}, nil},
		{"int8 is chosen", model.Tuning{Measurements: []model.Measurement{int8, best}, Batch: 1},
			[]string{"20 ms per image, with the smallest"}, []string{"To try it"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := conclusion(test.found, (&tuneCmd{}).settings(test.found))
			for _, want := range test.has {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing:\n%s", want, got)
				}
			}
			for _, not := range test.hasNone {
				if strings.Contains(got, not) {
					t.Errorf("unexpected %q:\n%s", not, got)
				}
			}
		})
	}
}
