package infer

import (
	"errors"
	"strings"
	"testing"
)

// A result that the labels do not fit is refused.
func TestLabelsFit(t *testing.T) {
	a := &pipeline{labels: []string{"x", "y", "z"}}
	for _, test := range []struct {
		name string
		r    result
		want string // part of the error; empty: none
	}{
		{"all", result{scores: []float32{1, 2, 3}}, ""},
		{"one score more", result{scores: []float32{1, 2, 3, 4}}, "labels: 3 labels for 4 classes"},
		{"one fewer", result{scores: []float32{1, 2}}, "labels: 3 labels for 2 classes"},
		{"indices", result{scores: []float32{1, 2}, classes: []Class{{Index: 2}, {Index: 0}}}, ""},
		{"no index", result{scores: []float32{1}, classes: []Class{{Label: "-1", Index: NoIndex}}}, ""},
		{"an index without a line", result{scores: []float32{1, 2}, classes: []Class{{Index: 0}, {Index: 3}}}, "the model answers with class 3, and the 3 labels"},
	} {
		err := a.checkLabels(test.r)
		guilty := (*InputError)(nil)
		if test.want == "" && err != nil || test.want != "" && (!errors.As(err, &guilty) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if err := new(pipeline).checkLabels(result{scores: []float32{1}}); err != nil {
		t.Errorf("without labels: %v", err)
	}
}

// Outputs that only look like the classes of the scores are refused, also on a model server.
func TestDoubtedClasses(t *testing.T) {
	words := func(words ...string) (classes []Class) {
		for _, w := range words {
			classes = append(classes, Class{Label: w, Index: NoIndex})
		}
		return classes
	}
	sig := signature{Spec: Spec{Output: Output{Classes: "c"}}, classesHint: "write it"}
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
		err := sig.checkClasses(batchResult{scores: [][]float32{test.scores}, classes: [][]Class{test.classes}})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasSuffix(err.Error(), ": write it")) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err := (signature{}).checkClasses(batchResult{scores: [][]float32{test.scores}, classes: [][]Class{test.classes}}); err != nil {
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
