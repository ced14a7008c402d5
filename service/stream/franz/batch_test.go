package franz

import (
	"encoding/binary"
	"testing"

	"inceptor/service/stream"
)

func TestVarintLen(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 63, 64, -64, -65, 8191, 8192, 1 << 40, -1 << 63, 1<<63 - 1} {
		if got, want := varintLen(n), len(binary.AppendVarint(nil, n)); got != want {
			t.Errorf("%d takes %d bytes, want %d", n, got, want)
		}
	}
}

// A batch is made in the buffer, without allocations.
func TestBatchAllocates(t *testing.T) {
	rs := []stream.Record{{Value: make([]byte, 10_000)}, {Key: []byte("k"), Headers: []stream.Header{{Key: "a", Value: []byte("b")}}}}
	room := make([]byte, 0, 20_000)
	if n := testing.AllocsPerRun(100, func() { appendBatch(room, nil, rs, 1, 0, 0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
