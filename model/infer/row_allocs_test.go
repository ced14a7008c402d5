//go:build !race

package infer

import (
	"testing"

	"inceptor/savedmodel"
)

// Reading a row allocates nothing.
func TestRowAllocates(t *testing.T) {
	one := readerOf(t, map[string]savedmodel.TensorInfo{"x": input(savedmodel.Float32, 8)})
	two := readerOf(t, map[string]savedmodel.TensorInfo{"age": input(savedmodel.Int64), "x": input(savedmodel.Float32, 2)})
	checkAllocs(t, one, `[0.125,0.25,0.5,1,2,4,8,16]`)
	checkAllocs(t, two, `{"x":[1,2],"age":3}`)
}

func checkAllocs(t *testing.T, p *rowReader, text string) {
	t.Helper()
	value := []byte(text)
	n := testing.AllocsPerRun(1000, func() {
		it, err := p.item(t.Context(), value, Header{})
		if err != nil {
			t.Fatal(err)
		}
		it.close()
	})
	if n > 0.5 { // a collection may empty the pool
		t.Errorf("%s: %v allocations", text, n)
	}
}
