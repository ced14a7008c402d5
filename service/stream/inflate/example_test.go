package inflate_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream/inflate"
)

// A batch of a few kilobytes that holds a megabyte is refused before it takes memory.
func Example() {
	var batch bytes.Buffer
	w := gzip.NewWriter(&batch)
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	for _, limit := range []int64{64 << 10, 4 << 20} {
		d := inflate.New(limit)
		records, err := d.Decompress(batch.Bytes(), kgo.CodecGzip)
		fmt.Println(len(records), errors.Is(err, kgo.ErrMaxDecompress))
	}
	// Output:
	// 0 true
	// 1048576 false
}
