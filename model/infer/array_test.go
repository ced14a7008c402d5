package infer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

// The keys outputs and output decide which arrays an answer has, and whether it also has scores.
func TestBindArrays(t *testing.T) {
	float, word, whole := savedmodel.Float32, savedmodel.String, savedmodel.Int64
	heads := infos{"embedding": tensor(float, -1, 2048), "probabilities": tensor(float, -1, 10), "words": tensor(word, -1, 10)}
	detector := infos{
		"detection_boxes": tensor(float, -1, 100, 4), "detection_scores": tensor(float, -1, 100),
		"detection_classes": tensor(float, -1, 100), "num_detections": tensor(float, -1),
	}
	for _, test := range []struct {
		name    string
		yaml    string
		content Content
		batch   int64 // of the input; 0: any
		outputs infos
		fetched []string
		scores  string
		failure string // part of the error
	}{
		{name: "alone", yaml: "outputs: [embedding]", outputs: heads, fetched: []string{"embedding"}},
		{name: "with scores", yaml: "outputs: [embedding]\noutput: probabilities", outputs: heads,
			fetched: []string{"embedding", "probabilities", "words"}, scores: "probabilities"},
		{name: "the scores too", yaml: "outputs: [probabilities, embedding]\noutput: {scores: probabilities}", outputs: heads,
			fetched: []string{"probabilities", "embedding"}, scores: "probabilities"},
		{name: "a detector", yaml: "outputs: [num_detections, detection_boxes]", outputs: detector, fetched: []string{"num_detections", "detection_boxes"}},
		{name: "a detector with classes", yaml: "output: {scores: classes_of_all}\noutputs: [detection_boxes]",
			outputs: infos{"detection_boxes": tensor(float, -1, 100, 4), "classes_of_all": tensor(float, -1, 9)},
			fetched: []string{"detection_boxes", "classes_of_all"}, scores: "classes_of_all"},
		{name: "of rows", yaml: "outputs: [embedding]", content: Rows, outputs: heads, fetched: []string{"embedding"}},
		{name: "strings, and any rank", yaml: "outputs: [a, b]", outputs: infos{"a": tensor(word, -1, 2, 2, 2), "b": anyShape(whole)}, fetched: []string{"a", "b"}},
		{name: "a batch of one", yaml: "outputs: [a]", batch: 1, outputs: infos{"a": tensor(float, 1, 100, 4)}, fetched: []string{"a"}},
		{name: "as large as can be", yaml: "outputs: [a, b]", outputs: infos{"a": tensor(float, -1, 1<<15), "b": tensor(float, -1, 1<<15)}, fetched: []string{"a", "b"}},

		{name: "a detector's scores", yaml: "output: detection_scores\noutputs: [detection_boxes]", outputs: detector,
			failure: `which has no scores for the classes of a whole image: write "outputs: [detection_boxes, detection_classes, detection_scores, num_detections]" into`},
		{name: "not there", yaml: "outputs: [z]", outputs: heads,
			failure: `DIR/1/assets.extra/inceptor.yaml: outputs: the signature has no output "z", only ["embedding" "probabilities" "words"]`},
		{name: "complex", yaml: "outputs: [a]", outputs: infos{"a": tensor(savedmodel.Complex64, -1, 2)},
			failure: `DIR/1/assets.extra/inceptor.yaml: outputs: "a" is complex64 [N, 2], and an answer has only numbers, bools and strings`},
		{name: "sparse", yaml: "outputs: [a]", outputs: infos{"a": {DType: float, Shape: savedmodel.Shape{-1, 10}, Encoding: "coo_sparse"}}, failure: `an answer has only dense tensors`},
		{name: "one value for all", yaml: "outputs: [a]", outputs: infos{"a": tensor(float)}, failure: `"a" is float32 [], whose first dimension is not the batch`},
		{name: "anchors for all", yaml: "outputs: [a]", outputs: infos{"a": tensor(float, 100, 4)}, failure: `"a" is float32 [100, 4], whose first dimension is not the batch`},
		{name: "too large", yaml: "outputs: [a]", outputs: infos{"a": tensor(float, -1, 8, 8, 2048)},
			failure: `"a" is float32 [N, 8, 8, 2048], with which an answer has over 65536 values: let the graph pool or cut it, as tf.reduce_mean(a, [1, 2]) does`},
		{name: "empty lists without end", yaml: "outputs: [a]", outputs: infos{"a": tensor(float, -1, 1<<40, 0)},
			failure: `"a" is float32 [N, 1099511627776, 0], with which an answer has over 65536 lists: let the graph reshape or cut it`},
		{name: "too large together", yaml: "outputs: [a, b]", outputs: infos{"a": tensor(float, -1, 1<<15), "b": tensor(float, -1, 1<<15+1)}, failure: `"b" is float32 [N, 32769], with which`},
		{name: "an activation of no scores", yaml: "outputs: [embedding]\nactivation: softmax", outputs: heads,
			failure: "DIR/1/assets.extra/inceptor.yaml: activation: it is for scores, and with outputs alone there are none"},
		{name: "the softmax of one score", yaml: "activation: softmax", outputs: infos{"a": tensor(float, -1, 1)},
			failure: `activation: the softmax of one score is always 1: write "activation: sigmoid"`},
		{name: "the softmax of the best few", yaml: "activation: softmax", outputs: infos{"scores": tensor(float, -1, 5), "classes": tensor(word, -1, 5)},
			failure: `activation: softmax needs the scores of all classes, and with the classes in "classes" there may be only the best: ` +
				`export the scores with their softmax, or leave the key out; if "classes" does not have classes, write "output: {scores: scores}" into`},
		{name: "the softmax of scores beside words", yaml: "activation: softmax\noutput: {scores: scores}", scores: "scores",
			outputs: infos{"scores": tensor(float, -1, 5), "classes": tensor(word, -1, 5)}, fetched: []string{"scores"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := defaultSpec()
			if err := yaml.Unmarshal([]byte(test.yaml), &spec); err != nil {
				t.Fatal(err)
			}
			batch := test.batch
			if batch == 0 {
				batch = -1
			}
			bound, err := spec.bind(modelMetadata{
				signatures: map[string]savedmodel.Signature{"serving_default": {Inputs: infos{"x": tensor(float, batch, 4, 5, 3)}, Outputs: test.outputs}},
				file:       "DIR/1/assets.extra/inceptor.yaml",
			}, test.content)
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %v, want %s", err, test.failure)
				}
				return
			}
			if err != nil || !slices.Equal(bound.outputs(), test.fetched) || bound.Output.Scores != test.scores {
				t.Errorf("got %q, scores %q, %v, want %q, %q", bound.outputs(), bound.Output.Scores, err, test.fetched, test.scores)
			}
		})
	}
}

// floats returns an array of float32.
func floats(shape savedmodel.Shape, values ...float32) savedmodel.Array {
	a := savedmodel.Array{DType: savedmodel.Float32, Shape: shape}
	for _, v := range values {
		a.Bytes = binary.NativeEndian.AppendUint32(a.Bytes, math.Float32bits(v))
	}
	return a
}

// A record's arrays are its rows, of any shape. An output without a row for each record is refused.
func TestPerRecord(t *testing.T) {
	words := savedmodel.Array{DType: savedmodel.String, Shape: savedmodel.Shape{2, 1}, Strings: [][]byte{[]byte("a"), []byte("b")}}
	got, err := splitArrays([]string{"x", "n", "w"}, []savedmodel.Array{floats(savedmodel.Shape{2, 1, 2}, 1, 2, 3, 4), floats(savedmodel.Shape{2}, 5, 6), words}, 2)
	if err != nil {
		t.Fatal(err)
	}
	texts := [][]string{}
	for _, record := range got {
		var line []string
		for _, a := range record {
			line = append(line, a.String())
		}
		texts = append(texts, line)
	}
	want := [][]string{{"x [1, 2] 1 2", "n 5", `w [1] "a"`}, {"x [1, 2] 3 4", "n 6", `w [1] "b"`}}
	if !slices.EqualFunc(texts, want, slices.Equal) {
		t.Errorf("got %q, want %q", texts, want)
	}
	for name, a := range map[string]savedmodel.Array{
		"a scalar": floats(savedmodel.Shape{}, 1), "another batch": floats(savedmodel.Shape{3}, 1, 2, 3), "none": floats(savedmodel.Shape{0}),
	} {
		if got, err := splitArrays([]string{"x"}, []savedmodel.Array{a}, 2); err == nil || !strings.Contains(err.Error(), `the output "x" of shape `) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if got, err := splitArrays([]string{"x"}, []savedmodel.Array{floats(savedmodel.Shape{})}, 0); err == nil {
		t.Errorf("a scalar alone: got %v", got)
	}
}

// Arrays that do not fit into an answer cost one record.
func TestCheckArrays(t *testing.T) {
	large := floats(savedmodel.Shape{maxOutputSize}, make([]float32, maxOutputSize)...)
	long := savedmodel.Array{DType: savedmodel.String, Shape: savedmodel.Shape{2}, Strings: [][]byte{make([]byte, 1<<19), make([]byte, 1<<19)}}
	longer := savedmodel.Array{DType: savedmodel.String, Shape: savedmodel.Shape{1}, Strings: [][]byte{make([]byte, 1<<20+1)}}
	nan := floats(savedmodel.Shape{1, 3}, 1, float32(math.NaN()), 2)
	half := savedmodel.Array{DType: savedmodel.Float16, Shape: savedmodel.Shape{1}, Bytes: []byte{0, 0x7c}}
	for _, test := range []struct {
		name   string
		arrays []Array
		reason string
	}{
		{"none", nil, ""},
		{"as many as can be", []Array{{"a", large}}, ""},
		{"a value in each list", []Array{{"a", savedmodel.Array{DType: savedmodel.Float32, Shape: savedmodel.Shape{maxOutputSize, 1}, Bytes: large.Bytes}}}, ""},
		{"a list around each list", []Array{{"a", savedmodel.Array{DType: savedmodel.Float32, Shape: savedmodel.Shape{maxOutputSize, 1, 1}, Bytes: large.Bytes}}}, ReasonOutputTooLarge},
		{"empty lists", []Array{{"a", floats(savedmodel.Shape{3, 0})}}, ""},
		{"no list in the list", []Array{{"a", floats(savedmodel.Shape{0, 1 << 40})}}, ""},
		{"empty lists without end", []Array{{"a", floats(savedmodel.Shape{1 << 40, 1 << 40, 0})}}, ReasonOutputTooLarge},
		{"lists in lists without end", []Array{{"a", floats(slices.Repeat(savedmodel.Shape{1}, maxOutputSize+2), 1)}}, ReasonOutputTooLarge},
		{"one too many", []Array{{"a", large}, {"b", floats(savedmodel.Shape{}, 1)}}, ReasonOutputTooLarge},
		{"strings as long as can be", []Array{{"a", long}}, ""},
		{"a string too long", []Array{{"a", longer}}, ReasonOutputTooLarge},
		{"NaN", []Array{{"a", nan}}, ReasonNotFinite},
		{"an infinite half", []Array{{"a", half}}, ReasonNotFinite},
	} {
		reason := ""
		if guilty := (*InputError)(nil); errors.As(checkArrays(test.arrays), &guilty) {
			reason = guilty.Reason
		}
		if reason != test.reason {
			t.Errorf("%s: got %q, want %q", test.name, reason, test.reason)
		}
	}
}

// tune compares the scores and the floats of the arrays.
func TestNumbers(t *testing.T) {
	count := savedmodel.Array{DType: savedmodel.Int8, Shape: savedmodel.Shape{2}, Bytes: []byte{1, 2}}
	arrays, err := splitArrays([]string{"x", "n"}, []savedmodel.Array{floats(savedmodel.Shape{2, 2}, 1, 2, 3, 4), count}, 2)
	if err != nil {
		t.Fatal(err)
	}
	scores := [][]float32{{5}, {6}}
	for name, test := range map[string]struct {
		got  batchResult
		want [][]float32
	}{
		"scores": {batchResult{scores: scores}, scores},
		"arrays": {batchResult{arrays: arrays}, [][]float32{{1, 2}, {3, 4}}},
		"both":   {batchResult{scores: scores, arrays: arrays}, [][]float32{{5, 1, 2}, {6, 3, 4}}},
	} {
		if all := test.got.floats(); !slices.EqualFunc(all, test.want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", name, all, test.want)
		}
	}
}

// Activations equal tf.nn.softmax and tf.sigmoid, for large scores too.
func TestActivate(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, test := range []struct {
		activation string
		scores     []float32
		want       []float32
		pair       bool
		failure    string
	}{
		{activation: softmax, scores: []float32{1, 2, 3}, want: []float32{0.09003057, 0.24472848, 0.66524094}},
		{activation: softmax, scores: []float32{1000, 1000, -1000}, want: []float32{0.5, 0.5, 0}},
		{activation: sigmoid, scores: []float32{0, 2, -100, 100}, want: []float32{0.5, 0.8807971, 0, 1}},
		{activation: sigmoid, scores: []float32{inf, 0}, want: []float32{inf, 0}},
		{activation: softmax, scores: []float32{-inf, 1, 1}, want: []float32{0, 0.5, 0.5}},
		{activation: softmax, scores: []float32{-inf, -inf}, want: []float32{-inf, -inf}},
		{activation: softmax, scores: []float32{-inf, inf}, want: []float32{-inf, inf}},
		{activation: sigmoid, scores: []float32{-inf, 0}, want: []float32{0, 0.5}},
		{activation: "", scores: []float32{1, 2}, want: []float32{1, 2}},
		{pair: true, scores: []float32{0.25}, want: []float32{0.75, 0.25}},
		{pair: true, activation: sigmoid, scores: []float32{2}, want: []float32{1 - 0.8807971, 0.8807971}},
		{pair: true, scores: []float32{0.25, 0.75}, want: []float32{0.25, 0.75}},
		{pair: true, scores: []float32{2}, failure: `the score 2 in the output "p" is not between 0 and 1, and with two labels it must be a probability: LINE`},
		{pair: true, scores: []float32{-0.1}, failure: "is not between 0 and 1"},
	} {
		bound := signature{Spec: Spec{Activation: test.activation, Output: Output{Scores: "p"}}, pair: test.pair, pairHint: "LINE"}
		got := batchResult{scores: [][]float32{slices.Clone(test.scores)}}
		err := bound.postprocess(&got, nil)
		if test.failure != "" {
			if guilty := (*InputError)(nil); !errors.As(err, &guilty) || guilty.Reason != ReasonModelRefused || !strings.Contains(err.Error(), test.failure) {
				t.Errorf("%v: got %v, want %s", test.scores, err, test.failure)
			}
			continue
		}
		near := func(a, b float32) bool { return a == b || math.Abs(float64(a-b)) < 1e-6 }
		if err != nil || !slices.EqualFunc(got.scores[0], test.want, near) {
			t.Errorf("%s of %v: got %v, %v, want %v", test.activation, test.scores, got.scores, err, test.want)
		}
	}
}

// Arrays are found among all outputs that a warm-up request fetches. The copies that fill a batch
// get none.
func TestReadArrays(t *testing.T) {
	modeltest.OpenLibrary(t)
	words, err := savedmodel.NewStringTensor([][]byte{[]byte("a"), []byte("b")}, 2)
	if err != nil {
		t.Fatal(err)
	}
	scores, err := savedmodel.NewTensor(savedmodel.Int8, 2, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer closeTensors([]*savedmodel.Tensor{words, scores})
	copy(scores.Bytes(), []byte{1, 2, 3, 4})
	sig := signature{Spec: Spec{Outputs: []string{"words", "scores"}, Output: Output{Scores: "scores"}}}
	got, err := sig.read(sig.fetch([]string{"other", "scores", "words"}), []*savedmodel.Tensor{nil, scores, words})
	if err != nil || len(got.scores) != 2 || !slices.Equal(got.scores[1], []float32{3, 4}) {
		t.Fatalf("got %v, %v", got.scores, err)
	}
	if text := fmt.Sprint(got.arrays); text != `[[words "a" scores [1, 2] 1 2] [words "b" scores [1, 2] 3 4]]` {
		t.Errorf("got %s", text)
	}
	if first := got.first(1); first.records() != 1 || len(first.arrays) != 1 {
		t.Errorf("%d records, %v, want 1", first.records(), first.arrays)
	}
	sig.Output = Output{}
	if got, err := sig.read(sig.fetch(sig.outputs()), []*savedmodel.Tensor{words, scores}); err != nil || got.scores != nil || got.records() != 2 {
		t.Errorf("arrays alone: got %v, %v", got, err)
	}
}

// An array that an answer cannot have costs its own record only.
func TestArrayCostsOneRecord(t *testing.T) {
	arrays, err := splitArrays([]string{"x"}, []savedmodel.Array{floats(savedmodel.Shape{2}, float32(math.NaN()), 1)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	b := &batcher{run: plain(func([]item) (batchResult, error) { return batchResult{arrays: arrays}, nil }), observer: unobservedRuns{}}
	batch := []item{{result: make(chan result, 1)}, {result: make(chan result, 1)}}
	b.answer(batch, batch)
	bad, good := <-batch[0].result, <-batch[1].result
	if guilty := (*InputError)(nil); !errors.As(bad.err, &guilty) || guilty.Reason != ReasonNotFinite {
		t.Errorf("the bad one: got %v", bad.err)
	}
	if good.err != nil || len(good.arrays) != 1 || good.arrays[0].Float(0) != 1 {
		t.Errorf("the good one: got %v, %v", good.arrays, good.err)
	}
}
