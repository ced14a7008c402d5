package savedmodel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// A tensor bundle's index is a sorted string table as LevelDB defines it
// (github.com/google/leveldb, doc/table_format.md; TensorFlow's copy is
// tsl/lib/io/{format,table,block}.cc):
//
//	file    data blocks, metaindex block, index block, footer
//	footer  two block handles (metaindex, index), zeros to 40 bytes, the magic
//	handle  offset and size as varints; the size without the trailer
//	block   entries, their restart points (uint32 each), the points' number
//	trailer one byte for the compression, masked CRC-32C of block and that byte
//	entry   three varints (bytes of the key shared with the key before, other
//	        bytes of the key, bytes of the value), key's other bytes, value
//
// The value of an entry of the index block is the handle of a data block. All fixed-width numbers
// are little endian.
const (
	tableFooterLen  = 48
	tableTrailerLen = 5
	tableMagic      = 0xdb4775248b80fb57

	tableUncompressed = 0
	tableSnappy       = 1

	maxTableBlock   = 64 << 20 // bytes of a decompressed block
	maxTableKeys    = 64 << 20 // bytes of all keys together
	maxSnappyFactor = 64       // Snappy's own limit is below 22
)

// ErrMalformed says that a file's contents break its format. An error about a file that cannot be
// read does not wrap it.
var ErrMalformed = errors.New("malformed")

func malformed(offset int64, format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: %s", ErrMalformed, offset, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskCRC converts a CRC-32C to the form that TensorFlow and LevelDB store. It keeps a checksum
// useful over data that itself holds checksums.
func maskCRC(crc uint32) uint32 {
	return (crc>>15 | crc<<17) + 0xa282ead8
}

// walkTable calls visit for each entry of the table in b, in the order of the keys. Key and value
// are only valid during the call. Blocks must follow one another, as every writer lays them out,
// and keys must ascend. So time and memory are linear in len(b), whatever its contents.
func walkTable(b []byte, visit func(key, value []byte) error) error {
	if len(b) < tableFooterLen {
		return malformed(int64(len(b)), "the file ends within the %d bytes of its footer", tableFooterLen)
	}
	footerAt := len(b) - tableFooterLen
	footer := b[footerAt:]
	if binary.LittleEndian.Uint64(footer[tableFooterLen-8:]) != tableMagic {
		return malformed(int64(len(b)-8), "no magic number of a table")
	}
	body := b[:footerAt]
	_, n, err := tableHandle(footer, int64(footerAt))
	if err != nil {
		return err
	}
	index, _, err := tableHandle(footer[n:], int64(footerAt+n))
	if err != nil {
		return err
	}
	indexBlock, err := tableBlock(body, index)
	if err != nil {
		return err
	}

	var (
		last  []byte // the previous key
		first = true
		end   uint64 // of the previous data block
		keys  int    // bytes of all keys
	)
	return walkBlock(indexBlock, int64(index.offset), func(_, value []byte) error {
		h, _, err := tableHandle(value, int64(index.offset))
		if err != nil {
			return err
		}
		if h.offset < end {
			return malformed(int64(index.offset), "the block at byte %d begins before the previous one ends, at byte %d", h.offset, end)
		}
		block, err := tableBlock(body, h)
		if err != nil {
			return err
		}
		end = h.offset + h.size
		return walkBlock(block, int64(h.offset), func(key, value []byte) error {
			if !first && bytes.Compare(key, last) <= 0 {
				return malformed(int64(h.offset), "key %q follows %q in this block", key, last)
			}
			if keys += len(key); keys > maxTableKeys {
				return malformed(int64(h.offset), "keys of more than %d bytes", maxTableKeys)
			}
			first = false
			last = append(last[:0], key...)
			if err := visit(key, value); err != nil {
				return fmt.Errorf("block at byte %d: %w", h.offset, err)
			}
			return nil
		})
	})
}

type handle struct{ offset, size uint64 }

// tableHandle reads a block handle from the start of b and returns its length. The slice b lies at
// byte at of the file.
func tableHandle(b []byte, at int64) (handle, int, error) {
	offset, n := binary.Uvarint(b)
	if n <= 0 {
		return handle{}, 0, malformed(at, "no block handle")
	}
	size, m := binary.Uvarint(b[n:])
	if m <= 0 {
		return handle{}, 0, malformed(at, "no block handle")
	}
	return handle{offset, size}, n + m, nil
}

// tableBlock returns a block's entries and restart points, decompressed. It verifies the checksum.
func tableBlock(b []byte, h handle) ([]byte, error) {
	total := uint64(len(b))
	if total < tableTrailerLen || h.offset > total-tableTrailerLen || h.size > total-tableTrailerLen-h.offset {
		return nil, malformed(int64(min(h.offset, total)), "a handle names %d bytes at byte %d, but the blocks end at byte %d", h.size, h.offset, total)
	}
	at := int64(h.offset)
	block := b[h.offset:][:h.size]
	trailer := b[h.offset+h.size:][:tableTrailerLen]
	crc := crc32.Checksum(b[h.offset:][:h.size+1], castagnoli)
	if want := binary.LittleEndian.Uint32(trailer[1:]); maskCRC(crc) != want {
		return nil, malformed(at, "the block's checksum is %08x, its trailer says %08x", maskCRC(crc), want)
	}
	switch trailer[0] {
	case tableUncompressed:
		return block, nil
	case tableSnappy:
		n, err := s2.DecodedLen(block)
		if err != nil {
			return nil, malformed(at, "compressed block: %v", err)
		}
		if n > maxTableBlock || n > maxSnappyFactor*len(block) {
			return nil, malformed(at, "compressed block: %d bytes claim to hold %d", len(block), n)
		}
		out, err := s2.Decode(nil, block) // S2 reads Snappy's block format
		if err != nil {
			return nil, malformed(at, "compressed block: %v", err)
		}
		return out, nil
	}
	return nil, malformed(at, "unknown compression %d of the block", trailer[0])
}

// walkBlock calls visit for each entry of a block, which lies at byte at of the file.
func walkBlock(block []byte, at int64, visit func(key, value []byte) error) error {
	if len(block) < 4 {
		return malformed(at, "a block of %d bytes", len(block))
	}
	restarts := uint64(binary.LittleEndian.Uint32(block[len(block)-4:]))
	if restarts > uint64(len(block)-4)/4 {
		return malformed(at, "a block of %d bytes with %d restart points", len(block), restarts)
	}
	entries := block[:len(block)-4-4*int(restarts)]
	var key []byte
	for pos := 0; pos < len(entries); {
		rest := entries[pos:]
		var lens [3]uint64 // shared, unshared, value
		read := 0
		for i := range lens {
			v, n := binary.Uvarint(rest[read:])
			if n <= 0 {
				return malformed(at+int64(pos), "no entry")
			}
			lens[i] = v
			read += n
		}
		shared, unshared, value := lens[0], lens[1], lens[2]
		rest = rest[read:]
		left := uint64(len(rest))
		if shared > uint64(len(key)) || unshared > left || value > left-unshared {
			return malformed(at+int64(pos), "an entry of %d+%d bytes that shares %d, with %d left and %d to share",
				unshared, value, shared, left, len(key))
		}
		key = append(key[:shared], rest[:unshared]...)
		if err := visit(key, rest[unshared:unshared+value]); err != nil {
			return err
		}
		pos += read + int(unshared+value)
	}
	return nil
}
