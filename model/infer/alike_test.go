package infer

import (
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv/corpus"
)

// onlyTensorFlow are damaged images that only TensorFlow accepts, with the errors of Go's decoders.
var onlyTensorFlow = map[string]string{
	"flipped gif/11": "too much image data",
}

// TensorFlow and Go refuse the same images of the corpus, among those with a valid header.
func TestDecodersAlike(t *testing.T) {
	modeltest.OpenLibrary(t)
	in := Preprocessing{Size: [2]int{4, 4}, Resize: "bilinear", Scale: same(1)}
	d, err := newDecoder(in, savedmodel.Float32, false, savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	inGo := decodeInGo(in.recipe(savedmodel.Float32))
	cases := corpus.Bad(1)
	for name, value := range corpus.Good() {
		cases = append(cases, corpus.Case{Name: "good " + name, Value: value})
	}
	tried, taken := 0, 0
	for _, c := range cases {
		h, err := ParseHeader(c.Value)
		if err != nil || h.Pixels > 1e6 {
			continue
		}
		tried++
		it, there := d.item(t.Context(), c.Value, h)
		if there == nil {
			it.pixels.Close()
			taken++
		}
		_, here := inGo(t.Context(), c.Value, h)
		known := onlyTensorFlow[c.Name]
		if (there == nil) != (here == nil) && (known == "" || here == nil || !strings.Contains(here.Error(), known)) {
			t.Errorf("%s: TensorFlow: %v; Go: %v", c.Name, there, here)
		}
	}
	t.Logf("%d get past the header, TensorFlow takes %d", tried, taken)
	if tried < 200 || taken < 20 {
		t.Error("too few to tell")
	}
}
