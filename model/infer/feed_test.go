package infer

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

// The inputs of a batch, and how its outputs are read.
func TestRunner(t *testing.T) {
	modeltest.OpenLibrary(t)
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
	fixed := blankRow([]feed{{dtype: savedmodel.Bool, count: 1}}, nil)
	fixed.numbers[0] = 1
	feeds := []feed{
		{key: "image", dtype: savedmodel.String, from: fromImage, feature: "f"},
		{key: "key", dtype: savedmodel.Int64, shape: savedmodel.Shape{}, from: fromIndex},
		{key: "phase", dtype: savedmodel.Bool, shape: savedmodel.Shape{}, from: fromFile, count: 1, value: fixed, perBatch: true},
		{key: "each", dtype: savedmodel.Bool, shape: savedmodel.Shape{}, from: fromFile, count: 1, value: fixed},
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
			if err != nil || len(got.scores) != 2 || !slices.Equal(got.scores[1], []float32{1, 2}) || !slices.Equal(slices.Concat(got.classes...), test.want) {
				t.Errorf("got %+v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// Pixels are fed in the shape of the input. A single image is not copied if it has that shape.
func TestJoinPixels(t *testing.T) {
	modeltest.OpenLibrary(t)
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

// The classes that a model gives are ranked with their scores.
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
		if got := SameClass(c.a, c.b); got != c.want {
			t.Errorf("%v and %v agree: %v", c.a, c.b, got)
		}
	}
}

// A format that the graph's decoders do not support is refused before the run.
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
		a := &pipeline{sig: signature{decoders: test.decoders, formats: formatsOf(test.decoders)}}
		err := a.checkFormat(Header{Format: test.format, Frames: test.frames})
		guilty := (*InputError)(nil)
		switch {
		case test.taken && err != nil, !test.taken && (!errors.As(err, &guilty) || guilty.Reason != ReasonFormatNotTaken):
			t.Errorf("%q, %s of %d frames: %v", test.decoders, test.format, test.frames, err)
		case !test.taken && !strings.Contains(err.Error(), test.decoders[0]):
			t.Errorf("%v does not name %s", err, test.decoders[0])
		}
	}
}
