package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// A version that answers with words can follow one with labels, and the other way round. The
// last images agree by their labels.
func TestSwapToOwnWords(t *testing.T) {
	base := t.TempDir()
	of := func(version float32) modeltest.Tiny { return modeltest.Tiny{Bias: version, Class: 4} }
	of(1).Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, func(c *Config) { c.Gate.Agreement = 1 })
	ask := func(version float32, first, second int) {
		t.Helper()
		b.awaitVersion(int64(version))
		p, err := b.Classify(t.Context(), nil, modeltest.PNG(t, 4, 4))
		want := []infer.Class{{Label: "label 0", Index: first, Score: version}, {Label: "label 1", Index: second, Score: 0}}
		if err != nil || !slices.Equal(p.Classes[:2], want) || p.Scores != nil {
			t.Fatalf("got %+v, %v, want %v", p, err, want)
		}
	}
	next := filepath.Join(base, "next")
	ask(1, 0, 1)
	of(2).Write(t, next)
	modeltest.Write(t, filepath.Join(next, "saved_model.pb"), of(2).WithWords(t, false))
	b.must(os.Rename(next, filepath.Join(base, "2")))
	ask(2, infer.NoIndex, infer.NoIndex)
	of(3).Write(t, next)
	b.must(os.Rename(next, filepath.Join(base, "3")))
	ask(3, 0, 1)
}

// A model that returns another key than it got is refused, since its answer for one image may
// belong to another.
func TestKeyNotReturned(t *testing.T) {
	base := t.TempDir()
	m := modeltest.Tiny{Class: 4}
	m.Write(t, filepath.Join(base, "1"))
	modeltest.Write(t, filepath.Join(base, "1/saved_model.pb"), m.WithWords(t, true))
	b := runTiny(t, base)
	b.await("refusal", func() bool { return len(b.refusals(1)) > 0 })
	want := `write "inputs: {key: VALUE}" into ` + filepath.Join(base, "1", infer.SpecFile)
	if s := b.Versions()[0]; s.Gate != infer.GateSignature || !strings.Contains(s.Reason, want) {
		t.Errorf("got %+v, want %s", s, want)
	}
}

// A version with only arrays serves. It does not replace one with classes, nor one with classes it,
// since readers of the answers would not find what they expect.
func TestArraysServe(t *testing.T) {
	base := t.TempDir()
	m := modeltest.Tiny{Class: 4}
	m.Write(t, filepath.Join(base, "1"))
	modeltest.Write(t, filepath.Join(base, "1", infer.SpecFile), []byte("input: {size: [2, 2], scale: 1}\noutputs: [scores]\n"))
	b := runTiny(t, base, func(c *Config) { c.Gate.Agreement = 1 })
	b.awaitVersion(1)
	p, err := b.Classify(t.Context(), nil, modeltest.PNG(t, 4, 4))
	if err != nil || p.Classes != nil || p.Scores != nil || len(p.Outputs) != 1 || p.Outputs[0].Key != "scores" || p.Outputs[0].Len() != 5 {
		t.Fatalf("got %+v, %v", p, err)
	}
	next := filepath.Join(base, "next")
	m.Write(t, next)
	b.must(os.Rename(next, filepath.Join(base, "2")))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != infer.GateSignature || !strings.Contains(s.Reason, "it has classes, and version 1, which serves, has none, but arrays alone") {
		t.Errorf("got %+v", s)
	}
	m.Write(t, next)
	modeltest.Write(t, filepath.Join(next, infer.SpecFile), []byte("input: {size: [2, 2], scale: 1}\noutputs: [scores]\noutput: scores\n"))
	b.must(os.Rename(next, filepath.Join(base, "3")))
	b.await("refusal", func() bool { return len(b.refusals(3)) > 0 })
	m.Bias = 1
	m.Write(t, next)
	modeltest.Write(t, filepath.Join(next, infer.SpecFile), []byte("input: {size: [2, 2], scale: 1}\noutputs: [scores]\n"))
	b.must(os.Rename(next, filepath.Join(base, "4")))
	b.awaitVersion(4)
}

// Golden images name classes, so a version without classes is refused.
func TestGoldenWithoutClasses(t *testing.T) {
	base := t.TempDir()
	modeltest.Tiny{Class: 4}.Write(t, filepath.Join(base, "1"))
	modeltest.Write(t, filepath.Join(base, "1", infer.SpecFile), []byte("input: {size: [2, 2], scale: 1}\noutputs: [scores]\n"))
	modeltest.Write(t, filepath.Join(base, "1", infer.GoldenFile), []byte("- {image: a.png, label: label 0, floor: 0.5}\n"))
	modeltest.Write(t, filepath.Join(base, "1/assets.extra/golden/a.png"), modeltest.PNG(t, 4, 4))
	b := runTiny(t, base)
	b.await("refusal", func() bool { return len(b.refusals(1)) > 0 })
	if s := b.Versions()[0]; s.Gate != infer.GateGolden || !strings.Contains(s.Reason, "golden images name classes, and answers of this version have none") {
		t.Errorf("got %+v", s)
	}
}
