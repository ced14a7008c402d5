package model

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// withNumbers gives a tiny model an output of integers with the scores' shape: the
// classes of its scores in their order, or 1 for each score that is above the bias.
func (m tiny) withNumbers(t testing.TB, mask bool) []byte {
	t.Helper()
	const float, whole = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_INT32
	var model tfpb.SavedModel
	if err := proto.Unmarshal(m.bytes(t), &model); err != nil {
		t.Fatal(err)
	}
	meta := model.GetMetaGraphs()[0]
	g := &graph{def: meta.GetGraphDef()}
	sig := meta.GetSignatureDef()["serving_default"]
	if mask {
		g.add("half", "Const", nil, floatConst(0.5))
		g.add("above", "Greater", []string{"scores", "half"}, attrs{"T": typeAttr(float)})
		g.add("decided", "Cast", []string{"above"}, attrs{"SrcT": typeAttr(tfpb.DataType_DT_BOOL), "DstT": typeAttr(whole), "Truncate": boolAttr(false)})
		sig.Outputs = map[string]*tfpb.TensorInfo{"scores": info("scores:0", float, -1, -1), "labels": info("decided:0", whole, -1, -1)}
	} else {
		g.add("k", "Const", nil, int32Const(nil, 2))
		g.add("top", "TopKV2", []string{"scores", "k"}, attrs{"T": typeAttr(float), "sorted": boolAttr(true)})
		sig.Outputs = map[string]*tfpb.TensorInfo{"scores": info("top:0", float, -1, -1), "indices": info("top:1", whole, -1, -1)}
	}
	b, err := proto.Marshal(&model)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Integers beside the scores are their classes only if they can be, and a label is
// given to none that the file has no line for.
func TestNumbersBesideScores(t *testing.T) {
	for _, test := range []struct {
		name   string
		mask   bool
		yaml   string
		labels int
		want   []Class // nil: refused
		gate   string
		reason string
	}{
		{name: "the best two", want: []Class{{"", 0, 7}, {"", 1, 0}}},
		{name: "the best two, with labels", yaml: "labels: labels.txt", labels: 6, want: []Class{{"l0", 0, 7}, {"l1", 1, 0}}},
		{name: "the best two, with labels from class 1 on", yaml: "labels: {file: labels.txt, offset: 1}", labels: 5, want: []Class{{"", 0, 7}, {"l0", 1, 0}}},
		{name: "a line too few", yaml: "labels: labels.txt", labels: 1, gate: GateWarmUp,
			reason: `the model gives class 1, and there are 1 lines, from 0; where the first class is the background, write "labels: {file: labels.txt, offset: 1}" into `},
		{name: "1 for what it is", mask: true, gate: GateWarmUp, reason: `output "labels" has 0 more than once for a record`},
		{name: "1 for what it is, told", mask: true, yaml: "output: {scores: scores}", want: []Class{{"", 0, 7}, {"", 1, 0}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			m := tiny{bias: 7, class: 5}
			dir := filepath.Join(base, "1")
			m.write(t, dir)
			if err := os.RemoveAll(filepath.Join(dir, "assets")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "saved_model.pb"), m.withNumbers(t, test.mask))
			write(t, filepath.Join(dir, specFile), []byte(test.yaml))
			if test.labels > 0 {
				write(t, filepath.Join(dir, "assets/labels.txt"), lines(test.labels))
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
			p, err := manager.Classify(t.Context(), nil, pngImage(t, 4, 4))
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

// A result that the labels are not for is nobody's answer.
func TestLabelsFit(t *testing.T) {
	a := &answerer{labels: []string{"x", "y", "z"}}
	for _, test := range []struct {
		name string
		r    result
		want string // part of the error; empty: none
	}{
		{"all", result{scores: []float32{1, 2, 3}}, ""},
		{"one score more", result{scores: []float32{1, 2, 3, 4}}, "labels: 3 lines for 4 classes"},
		{"one fewer", result{scores: []float32{1, 2}}, "labels: 3 lines for 2 classes"},
		{"indices", result{scores: []float32{1, 2}, classes: []Class{{Index: 2}, {Index: 0}}}, ""},
		{"no index", result{scores: []float32{1}, classes: []Class{{Label: "-1", Index: NoIndex}}}, ""},
		{"an index without a line", result{scores: []float32{1, 2}, classes: []Class{{Index: 0}, {Index: 3}}}, "the model gives class 3, and there are 3 lines"},
	} {
		err := a.fits(test.r)
		guilty := (*InputError)(nil)
		if test.want == "" && err != nil || test.want != "" && (!errors.As(err, &guilty) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if err := new(answerer).fits(result{scores: []float32{1}}); err != nil {
		t.Errorf("without labels: %v", err)
	}
}

// Outputs that only look like the classes of the scores are found out, also on a
// model server.
func TestDoubtedClasses(t *testing.T) {
	words := func(words ...string) (classes []Class) {
		for _, w := range words {
			classes = append(classes, Class{Label: w, Index: NoIndex})
		}
		return classes
	}
	sig := signature{Spec: Spec{Output: Output{Classes: "c"}}, doubt: "write it"}
	for name, test := range map[string]struct {
		scores  []float32
		classes []Class
		want    string // part of the error; empty: none
	}{
		"the best three":           {[]float32{3, 2, 2}, classesOfNumbers([]int64{7, 2, 5}), ""},
		"nothing for the rest":     {[]float32{3, 0, 0}, classesOfNumbers([]int64{0, -1, -1}), ""},
		"all in their places":      {[]float32{1, 3, 2}, classesOfNumbers([]int64{0, 1, 2}), ""},
		"the order of all":         {[]float32{1, 3, 2}, classesOfNumbers([]int64{1, 2, 0}), `output "c" has numbers in another order than the scores`},
		"1 for what it is":         {[]float32{1, 3, 2}, classesOfNumbers([]int64{0, 1, 0}), `output "c" has 0 more than once for a record`},
		"all words":                {[]float32{1, 3, 2}, words("a", "b", "c"), ""},
		"the best words":           {[]float32{3, 2, 1}, words("b", "", ""), ""},
		"a verdict for each class": {[]float32{1, 3, 2}, words("no", "yes", "no"), `output "c" has no more than once for a record`},
	} {
		err := sig.checkClasses(scored{rows: [][]float32{test.scores}, classes: [][]Class{test.classes}})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasSuffix(err.Error(), ": write it")) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err := (signature{}).checkClasses(scored{rows: [][]float32{test.scores}, classes: [][]Class{test.classes}}); err != nil {
			t.Errorf("%s, named by a person: %v", name, err)
		}
	}
}

func TestWordsAreBounded(t *testing.T) {
	long := strings.Repeat("a", maxWordBytes)
	if got, err := classesOfWords([][]byte{[]byte(long), {}}); err != nil || got[0].Label != long {
		t.Errorf("got %v, %v", got, err)
	}
	guilty := (*InputError)(nil)
	if _, err := classesOfWords([][]byte{[]byte(long + "a")}); !errors.As(err, &guilty) || guilty.Reason != ReasonModelRefused {
		t.Errorf("got %v", err)
	}
}

// Labels of a version are for its classes, else it is refused with the line that mends it,
// whether the signature says how many classes there are or a run shows it.
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
				tiny{bias: 7, class: 2, silent: silent, golden: test.golden}.write(t, dir)
				if err := os.RemoveAll(filepath.Join(dir, "assets")); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, test.file), []byte(test.text))
				write(t, filepath.Join(dir, specFile), []byte(tinyYAML+test.yaml))
				m, _, err := loadMeans(t, base)
				if test.want == nil {
					gate := GateSignature
					if silent {
						gate = GateWarmUp
					}
					if s := m.Versions()[0]; err == nil || s.Gate != gate || !strings.HasSuffix(s.Reason, fmt.Sprintf("write %q into %s", test.mend, filepath.Join(dir, specFile))) {
						t.Errorf("got %v, want %s at the gate %s", err, test.mend, gate)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				p, err := m.Classify(t.Context(), nil, blackPixel)
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
