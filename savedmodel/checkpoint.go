package savedmodel

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A checkpoint is the variables' values on disk. Not for concurrent use.
type checkpoint struct {
	dir     string
	index   *bundleIndex
	entries map[string]bundleEntry // by key
	shards  map[int32]*os.File
}

// openCheckpoint reads the variables' index of the version in dir.
func openCheckpoint(dir string) (*checkpoint, error) {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(indexFile)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndexBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxIndexBytes {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", indexFile, ErrMalformed, maxIndexBytes)
	}
	index, err := parseBundleIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	c := &checkpoint{dir: dir, index: index, entries: make(map[string]bundleEntry), shards: make(map[int32]*os.File)}
	for _, e := range index.entries {
		if !e.isSlice() {
			c.entries[e.key] = e
		}
	}
	return c, nil
}

func (c *checkpoint) close() {
	for _, f := range c.shards {
		_ = f.Close() // which was only read
	}
}

// readPart is what is read, and put into the checksum, while the processor's
// cache still has it.
const readPart = 256 << 10

// read fills dst, which has e.size bytes, with the entry's value, in the
// layout that it has on disk, and checks it against the index.
func (c *checkpoint) read(e bundleEntry, dst []byte) error {
	shard := c.index.shardFile(e.shard)
	fail := func(err error) error { return fmt.Errorf("variable %q: %s: %w", plainName(e.key), shard, err) }
	f := c.shards[e.shard]
	if f == nil {
		var err error
		if f, err = os.Open(filepath.Join(c.dir, filepath.FromSlash(shard))); err != nil {
			return fmt.Errorf("variable %q: %w", plainName(e.key), err)
		}
		c.shards[e.shard] = f
	}
	crc := uint32(0)
	for at := 0; at < len(dst); at += readPart {
		part := dst[at:min(at+readPart, len(dst))]
		n, err := f.ReadAt(part, e.offset+int64(at))
		if n < len(part) {
			if errors.Is(err, io.EOF) {
				return fail(malformed(e.offset+int64(at+n), "the file ends"))
			}
			return fail(err)
		}
		crc = crc32.Update(crc, castagnoli, part)
	}
	if maskCRC(crc) != e.crc32c {
		return fail(malformed(e.offset, "the checksum of %d bytes is %08x, the index says %08x", e.size, maskCRC(crc), e.crc32c))
	}
	return nil
}
