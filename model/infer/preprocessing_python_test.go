package infer

import (
	"bytes"
	"context"
	"math"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// By inceptor.yaml, JPEGs and PNGs of odd sizes, of one row and of one column become what tf.image,
// Keras and slim make of them: both with TensorFlow's library, PNGs also in Go. Package pixels
// compares JPEGs in Go.
func TestPreprocessingEqualsPython(t *testing.T) {
	modeltest.OpenLibrary(t)
	decoders := map[string]pythonDecoder{}
	for _, c := range testenv.Preprocessing(t) {
		key := string(c.Input) + c.Layout + c.DType
		d, ok := decoders[key]
		if !ok {
			d = pythonDecoderFor(t, c)
			decoders[key] = d
		}
		h, err := ParseHeader(c.File)
		if err != nil {
			t.Fatal(err)
		}
		check := func(where string, decode func(context.Context, []byte, Header) (item, error)) {
			it, err := decode(t.Context(), c.File, h)
			if err != nil {
				t.Errorf("%s of %s, %s: %v", c.Name, c.Picture, where, err)
				return
			}
			got := it.plain
			if it.pixels != nil {
				got = bytes.Clone(it.pixels.Bytes())
				it.pixels.Close()
			}
			if apart := apart(t, d.dtype, got, c.Tensor); !(apart <= 1e-4) {
				t.Errorf("%s of %s, %s, %s %s %s: differs by %v", c.Name, c.Picture, where, c.Input, c.Layout, c.DType, apart)
			}
		}
		check("with TensorFlow", d.item)
		if c.Format == "png" {
			check("in Go", d.inGo)
		}
	}
	if len(decoders) < 100 {
		t.Errorf("%d ways of preprocessing, want 100 at least", len(decoders))
	}
}

// A pythonDecoder decodes a case of testenv/preprocessing.py in both ways.
type pythonDecoder struct {
	*decoder

	dtype savedmodel.DataType
	inGo  func(context.Context, []byte, Header) (item, error)
}

func pythonDecoderFor(t *testing.T, c testenv.Preprocessed) pythonDecoder {
	t.Helper()
	spec := defaultSpec()
	if err := decodeYAML([]byte("input: "+string(c.Input)), &spec); err != nil {
		t.Fatalf("%s: %s: %v", c.Name, c.Input, err)
	}
	if err := spec.validate(); err != nil {
		t.Fatalf("%s: %s: %v", c.Name, c.Input, err)
	}
	e := evidence{channels: pixels.Channels(spec.Input.Channels)}
	for e.dtype = savedmodel.Float32; e.dtype.String() != c.DType; e.dtype++ {
	}
	p, _ := spec.Input.preprocessing(e)
	p.Layout = pixels.Layout(c.Layout)
	d, err := newDecoder(p, e.dtype, false, savedmodel.Options{})
	if err != nil {
		t.Fatalf("%s: %s: %v", c.Name, c.Input, err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	return pythonDecoder{d, e.dtype, decodeInGo(p.recipe(e.dtype))}
}

// apart returns the largest difference between the numbers of two tensors.
func apart(t *testing.T, dtype savedmodel.DataType, a, b []byte) float64 {
	t.Helper()
	if len(a) != len(b) {
		return math.Inf(1)
	}
	list := func(content []byte) []float64 {
		tensor, err := savedmodel.NewTensor(dtype, int64(len(content)/dtype.Size()))
		if err != nil {
			t.Fatal(err)
		}
		defer tensor.Close()
		copy(tensor.Bytes(), content)
		return numbers(tensor)
	}
	most := 0.0
	want := list(b)
	for i, x := range list(a) {
		most = max(most, math.Abs(x-want[i])) // NaN stays
	}
	return most
}
