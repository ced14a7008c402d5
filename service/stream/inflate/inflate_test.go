package inflate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// records returns n records with a value and empty headers.
func records(n, value, headers int) []byte {
	body := []byte{0, 0, 0}              // attributes, time, offset
	body = binary.AppendVarint(body, -1) // no key
	body = append(binary.AppendVarint(body, int64(value)), make([]byte, value)...)
	body = binary.AppendVarint(body, int64(headers))
	for range headers {
		body = append(body, 0, 1) // an empty key, no value
	}
	return bytes.Repeat(append(binary.AppendVarint(nil, int64(len(body))), body...), n)
}

func compress(t testing.TB, w io.WriteCloser, out *bytes.Buffer, data []byte) []byte {
	t.Helper()
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type codec struct {
	kind     kgo.CompressionCodecType
	compress func(testing.TB, []byte) []byte
}

// codecs are the ways in which producers compress.
var codecs = map[string]codec{
	"gzip": {kgo.CodecGzip, func(t testing.TB, data []byte) []byte {
		var out bytes.Buffer
		return compress(t, gzip.NewWriter(&out), &out, data)
	}},
	"snappy": {kgo.CodecSnappy, func(_ testing.TB, data []byte) []byte { return s2.EncodeSnappy(nil, data) }},
	"snappy, as from Java": {kgo.CodecSnappy, func(_ testing.TB, data []byte) []byte {
		out := append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1)
		for len(data) > 0 {
			n := min(len(data), 32<<10)
			block := s2.EncodeSnappy(nil, data[:n])
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(block))), block...)
			data = data[n:]
		}
		return out
	}},
	"lz4": {kgo.CodecLz4, func(t testing.TB, data []byte) []byte {
		var out bytes.Buffer
		return compress(t, lz4.NewWriter(&out), &out, data)
	}},
	"zstd, its size unknown": {kgo.CodecZstd, func(t testing.TB, data []byte) []byte { return zstandard(t, 128<<10, data) }},
	"zstd": {kgo.CodecZstd, func(t testing.TB, data []byte) []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(data, nil)
	}},
	// As of level 22.
	"zstd, its window large": {kgo.CodecZstd, func(t testing.TB, data []byte) []byte { return zstandard(t, 128<<20, data) }},
}

func zstandard(t testing.TB, window int, data []byte) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Flush()); err != nil { // so that the frame does not tell its size
		t.Fatal(err)
	}
	return compress(t, w, &out, nil)
}

// A batch within the limit comes out as it went in. A larger one is refused, and takes little more
// memory than the limit.
func TestDecompress(t *testing.T) {
	const limit = 1 << 20
	noise := make([]byte, 3*limit)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(noise)
	for name, c := range codecs {
		t.Run(name, func(t *testing.T) {
			for what, test := range map[string]struct {
				data []byte
				err  error
			}{
				"empty":                           {nil, nil},
				"one record":                      {records(1, 100, 3), nil},
				"as much as fits":                 {records(1, limit-1000, 0), nil},
				"too large":                       {records(1, limit, 0), kgo.ErrMaxDecompress},
				"much too large":                  {make([]byte, 60*limit), kgo.ErrMaxDecompress},
				"too many records":                {records(10_000, 0, 0), kgo.ErrMaxDecompress},
				"too many headers":                {records(1, 0, 100_000), kgo.ErrMaxDecompress},
				"does not compress, and is large": {noise, nil},
			} {
				src := c.compress(t, test.data)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				out, err := New(limit).Decompress(src, c.kind)
				runtime.ReadMemStats(&after)
				if !errors.Is(err, test.err) || err == nil && !bytes.Equal(out, test.data) {
					t.Errorf("%s: got %d bytes, %v", what, len(out), err)
				}
				if took := after.TotalAlloc - before.TotalAlloc; took > 40*limit {
					t.Errorf("%s: %d bytes were allocated on the way", what, took)
				}
			}
		})
	}
}

// A broken batch is refused like one that is too large: a retry cannot help.
func TestBroken(t *testing.T) {
	for name, c := range codecs {
		whole := c.compress(t, records(100, 1000, 2))
		for what, src := range map[string][]byte{
			"cut off":   whole[:len(whole)/2],
			"nonsense":  []byte("no such thing"),
			"too short": whole[:min(len(whole), 5)],
		} {
			if out, err := New(1<<20).Decompress(src, c.kind); !errors.Is(err, kgo.ErrMaxDecompress) {
				t.Errorf("%s, %s: got %d bytes, %v", name, what, len(out), err)
			}
		}
	}
	if _, err := New(1<<20).Decompress(nil, 7); !errors.Is(err, kgo.ErrMaxDecompress) {
		t.Errorf("an unknown codec: got %v", err)
	}
	// It declares a length, and has no data.
	if _, err := New(1<<20).Decompress(binary.AppendUvarint(nil, 1<<31), kgo.CodecSnappy); !errors.Is(err, kgo.ErrMaxDecompress) {
		t.Errorf("snappy without a body: got %v", err)
	}
}

// Batches must fit together too; the first one always does.
func TestTogether(t *testing.T) {
	d := New(1 << 20)
	src := codecs["zstd"].compress(t, records(1, 600<<10, 0))
	for range 3 {
		if _, err := d.Decompress(src, kgo.CodecZstd); err != nil {
			t.Errorf("the first: %v", err)
		}
		if _, err := d.Decompress(src, kgo.CodecZstd); !errors.Is(err, ErrLater) || errors.Is(err, kgo.ErrMaxDecompress) {
			t.Errorf("the second: %v", err)
		}
		d.Reset()
	}
}

// The cost is computed for any bytes.
func FuzzCost(f *testing.F) {
	f.Add(records(3, 10, 2))
	f.Add([]byte{0})
	f.Add([]byte{1, 2, 3})
	f.Add(bytes.Repeat([]byte{0xff}, 30))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := cost(data); n < int64(len(data)) || n > int64(len(data))*(RecordCost+headerCost) {
			t.Errorf("%d bytes cost %d", len(data), n)
		}
	})
}
