package savedmodel

import (
	"context"
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
	stopped func() error             // ctx.Err of the load that reads
	slices  map[string][]bundleEntry // by the key of the value that they are parts of; see pieces
	// infinite are the keys of values in which ±Inf is no fault.
	infinite map[string]bool
}

// openCheckpoint reads the variables' index of the version in dir. Values can be read until ctx
// ends.
func openCheckpoint(ctx context.Context, dir string) (*checkpoint, error) {
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
	c := newCheckpoint(dir, index)
	c.stopped = ctx.Err
	return c, nil
}

func newCheckpoint(dir string, index *bundleIndex) *checkpoint {
	c := &checkpoint{dir: dir, index: index, entries: make(map[string]bundleEntry), shards: make(map[int32]*os.File), stopped: func() error { return nil }, infinite: make(map[string]bool)}
	for _, e := range index.entries {
		c.entries[e.key] = e
	}
	return c
}

func (c *checkpoint) close() {
	for _, f := range c.shards {
		_ = f.Close() // which was only read
	}
}

// check tells whether the shard has the entry's bytes, so that no memory is
// taken for a value that the index only claims.
func (c *checkpoint) check(e bundleEntry) error {
	f, err := c.shard(e)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return c.wrap(e, err)
	}
	if st.Size() < e.offset+e.size {
		return c.wrap(e, malformed(st.Size(), "the file ends"))
	}
	return nil
}

// shard is the open file that holds an entry.
func (c *checkpoint) shard(e bundleEntry) (*os.File, error) {
	if f := c.shards[e.shard]; f != nil {
		return f, nil
	}
	f, err := os.Open(filepath.Join(c.dir, filepath.FromSlash(c.index.shardFile(e.shard))))
	if err != nil {
		return nil, fmt.Errorf("variable %q: %w", plainName(e.key), err)
	}
	c.shards[e.shard] = f
	return f, nil
}

func (c *checkpoint) wrap(e bundleEntry, err error) error {
	return fmt.Errorf("variable %q: %s: %w", plainName(e.key), c.index.shardFile(e.shard), err)
}

// readPart is what is read, and put into the checksum, while the processor's
// cache still has it.
const readPart = 256 << 10

// read fills dst, which has e.size bytes, with the entry's value, in the layout that it has on
// disk, and checks it against the index. Its error wraps ErrNotFinite if the value is not finite.
func (c *checkpoint) read(e bundleEntry, dst []byte) error {
	return c.parts(e, func(at, n int) []byte { return dst[at : at+n] })
}

// scan is read for a value that nobody needs.
func (c *checkpoint) scan(e bundleEntry) error {
	buf := make([]byte, min(readPart, e.size))
	return c.parts(e, func(_, n int) []byte { return buf[:n] })
}

// parts reads an entry's value part by part into what to gives for it.
func (c *checkpoint) parts(e bundleEntry, to func(at, n int) []byte) error {
	f, err := c.shard(e)
	if err != nil {
		return err
	}
	crc, odd := uint32(0), error(nil)
	for at := 0; int64(at) < e.size; at += readPart {
		if err := c.stopped(); err != nil {
			return err
		}
		part := to(at, int(min(readPart, e.size-int64(at))))
		n, err := f.ReadAt(part, e.offset+int64(at))
		if n < len(part) {
			if errors.Is(err, io.EOF) {
				return c.wrap(e, malformed(e.offset+int64(at+n), "the file ends"))
			}
			return c.wrap(e, err)
		}
		crc = crc32.Update(crc, castagnoli, part)
		if odd == nil {
			odd = c.oddWeight(e, part, at)
		}
	}
	if maskCRC(crc) != e.crc32c {
		return c.wrap(e, malformed(e.offset, "the checksum of %d bytes is %08x, the index says %08x",
			e.size, maskCRC(crc), e.crc32c))
	}
	return odd
}
