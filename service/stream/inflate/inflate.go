// Package inflate decompresses fetched batches of records within a bound.
//
// A batch of a few hundred bytes can hold gigabytes, in one record or in millions of empty ones;
// and the bounds of a fetch count compressed bytes only.
package inflate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrLater is the error for a batch that is within the bound by itself, but not with the batches
// before it, or with those of other partitions. Fetch it again.
var ErrLater = errors.New("too much for one fetch")

var errTooLarge = errors.New("larger than the limit")

// The memory that a client needs for each record and each header, besides their bytes.
const (
	RecordCost = 200
	headerCost = 64
)

// A Decompressor decompresses batches within a bound on their memory: on each batch, and on all
// since the last Reset. A batch may always take twice its compressed size, which is in memory
// anyway. The error for a larger batch, and for one that cannot be decompressed at all, wraps
// kgo.ErrMaxDecompress: its checksum is right, so a retry cannot help, and it must be skipped.
// Safe for concurrent use.
type Decompressor struct {
	// Slots, if not nil, bounds how many Decompressors that share it work at a time: each sends
	// to it before, and receives afterwards. Set it, and Fits, before use.
	Slots chan struct{}
	// Fits, if not nil, tells whether there is memory for the bytes that were decompressed since
	// the last Reset. If not, the last batch gets ErrLater.
	Fits func(bytes int64) bool

	limit int64     // set once
	zstd  sync.Pool // of *zstd.Decoder

	mu    sync.Mutex
	spent int64 // bytes since the last Reset; guarded by mu
}

// New returns a Decompressor with a bound in bytes.
func New(limit int64) *Decompressor {
	d := &Decompressor{limit: limit}
	d.zstd.New = func() any {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
		if err != nil {
			return err
		}
		return z
	}
	return d
}

// Spent returns how many bytes of memory the batches since the last Reset take.
func (d *Decompressor) Spent() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spent
}

// Reset begins to count anew.
func (d *Decompressor) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spent = 0
}

// Decompress implements kgo.Decompressor.
func (d *Decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if d.Slots != nil {
		d.Slots <- struct{}{}
		defer func() { <-d.Slots }()
	}
	limit := max(d.limit, 2*int64(len(src)))
	out, err := d.decompress(src, codec, limit)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", kgo.ErrMaxDecompress, err)
	}
	took := cost(out)
	if took > limit {
		return nil, fmt.Errorf("%w: its records take %d bytes of memory", kgo.ErrMaxDecompress, took)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spent > 0 && d.spent+took > limit || d.Fits != nil && !d.Fits(d.spent+took) {
		return nil, ErrLater
	}
	d.spent += took
	return out, nil
}

func (d *Decompressor) decompress(src []byte, codec kgo.CompressionCodecType, limit int64) ([]byte, error) {
	switch codec {
	case kgo.CodecNone:
		return src, nil
	case kgo.CodecGzip:
		r, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, err
		}
		return readAll(r, limit)
	case kgo.CodecSnappy:
		return unsnappy(src, limit)
	case kgo.CodecLz4:
		return readAll(lz4.NewReader(bytes.NewReader(src)), limit)
	case kgo.CodecZstd:
		return d.unzstd(src, limit)
	}
	return nil, fmt.Errorf("unknown compression codec %d", codec)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(out)) > limit {
		err = errTooLarge
	}
	return out, err
}

func (d *Decompressor) unzstd(src []byte, limit int64) ([]byte, error) {
	if limit == d.limit {
		pooled := d.zstd.Get()
		z, ok := pooled.(*zstd.Decoder)
		if !ok {
			return nil, pooled.(error)
		}
		out, err := z.DecodeAll(src, nil)
		d.zstd.Put(z)
		if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return out, err
		}
	}
	// The highest levels of zstd declare a window of up to 128 MiB, however small the data is.
	// DecodeAll needs no window, but its memory limit applies to declared windows too. So the
	// capacity of the output is the limit here.
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	out, err := z.DecodeAll(src, make([]byte, 0, limit))
	return bytes.Clone(out), err
}

// xerial begins the framing in which Java's clients write snappy.
var xerial = []byte{130, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

var errXerial = errors.New("snappy: broken framing")

func unsnappy(src []byte, limit int64) ([]byte, error) {
	if !bytes.HasPrefix(src, xerial) || len(src) < 16 {
		return unsnappyBlock(nil, src, limit)
	}
	var out []byte
	var err error
	for src = src[16:]; len(src) > 0; { // after the versions
		if len(src) < 4 {
			return nil, errXerial
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return nil, errXerial
		}
		if out, err = unsnappyBlock(out, src[:n], limit); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return out, nil
}

// unsnappyBlock appends a block, which begins with its decompressed length.
func unsnappyBlock(out, block []byte, limit int64) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if int64(len(out)+n) > limit {
		return nil, errTooLarge
	}
	if out == nil {
		return s2.Decode(nil, block)
	}
	decoded, err := s2.Decode(nil, block)
	return append(out, decoded...), err
}

// cost returns how many bytes of memory the records take. Bytes that are not in the format of
// records count by their number.
func cost(records []byte) int64 {
	n := int64(len(records))
	for in := records; len(in) > 0; {
		r := reader{in: in}
		length := r.varint()
		if r.bad || length < 0 || length > int64(len(r.in)) {
			return n
		}
		body, rest := r.in[:length], r.in[length:]
		r.in = body
		r.skip(1)  // attributes
		r.varint() // time
		r.varint() // offset
		r.skip(max(0, r.varint()))
		r.skip(max(0, r.varint()))
		headers := r.varint()
		if r.bad || headers < 0 || headers > int64(len(r.in)) {
			return n
		}
		n += RecordCost + headers*headerCost
		in = rest
	}
	return n
}

// A reader reads one record. It is bad when a field is missing.
type reader struct {
	in  []byte
	bad bool
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.in)
	if n <= 0 {
		r.bad = true
		return math.MaxInt32
	}
	r.in = r.in[n:]
	return v
}

func (r *reader) skip(n int64) {
	if n > int64(len(r.in)) {
		r.bad = true
		return
	}
	r.in = r.in[n:]
}
