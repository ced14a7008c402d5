package franz

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

const (
	magic = 2 // of the format of batches

	// What a batch's length does not count, and its checksum.
	lengthAfter = 12
	sumAfter    = 21
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode makes one batch of records, in the format that brokers store, of the
// producer's next sequence number.
func (p *producer) encode(rs []stream.Record, sequence int32) []byte {
	size, now := 0, time.Now()
	for _, r := range rs {
		size += int(r.Size()) + 30
	}
	times := make([]int64, len(rs))
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: magic,
		ProducerID: p.id, ProducerEpoch: p.epoch, FirstSequence: sequence,
		NumRecords: int32(len(rs)), LastOffsetDelta: int32(len(rs) - 1),
	}
	for i, r := range rs {
		if r.Time.IsZero() {
			r.Time = now
		}
		times[i] = r.Time.UnixMilli()
		if i == 0 || times[i] > b.MaxTimestamp {
			b.MaxTimestamp = times[i]
		}
	}
	b.FirstTimestamp = times[0]
	records, body := make([]byte, 0, size), []byte(nil)
	for i, r := range rs {
		body = append(body[:0], 0) // attributes
		body = binary.AppendVarint(body, times[i]-b.FirstTimestamp)
		body = binary.AppendVarint(body, int64(i))
		body = appendBytes(body, r.Key)
		body = appendBytes(body, r.Value)
		body = binary.AppendVarint(body, int64(len(r.Headers)))
		for _, h := range r.Headers {
			body = binary.AppendVarint(body, int64(len(h.Key)))
			body = append(body, h.Key...)
			body = appendBytes(body, h.Value)
		}
		records = binary.AppendVarint(records, int64(len(body)))
		records = append(records, body...)
	}
	b.Records = records
	if p.compressor != nil {
		compressed, codec := p.compressor.Compress(new(bytes.Buffer), records)
		if compressed != nil && len(compressed) < len(records) {
			b.Records, b.Attributes = compressed, int16(codec)
		}
	}
	out := b.AppendTo(make([]byte, 0, len(b.Records)+64))
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-lengthAfter))
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[sumAfter:], castagnoli))
	return out
}

// appendBytes appends bytes with their length before them; nil is not the same
// as none.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}
