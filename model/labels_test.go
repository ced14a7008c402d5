package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// Integers beside the scores are their classes only if they can be, and only classes with a label
// in the file get one.
func TestNumbersBesideScores(t *testing.T) {
	for _, test := range []struct {
		name   string
		mask   bool
		yaml   string
		labels int
		want   []infer.Class // nil: refused
		gate   string
		reason string
	}{
		{name: "the best two", want: []infer.Class{{Label: "", Index: 0, Score: 7}, {Label: "", Index: 1, Score: 0}}},
		{name: "the best two, with labels", yaml: "labels: labels.txt", labels: 6, want: []infer.Class{{Label: "l0", Index: 0, Score: 7}, {Label: "l1", Index: 1, Score: 0}}},
		{name: "the best two, with labels from class 1 on", yaml: "labels: {file: labels.txt, offset: 1}", labels: 5, want: []infer.Class{{Label: "", Index: 0, Score: 7}, {Label: "l0", Index: 1, Score: 0}}},
		{name: "a line too few", yaml: "labels: labels.txt", labels: 1, gate: infer.GateWarmUp,
			reason: `the model answers with class 1, and the 1 labels are for the classes from 0; if the first class is the background, write "labels: {file: labels.txt, offset: 1}" into `},
		{name: "1 for what it is", mask: true, gate: infer.GateWarmUp, reason: `output "labels" has 0 more than once for a record`},
		{name: "1 for what it is, told", mask: true, yaml: "output: {scores: scores}", want: []infer.Class{{Label: "", Index: 0, Score: 7}, {Label: "", Index: 1, Score: 0}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			m := modeltest.Tiny{Bias: 7, Class: 5}
			dir := filepath.Join(base, "1")
			m.Write(t, dir)
			if err := os.RemoveAll(filepath.Join(dir, "assets")); err != nil {
				t.Fatal(err)
			}
			modeltest.Write(t, filepath.Join(dir, "saved_model.pb"), m.WithNumbers(t, test.mask))
			modeltest.Write(t, filepath.Join(dir, infer.SpecFile), []byte(test.yaml))
			if test.labels > 0 {
				modeltest.Write(t, filepath.Join(dir, "assets/labels.txt"), lines(test.labels))
			}
			manager, _, err := loadMeans(t, base)
			if test.want == nil {
				if s := manager.Versions()[0]; err == nil || s.Gate != test.gate || !strings.Contains(s.Reason, test.reason) {
					t.Errorf("got %+v, %v, want %s", s, err, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p, err := manager.Classify(t.Context(), nil, modeltest.PNG(t, 4, 4))
			if err != nil || fmt.Sprint(p.Classes[:2]) != fmt.Sprint(test.want) {
				t.Errorf("got %v, %v, want %v", p.Classes, err, test.want)
			}
		})
	}
}

func lines(n int) (b []byte) {
	for i := range n {
		b = fmt.Appendf(b, "l%d\n", i)
	}
	return b
}

// A version whose labels do not fit its classes is refused with the line to write, whether the
// signature says how many classes there are or a run shows it.
func TestLabelsOfClasses(t *testing.T) {
	const golden = "[{image: black.bmp, label: '0 cat', floor: 7}]"
	for _, test := range []struct {
		name, file, text, yaml, golden string
		want                           []string // labels of the classes 0, 1 and 2; nil: refused
		mend                           string   // line that the refusal names
	}{
		{name: "a line for each", file: "assets/labels.txt", text: "cat\ndog\ncow", want: []string{"cat", "dog", "cow"}},
		{name: "beside saved_model.pb", file: "labels.txt", text: "0 cat\n1 dog\n2 cow", golden: golden, want: []string{"cat", "dog", "cow"}},
		{name: "named beside saved_model.pb", file: "classes.json", text: `{"cow": 2, "cat": 0, "dog": 1}`, yaml: "labels: classes.json", want: []string{"cat", "dog", "cow"}},
		{name: "no background", file: "assets/labels.txt", text: "dog\ncow", mend: "labels: {file: labels.txt, offset: 1}"},
		{name: "no background, told", file: "assets/labels.txt", text: "dog\ncow", yaml: "labels: {file: labels.txt, offset: 1}", want: []string{"", "dog", "cow"}},
		{name: "a background too many", file: "labels.txt", text: "background\ncat\ndog\ncow", mend: "labels: {file: labels.txt, offset: -1}"},
		{name: "a background too many, told", file: "labels.txt", text: "background\ncat\ndog\ncow", yaml: "labels: {file: labels.txt, offset: -1}", want: []string{"cat", "dog", "cow"}},
		{name: "another offset", file: "labels.txt", text: "dog\ncow", yaml: "labels: {file: labels.txt, offset: 2}", mend: "labels: {file: labels.txt, offset: 1}"},
		{name: "far too few", file: "labels.txt", text: "cat", mend: "labels: ''"},
		{name: "far too few, left out", file: "labels.txt", text: "cat", yaml: "labels: ''", want: []string{"", "", ""}},
	} {
		for _, silent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %v", test.name, silent), func(t *testing.T) {
				base := t.TempDir()
				dir := filepath.Join(base, "1")
				modeltest.Tiny{Bias: 7, Class: 2, Silent: silent, Golden: test.golden}.Write(t, dir)
				if err := os.RemoveAll(filepath.Join(dir, "assets")); err != nil {
					t.Fatal(err)
				}
				modeltest.Write(t, filepath.Join(dir, test.file), []byte(test.text))
				modeltest.Write(t, filepath.Join(dir, infer.SpecFile), []byte(modeltest.TinyYAML+test.yaml))
				m, _, err := loadMeans(t, base)
				if test.want == nil {
					gate := infer.GateSignature
					if silent {
						gate = infer.GateWarmUp
					}
					if s := m.Versions()[0]; err == nil || s.Gate != gate || !strings.HasSuffix(s.Reason, fmt.Sprintf("write %q into %s", test.mend, filepath.Join(dir, infer.SpecFile))) {
						t.Errorf("got %v, want %s at the gate %s", err, test.mend, gate)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				p, err := m.Classify(t.Context(), nil, modeltest.BlackImage)
				if err != nil || len(p.Classes) != 3 {
					t.Fatalf("got %+v, %v", p, err)
				}
				for _, c := range p.Classes {
					if c.Label != test.want[c.Index] {
						t.Errorf("class %d is %q, want %q", c.Index, c.Label, test.want[c.Index])
					}
				}
			})
		}
	}
}
