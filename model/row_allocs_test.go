//go:build !race

package model

import (
	"testing"

	"inceptor/savedmodel"
)

// A row costs no memory of its own.
func TestRowAllocates(t *testing.T) {
	p := readerOf(t, map[string]savedmodel.TensorInfo{"x": input(savedmodel.Float32, 8)})
	value := []byte(`[0.125,0.25,0.5,1,2,4,8,16]`)
	n := testing.AllocsPerRun(1000, func() {
		it, err := p.item(t.Context(), value, Header{})
		if err != nil {
			t.Fatal(err)
		}
		it.close()
	})
	if n > 0.5 { // a collection may empty the pool
		t.Errorf("%v allocations a row", n)
	}
}
