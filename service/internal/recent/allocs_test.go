//go:build !race

package recent

import (
	"strings"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/service/stream"
)

// Nothing is allocated for a record, of whatever kind, once the buffers have grown.
func TestAllocates(t *testing.T) {
	small := answer(`{"id":"in-2-1"}`, stream.Header{Key: "a", Value: []byte("1")})
	large := answer(`{"outputs":"` + strings.Repeat("x", 1<<20) + `"}`)
	arrays := infer.Prediction{Outputs: make([]infer.Array, 3), Scores: make([]float32, 100)}
	r := Records{Shorten: func(b []byte, _ stream.Record, _ infer.Prediction) []byte { return append(b, "{}"...) }}
	in := record(0)
	for name, each := range map[string]func(){
		"answer":       func() { r.Answered(in, 1, infer.Prediction{}, small, false) },
		"arrays":       func() { r.Answered(in, 1, arrays, small, false) },
		"large answer": func() { r.Answered(in, 1, arrays, large, true) },
		"delivered":    func() { r.Delivered(in2, in.Offset, in.Offset) },
	} {
		work := func() {
			in.Offset++
			each()
			r.listedAt = time.Now() // as List does, which allocates
			r.mark(in2, func(s *slot) { s.listed = true })
		}
		for range 2 * (maxLatest + maxListed) {
			work()
		}
		if n := testing.AllocsPerRun(100, work); n > 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
