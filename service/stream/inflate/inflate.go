// Package inflate decompresses fetched batches of records within a bound.
//
// A batch of a few hundred bytes can hold gigabytes, in one record or in
// millions of empty ones, and what bounds a fetch counts compressed bytes only.
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

// ErrLater is why a batch is not decompressed that would be alone: with those
// before it, or with those of other partitions, it is too much. It is to be fetched again.
var ErrLater = errors.New("too much for one fetch")

var errTooLarge = errors.New("larger than the limit")

// What a client needs for each record and each header, besides their bytes.
const (
	RecordCost = 200
	headerCost = 64
)

// A Decompressor decompresses batches that take at most a number of bytes of
// memory each, and together since the last Reset. A batch may always take
// twice its compressed size, which is in memory anyway. The error for a larger
// one, and for one that cannot be decompressed at all, wraps
// kgo.ErrMaxDecompress: its checksum is right, so it will never be different,
// and there is nothing but to pass it. Safe for concurrent use.
type Decompressor struct {
	// Slots, if not nil, bounds how many Decompressors that share it work at a
	// time: each puts something into it meanwhile.
	Slots chan struct{}
	// Room, if not nil, is asked whether there is room for what was
	// decompressed since the last Reset, in bytes. If not, the last batch of it
	// is left for later.
	Room func(bytes int64) bool

	limit int64
	zstd  sync.Pool

	mu    sync.Mutex
	spent int64 // since the last Reset
}

// New returns a Decompressor with a limit in bytes.
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

// Spent is how many bytes were decompressed since the last Reset.
func (d *Decompressor) Spent() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spent
}

// Reset forgets what was decompressed before: it is taken.
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
	if d.spent > 0 && d.spent+took > limit || d.Room != nil && !d.Room(d.spent+took) {
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
	// Its highest levels declare a window of up to 128 MiB, whatever there is
	// to compress. DecodeAll needs none; but its own limit is one for windows
	// too, so the room that there is has to be the limit.
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
	for src = src[16:]; len(src) > 0; { // behind the versions
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

// unsnappyBlock appends a block, whose decompressed length stands before it.
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

// cost is how many bytes of memory the records take. What is not in the format
// of records counts by its length.
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

// A reader reads one record. It is bad once something was not there.
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
