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

// A checkpoint reads the variables' values from disk. Not for concurrent use.
type checkpoint struct {
	dir           string
	index         *bundleIndex
	entries       map[string]bundleEntry   // by key
	shards        map[int32]*os.File       // open files
	stopped       func() error             // ctx.Err of the load
	slices        map[string][]bundleEntry // parts by the key of the whole value; see pieces
	mayBeInfinite map[string]bool          // keys of values in which ±Inf is not an error
}

// openCheckpoint opens the checkpoint of the version in dir. Reads fail once ctx has ended.
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
	c := &checkpoint{dir: dir, index: index, entries: make(map[string]bundleEntry), shards: make(map[int32]*os.File), stopped: func() error { return nil }, mayBeInfinite: make(map[string]bool)}
	for _, e := range index.entries {
		c.entries[e.key] = e
	}
	return c
}

func (c *checkpoint) close() {
	for _, f := range c.shards {
		_ = f.Close() // the file was only read
	}
}

// check returns an error if the shard is too short for the entry. Call it before allocating memory
// for the value.
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

// shard returns the open file that holds an entry.
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

// readPart is how many bytes are read at once. They are still in the processor's cache when the
// checksum is computed.
const readPart = 256 << 10

// read fills dst, which has e.size bytes, with the entry's value as it is on disk. It verifies the
// checksum. The error wraps ErrDiverged if the value has NaN or ±Inf.
func (c *checkpoint) read(e bundleEntry, dst []byte) error {
	return c.parts(e, func(at, n int) []byte { return dst[at : at+n] })
}

// scan checks an entry's value as read does, without keeping it.
func (c *checkpoint) scan(e bundleEntry) error {
	buf := make([]byte, min(readPart, e.size))
	return c.parts(e, func(_, n int) []byte { return buf[:n] })
}

// parts reads an entry's value part by part. It calls to for the memory of each part.
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
			odd = c.checkPart(e, part, at)
		}
	}
	if maskCRC(crc) != e.crc32c {
		return c.wrap(e, malformed(e.offset, "the checksum of %d bytes is %08x, the index says %08x",
			e.size, maskCRC(crc), e.crc32c))
	}
	return odd
}
