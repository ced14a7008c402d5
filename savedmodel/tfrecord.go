package savedmodel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A TFRecordReader reads the records of a TFRecord file, such as tf_serving_warmup_requests. It is
// not for concurrent use. A record is
//
//	uint64 length
//	uint32 masked CRC-32C of the length
//	byte   data[length]
//	uint32 masked CRC-32C of the data
//
// with all numbers little endian (tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format
// details").
type TFRecordReader struct {
	r      io.Reader
	max    int   // bytes of a record
	offset int64 // of the next record
	n      int   // records read
	head   [12]byte
	buf    bytes.Buffer
}

// NewTFRecordReader returns a reader that refuses records of more than max bytes. It reads in small
// pieces, so r should be buffered.
func NewTFRecordReader(r io.Reader, max int) *TFRecordReader {
	return &TFRecordReader{r: r, max: max}
}

// Next returns the next record, which is valid until the next call. After the last record it
// returns io.EOF. Other errors name the record and its first byte, and wrap ErrMalformed unless
// reading failed. Do not call Next again after an error.
func (t *TFRecordReader) Next() ([]byte, error) {
	n, err := io.ReadFull(t.r, t.head[:])
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, t.malformed("the file ends after %d of the %d bytes of its header", n, len(t.head))
	case err != nil:
		return nil, fmt.Errorf("record %d at byte %d: %w", t.n, t.offset, err)
	}
	if got, want := maskedChecksum(t.head[:8]), binary.LittleEndian.Uint32(t.head[8:]); got != want {
		return nil, t.malformed("the length's checksum is %08x, the header says %08x", got, want)
	}
	length := binary.LittleEndian.Uint64(t.head[:8])
	if length > uint64(max(t.max, 0)) {
		return nil, t.malformed("it has %d bytes, the limit is %d", length, t.max)
	}

	// The buffer grows with the bytes read, not with the length that the header claims.
	t.buf.Reset()
	want := int64(length) + 4
	got, err := io.Copy(&t.buf, io.LimitReader(t.r, want))
	if err != nil {
		return nil, fmt.Errorf("record %d at byte %d: %w", t.n, t.offset, err)
	}
	if got != want {
		return nil, t.malformed("the file ends after %d of its %d bytes", got, want)
	}
	data, sum := t.buf.Bytes()[:length], t.buf.Bytes()[length:]
	if got, want := maskedChecksum(data), binary.LittleEndian.Uint32(sum); got != want {
		return nil, t.malformed("the data's checksum is %08x, the record says %08x", got, want)
	}
	t.offset += int64(len(t.head)) + want
	t.n++
	return data, nil
}

func (t *TFRecordReader) malformed(format string, args ...any) error {
	return malformed(t.offset, "record %d: %s", t.n, fmt.Sprintf(format, args...))
}

func maskedChecksum(b []byte) uint32 {
	return maskCRC(crc32.Checksum(b, castagnoli))
}
