package model

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// loadIn loads the versions of Inception in base in a precision, as far as that
// is to be had. It writes the log into the buffer.
func loadIn(t *testing.T, base, precision string, log *bytes.Buffer) (*Manager, error) {
	t.Helper()
	openLibrary(t)
	c := testConfig(base)
	c.Optimize, c.Kernels, c.Precision, c.Batch.Max = optimizeAuto, kernelsOneDNN, precision, 1
	m, err := New(c, slog.New(slog.NewTextHandler(log, nil)), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, m.Load(t.Context())
}

// precisionOf is what the version that serves runs in.
func precisionOf(m *Manager) savedmodel.Precision { return m.routes.Load().stable.model.Precision }

// bfloat16 is run where the processor has it, and with auto only where golden
// images agree.
func TestPrecision(t *testing.T) {
	var log bytes.Buffer
	single, err := loadIn(t, testenv.Model(t), "float32", &log)
	if err != nil || precisionOf(single) != savedmodel.PrecisionFloat32 || strings.Contains(log.String(), "bfloat16") {
		t.Fatalf("float32: %v\n%s", err, log.String())
	}
	half, err := loadIn(t, testenv.Model(t), precisionBFloat16, &log)
	if err != nil {
		t.Fatal(err)
	}
	native := precisionOf(half) == savedmodel.PrecisionBFloat16
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
		high, low  Class
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
			photo, high, low, difference = b, a, c, d
		}
	}
	t.Logf("native %v, the score drops by %.1e", native, difference)
	if native == (difference < 1e-4) {
		t.Errorf("native %v, but the score drops by %g", native, difference)
	}

	for want, m := range map[string]*Manager{"float32": single, precisionOf(half).String(): half} {
		if p, err := m.Classify(t.Context(), nil, photo); err != nil || p.Precision != want {
			t.Errorf("the answer is in %q, %v, want %q", p.Precision, err, want)
		}
	}

	base := copyVersion(t, testenv.Model(t))
	list := filepath.Join(base, "1", goldenFile)
	write(t, filepath.Join(filepath.Dir(list), "photo"), photo)
	for _, test := range []struct {
		name  string
		floor float32 // negative: no image
		want  string  // what the log says where the processor has bfloat16
		loads int     // there
	}{
		{"agrees", low.Score - 1e-4, "precision=bfloat16", 1},
		{"below the floor in bfloat16", high.Score - float32(min(difference/2, 1e-4)), "golden: photo is", 2},
		{"below the floor", 1, "golden: photo is", 2},
		{"no images", -1, "no golden images", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			golden := ""
			if test.floor >= 0 {
				golden = fmt.Sprintf("{image: photo, label: %s, floor: %v}", high.Label, test.floor)
			}
			write(t, list, []byte("["+golden+"]\n"))
			var log bytes.Buffer
			m, err := loadIn(t, base, precisionAuto, &log)
			if (err != nil) != (test.floor == 1) {
				t.Fatalf("%v\n%s", err, log.String())
			}
			if err == nil && (precisionOf(m) == savedmodel.PrecisionBFloat16) != (native && test.name == "agrees") {
				t.Errorf("runs in %v\n%s", precisionOf(m), log.String())
			}
			want, loads := test.want, test.loads
			if !native {
				want, loads = "not in bfloat16", 1
			}
			if !strings.Contains(log.String(), want) || strings.Count(log.String(), "msg=warming") != loads {
				t.Errorf("the log does not say %q, or not of %d loads:\n%s", want, loads, log.String())
			}
		})
	}
}

func best(t *testing.T, m *Manager, image []byte) Class {
	t.Helper()
	p, err := m.Classify(context.Background(), nil, image)
	if err != nil {
		t.Fatal(err)
	}
	return p.Classes[0]
}
