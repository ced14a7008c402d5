package franz

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

const (
	magic       = 2  // the version of the format
	headerBytes = 61 // before the records

	lengthAfter = 12 // a batch's length counts the bytes after these
	sumAfter    = 21 // a batch's checksum covers the bytes after these
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendBatch appends one batch of records to dst, which is empty, in the format that
// brokers store. A nil compressor compresses nothing.
func appendBatch(dst []byte, compressor kgo.Compressor, rs []stream.Record, id int64, epoch int16, sequence int32) []byte {
	h := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: magic,
		ProducerID: id, ProducerEpoch: epoch, FirstSequence: sequence,
		NumRecords: int32(len(rs)), LastOffsetDelta: int32(len(rs) - 1),
	}
	now := time.Now()
	at := func(r *stream.Record) int64 {
		if r.Time.IsZero() {
			return now.UnixMilli()
		}
		return r.Time.UnixMilli()
	}
	h.FirstTimestamp = at(&rs[0])
	h.MaxTimestamp = h.FirstTimestamp
	dst = append(dst, make([]byte, headerBytes)...)
	for i := range rs {
		time := at(&rs[i])
		h.MaxTimestamp = max(h.MaxTimestamp, time)
		dst = appendRecord(dst, &rs[i], time-h.FirstTimestamp, int64(i))
	}
	if compressor != nil {
		packed, codec := compressor.Compress(new(bytes.Buffer), dst[headerBytes:])
		if packed != nil && len(packed) < len(dst)-headerBytes {
			h.Attributes = int16(codec)
			dst = append(dst[:headerBytes], packed...)
		}
	}
	h.AppendTo(dst[:0])
	binary.BigEndian.PutUint32(dst[8:], uint32(len(dst)-lengthAfter))
	binary.BigEndian.PutUint32(dst[17:], crc32.Checksum(dst[sumAfter:], castagnoli))
	return dst
}

// appendRecord appends a record with its length before it.
func appendRecord(dst []byte, r *stream.Record, time, offset int64) []byte {
	size := 1 + varintLen(time) + varintLen(offset) + bytesLen(r.Key) + bytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for _, h := range r.Headers {
		size += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, 0) // attributes
	dst = binary.AppendVarint(dst, time)
	dst = binary.AppendVarint(dst, offset)
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for _, h := range r.Headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

// appendBytes appends bytes with their length before them. nil is not the same as empty.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

// bytesLen returns how many bytes appendBytes appends.
func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

// varintLen returns how many bytes binary.AppendVarint appends.
func varintLen(n int64) int {
	return (bits.Len64(uint64(n<<1^n>>63)|1) + 6) / 7
}
