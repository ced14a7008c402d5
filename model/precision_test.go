package model

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/testenv"
)

// loadIn loads the versions of Inception in base in a precision, where that is possible. It
// writes the log into the buffer.
func loadIn(t *testing.T, base, precision string, log *bytes.Buffer) (*Manager, error) {
	t.Helper()
	modeltest.OpenLibrary(t)
	c := testConfig(base)
	c.Optimize, c.Kernels, c.Precision, c.Batch.Max = optimizeAuto, kernelsOneDNN, precision, 1
	m, err := New(c, slog.New(slog.NewTextHandler(log, nil)), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, m.Load(t.Context())
}

// precisionOf returns the precision of the version that serves.
func precisionOf(m *Manager) string {
	_, precision := m.published.routes.Load().stable.Optimized()
	return precision
}

// bfloat16 is used if the processor has it.
func TestPrecision(t *testing.T) {
	var log bytes.Buffer
	single, err := loadIn(t, testenv.Model(t), "float32", &log)
	if err != nil || precisionOf(single) != "float32" || strings.Contains(log.String(), "bfloat16") {
		t.Fatalf("float32: %v\n%s", err, log.String())
	}
	half, err := loadIn(t, testenv.Model(t), precisionBFloat16, &log)
	if err != nil {
		t.Fatal(err)
	}
	native := precisionOf(half) == precisionBFloat16
	if native == strings.Contains(log.String(), "the processor has no instructions for bfloat16") {
		t.Errorf("bfloat16: native %v\n%s", native, log.String())
	}

	// A photo that has a lower score in bfloat16, where that is run.
	names, err := filepath.Glob(filepath.Join(testenv.Photos(t), "*"))
	if err != nil {
		t.Fatal(err)
	}
	var (
		photo      []byte
		difference = -1.0
	)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		a, c := best(t, single, b), best(t, half, b)
		if a.Label != c.Label {
			t.Errorf("%s: %v in float32, %v in bfloat16", filepath.Base(name), a, c)
		}
		if d := float64(a.Score - c.Score); d > difference {
			photo, difference = b, d
		}
	}
	t.Logf("native %v, the score drops by %.1e", native, difference)
	if native == (difference < 1e-4) {
		t.Errorf("native %v, but the score drops by %g", native, difference)
	}

	for want, m := range map[string]*Manager{"float32": single, precisionOf(half): half} {
		if p, err := m.Classify(t.Context(), nil, photo); err != nil || p.Precision != want {
			t.Errorf("the answer is in %q, %v, want %q", p.Precision, err, want)
		}
	}
}

func best(t *testing.T, m *Manager, image []byte) infer.Class {
	t.Helper()
	p, err := m.Classify(context.Background(), nil, image)
	if err != nil {
		t.Fatal(err)
	}
	return p.Classes[0]
}
