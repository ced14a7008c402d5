package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// withWords adds the two best of a tiny model's classes, by words of its own, and a key
// that comes back, mixed in another order.
func (m tiny) withWords(t testing.TB, mixed bool) []byte {
	t.Helper()
	const float, str, whole = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_STRING, tfpb.DataType_DT_INT32
	var model tfpb.SavedModel
	if err := proto.Unmarshal(m.bytes(t), &model); err != nil {
		t.Fatal(err)
	}
	meta := model.GetMetaGraphs()[0]
	g := &graph{def: meta.GetGraphDef()}
	var words [][]byte
	for i := range 1 + m.class {
		words = append(words, fmt.Appendf(nil, "label %d", i))
	}
	g.add("key", "Placeholder", nil, attrs{"dtype": typeAttr(str), "shape": shapeAttr(-1)})
	if mixed {
		g.add("turned", "Const", nil, int32Const([]int64{1}, 0))
		g.add("back", "ReverseV2", []string{"key", "turned"}, attrs{"T": typeAttr(str), "Tidx": typeAttr(whole)})
	} else {
		g.add("back", "Identity", []string{"key"}, attrs{"T": typeAttr(str)})
	}
	g.add("k", "Const", nil, int32Const(nil, 2))
	g.add("top", "TopKV2", []string{"scores", "k"}, attrs{"T": typeAttr(float), "sorted": boolAttr(true)})
	g.add("words", "Const", nil, constant(&tfpb.TensorProto{Dtype: str, TensorShape: shapeOf(int64(len(words))), StringVal: words}))
	g.add("first", "Const", nil, int32Const(nil, 0))
	g.add("classes", "GatherV2", []string{"words", "top:1", "first"}, attrs{"Tparams": typeAttr(str), "Tindices": typeAttr(whole), "Taxis": typeAttr(whole)})
	sig := meta.GetSignatureDef()["serving_default"]
	sig.Inputs["key"] = info("key:0", str, -1)
	sig.Outputs = map[string]*tfpb.TensorInfo{
		"scores": info("top:0", float, -1, 2), "classes": info("classes:0", str, -1, 2), "key": info("back:0", str, -1),
	}
	b, err := proto.Marshal(&model)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A version that answers with words of its own follows one with labels, and the
// other way round; the last images agree by their labels.
func TestSwapToOwnWords(t *testing.T) {
	base := t.TempDir()
	of := func(version float32) tiny { return tiny{bias: version, class: 4} }
	of(1).write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, func(c *Config) { c.Gate.Agreement, c.Gate.Images = 1, 10 })
	ask := func(version float32, first, second int) {
		t.Helper()
		b.awaitVersion(int64(version))
		p, err := b.Classify(t.Context(), nil, pngImage(t, 4, 4))
		want := []Class{{"label 0", first, version}, {"label 1", second, 0}}
		if err != nil || !slices.Equal(p.Classes[:2], want) || p.Scores != nil {
			t.Fatalf("got %+v, %v, want %v", p, err, want)
		}
	}
	next := filepath.Join(base, "next")
	ask(1, 0, 1)
	of(2).write(t, next)
	write(t, filepath.Join(next, "saved_model.pb"), of(2).withWords(t, false))
	b.must(os.Rename(next, filepath.Join(base, "2")))
	ask(2, NoIndex, NoIndex)
	of(3).write(t, next)
	b.must(os.Rename(next, filepath.Join(base, "3")))
	ask(3, 0, 1)
}

// A model that gives another key back than it got is not asked: what it says of
// one image may be another one's.
func TestKeyNotReturned(t *testing.T) {
	base := t.TempDir()
	m := tiny{class: 4}
	m.write(t, filepath.Join(base, "1"))
	write(t, filepath.Join(base, "1/saved_model.pb"), m.withWords(t, true))
	b := runTiny(t, base)
	b.await("refusal", func() bool { return len(b.refusals(1)) > 0 })
	want := `write "inputs: {key: VALUE}" into ` + filepath.Join(base, "1", specFile)
	if s := b.Versions()[0]; s.Gate != GateSignature || !strings.Contains(s.Reason, want) {
		t.Errorf("got %+v, want %s", s, want)
	}
}

// What a batch feeds, and what is read of the answer.
func TestRunner(t *testing.T) {
	openLibrary(t)
	strs := func(shape savedmodel.Shape, words ...string) *savedmodel.Tensor {
		var values [][]byte
		for _, w := range words {
			values = append(values, []byte(w))
		}
		tensor, err := savedmodel.NewStringTensor(values, shape...)
		if err != nil {
			t.Fatal(err)
		}
		return tensor
	}
	numbers := func(dtype savedmodel.DataType, shape savedmodel.Shape, b []byte) *savedmodel.Tensor {
		tensor, err := savedmodel.NewTensor(dtype, shape...)
		if err != nil {
			t.Fatal(err)
		}
		copy(tensor.Bytes(), b)
		return tensor
	}
	scores := func() *savedmodel.Tensor {
		return numbers(savedmodel.Float32, savedmodel.Shape{2, 2}, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}) // 1 2 1 2
	}
	fixed := blankRow([]feed{{dtype: savedmodel.Bool, n: 1}}, nil)
	fixed.numbers[0] = 1
	feeds := []feed{
		{key: "image", dtype: savedmodel.String, from: fromImage, feature: "f"},
		{key: "key", dtype: savedmodel.Int64, shape: savedmodel.Shape{}, from: fromPlace},
		{key: "phase", dtype: savedmodel.Bool, shape: savedmodel.Shape{}, from: fromFile, n: 1, value: fixed, once: true},
		{key: "each", dtype: savedmodel.Bool, shape: savedmodel.Shape{}, from: fromFile, n: 1, value: fixed},
	}
	places := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, 0), 1)
	for _, test := range []struct {
		name    string
		classes func() *savedmodel.Tensor // nil: none
		back    []byte
		want    []Class // of both records
		failure string
	}{
		{name: "words", classes: func() *savedmodel.Tensor { return strs(savedmodel.Shape{2, 2}, "a", "b", "c", "\xff") }, back: places,
			want: []Class{{Label: "a", Index: NoIndex}, {Label: "b", Index: NoIndex}, {Label: "c", Index: NoIndex}, {Label: "\ufffd", Index: NoIndex}}},
		{name: "int64", classes: func() *savedmodel.Tensor {
			return numbers(savedmodel.Int64, savedmodel.Shape{2, 2}, slices.Concat(places, places))
		}, back: places, want: []Class{{Index: 0}, {Index: 1}, {Index: 0}, {Index: 1}}},
		{name: "int32", classes: func() *savedmodel.Tensor {
			return numbers(savedmodel.Int32, savedmodel.Shape{2, 2}, []byte{7, 0, 0, 0, 8, 0, 0, 0, 255, 255, 255, 255, 1, 1, 0, 0})
		}, back: places, want: []Class{{Index: 7}, {Index: 8}, {Label: "-1", Index: NoIndex}, {Index: 257}}},
		{name: "no classes", back: places},
		{name: "the best class alone", classes: func() *savedmodel.Tensor { return strs(savedmodel.Shape{2, 1}, "a", "b") }, back: places,
			failure: "classes of shape [2, 1] for scores of shape [2, 2]"},
		{name: "another order", back: slices.Concat(places[8:], places[:8]), failure: `output "id" is not the input "key": the model does not answer records in their order`},
	} {
		t.Run(test.name, func(t *testing.T) {
			sig := signature{Spec: Spec{Output: Output{Scores: "scores"}}, feeds: feeds, returned: []returned{{"id", 1}}}
			if test.classes != nil {
				sig.Output.Classes = "classes"
			}
			r := newRunner(sig, nil)
			r.run = func(_ context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
				images, err := in[0].Strings()
				if err != nil || len(images) != 2 || string(images[1]) != "\n\x0f\n\r\n\x01f\x12\x08\n\x06\n\x04jpg2" {
					t.Errorf("images: %q, %v", images, err)
				}
				if string(in[1].Bytes()) != string(places) || len(in[2].Shape()) != 0 || !slices.Equal(in[3].Bytes(), []byte{1, 1}) {
					t.Errorf("key %v, phase of shape %v, each %v", in[1].Bytes(), in[2].Shape(), in[3].Bytes())
				}
				out := []*savedmodel.Tensor{scores()}
				if test.classes != nil {
					out = append(out, test.classes())
				}
				return append(out, numbers(savedmodel.Int64, savedmodel.Shape{2}, test.back)), nil
			}
			got, err := r.batch([]item{{encoded: []byte("jpg1")}, {encoded: []byte("jpg2")}})
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %v, want %s", err, test.failure)
				}
				return
			}
			if err != nil || len(got.rows) != 2 || !slices.Equal(got.rows[1], []float32{1, 2}) || !slices.Equal(slices.Concat(got.classes...), test.want) {
				t.Errorf("got %+v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// Pixels are fed in the input's own shape, and a single image without a copy where it is
// theirs.
func TestJoinPixels(t *testing.T) {
	openLibrary(t)
	for _, test := range []struct {
		shape  savedmodel.Shape // of the input, without the batch
		images int
		want   savedmodel.Shape
		same   bool
	}{
		{savedmodel.Shape{2, 2, 1}, 1, savedmodel.Shape{1, 2, 2, 1}, true},
		{savedmodel.Shape{2, 2, 1}, 2, savedmodel.Shape{2, 2, 2, 1}, false},
		{savedmodel.Shape{2, 2}, 1, savedmodel.Shape{1, 2, 2}, false},
		{savedmodel.Shape{2, 2}, 2, savedmodel.Shape{2, 2, 2}, false},
		{savedmodel.Shape{4}, 1, savedmodel.Shape{1, 4}, false},
		{savedmodel.Shape{4}, 3, savedmodel.Shape{3, 4}, false},
	} {
		var batch []item
		var want []byte
		for i := range test.images {
			p, err := savedmodel.NewTensor(savedmodel.UInt8, 1, 2, 2, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			copy(p.Bytes(), []byte{byte(i), 1, 2, 3})
			want = append(want, p.Bytes()...)
			batch = append(batch, item{pixels: p})
		}
		got, err := feed{dtype: savedmodel.UInt8, shape: test.shape, from: fromImage}.join(batch)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if !slices.Equal(got.Shape(), test.want) || !slices.Equal(got.Bytes(), want) || (got == batch[0].pixels) != test.same {
			t.Errorf("%d images for %v: got %v of shape %v, want %v of shape %v", test.images, test.shape, got.Bytes(), got.Shape(), want, test.want)
		}
	}
}

// The classes of an answer are ranked with the words or indices that they came with.
func TestTopKOfOwnClasses(t *testing.T) {
	own := []Class{{Label: "a", Index: NoIndex}, {Label: "b", Index: NoIndex}, {Label: "c", Index: NoIndex}}
	if got, want := topK([]float32{1, 3, 2}, own, 2, []string{"x", "y", "z"}), []Class{{"b", NoIndex, 3}, {"c", NoIndex, 2}}; !slices.Equal(got, want) {
		t.Errorf("words: got %v, want %v", got, want)
	}
	if got, want := topK([]float32{1, 3}, []Class{{Index: 2}, {Index: 7}}, 5, []string{"x", "y", "z"}), []Class{{"", 7, 3}, {"z", 2, 1}}; !slices.Equal(got, want) {
		t.Errorf("indices: got %v, want %v", got, want)
	}
	for _, c := range []struct {
		a, b Class
		want bool
	}{
		{Class{Label: "a", Index: NoIndex}, Class{Label: "a", Index: 3}, true},
		{Class{Label: "a", Index: NoIndex}, Class{Label: "b", Index: NoIndex}, false},
		{Class{Index: NoIndex}, Class{Index: NoIndex}, false},
		{Class{Label: "a", Index: NoIndex}, Class{Index: 3}, false},
		{Class{Index: 3}, Class{Label: "a", Index: 3}, true},
	} {
		if got := agrees(c.a, c.b); got != c.want {
			t.Errorf("%v and %v agree: %v", c.a, c.b, got)
		}
	}
}

// What the graph's decoders do not take is refused before it costs anything.
func TestFormatsOfDecoders(t *testing.T) {
	for _, test := range []struct {
		decoders []string
		format   string
		frames   int
		taken    bool
	}{
		{[]string{"DecodeJpeg"}, "jpeg", 1, true},
		{[]string{"DecodeJpeg"}, "png", 1, true},
		{[]string{"DecodeJpeg"}, "gif", 1, true},
		{[]string{"DecodeJpeg"}, "gif", 2, false},
		{[]string{"DecodeJpeg"}, "bmp", 1, false},
		{[]string{"DecodeJpeg"}, "webp", 1, false},
		{[]string{"DecodePng"}, "jpeg", 1, true},
		{[]string{"DecodeAndCropJpeg"}, "png", 1, false},
		{[]string{"DecodeBmp"}, "jpeg", 1, false},
		{[]string{"DecodeBmp", "DecodeGif", "DecodeJpeg", "DecodePng"}, "bmp", 1, true},
		{[]string{"DecodeImage"}, "webp", 1, true},
		{[]string{"DecodeImage"}, "gif", 9, true},
		{nil, "webp", 1, true},
		{[]string{"DecodeSomething"}, "webp", 1, true},
	} {
		a := &answerer{decoders: test.decoders, formats: formatsOf(test.decoders)}
		err := a.takes(Header{Format: test.format, Frames: test.frames})
		guilty := (*InputError)(nil)
		switch {
		case test.taken && err != nil, !test.taken && (!errors.As(err, &guilty) || guilty.Reason != ReasonFormatNotTaken):
			t.Errorf("%q, %s of %d frames: %v", test.decoders, test.format, test.frames, err)
		case !test.taken && !strings.Contains(err.Error(), test.decoders[0]):
			t.Errorf("%v does not name %s", err, test.decoders[0])
		}
	}
}
