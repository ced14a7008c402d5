package streamtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

// Bomb returns an option for a client that sends one record at a time, each of at least 500
// bytes. It replaces the record by one of n zeros, whose compressed batch is much smaller.
func Bomb(n int64) kgo.Opt {
	body := []byte{0, 0, 0}              // attributes, time, offset
	body = binary.AppendVarint(body, -1) // no key
	body = binary.AppendVarint(body, n)
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10))
	if err == nil {
		_, err = w.Write(append(binary.AppendVarint(nil, int64(len(body))+n+1), body...))
	}
	for rest := n; rest > 0 && err == nil; {
		zeros := make([]byte, min(rest, 1<<20))
		_, err = w.Write(zeros)
		rest -= int64(len(zeros))
	}
	if err == nil {
		_, err = w.Write([]byte{0}) // no headers
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return kgo.WithCompressor(fixed(out.Bytes()))
}

type fixed []byte

func (f fixed) Compress(*bytes.Buffer, []byte, ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	return f, kgo.CodecZstd
}

// bomb sends a record of n zeros.
func (b *harness) bomb(partition int32, n int64) {
	b.Helper()
	c := b.newClient(Bomb(n))
	defer c.Close()
	large := &kgo.Record{Topic: b.input, Partition: partition, Value: make([]byte, 100<<10)}
	if err := c.ProduceSync(b.context(), large).FirstErr(); err != nil {
		b.Fatalf("produce: %v", err)
	}
}

// A batch that is too large when it is decompressed is not read. What ReplaceUnread returns is
// published in its place, in order, and once. Other partitions go on.
func unreadBatch(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.bomb(0, 50<<20) // the very first record
	b.fill(2, 0, 5)
	b.bomb(0, 50<<20)
	b.send(&kgo.Record{Topic: b.input, Value: []byte("0-5")}, &kgo.Record{Topic: b.input, Partition: 1, Value: []byte("1-5")})
	b.send(&kgo.Record{Topic: b.input, Value: []byte("0-6")})
	cfg := b.config()
	cfg.BatchBytes = 1 << 20
	var mu sync.Mutex
	var batches []stream.Batch
	cfg.ReplaceUnread = func(u stream.Batch) []stream.Record {
		mu.Lock()
		defer mu.Unlock()
		batches = append(batches, u)
		return []stream.Record{{Topic: b.output, Value: []byte("unread")}}
	}
	want := []string{"unread", "0-0", "0-1", "0-2", "0-3", "0-4", "unread", "0-5", "0-6"}
	d := b.start(cfg, b.echo)
	got := values(b.read(b.output, len(want)+6))
	if d := cmp.Diff(want, got[0]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(sequence(1, 6), got[1]); d != "" {
		t.Error(d)
	}
	b.until("lag 0", func() bool { return d.check(func(r *recorder) bool { return r.committed[0] == 9 && r.lag[0] == 0 }) })
	d.stop()
	mu.Lock()
	if d := cmp.Diff([]stream.Batch{{Topic: b.input, First: 0, Last: 0}, {Topic: b.input, First: 6, Last: 6}}, batches); d != "" {
		t.Error(d)
	}
	mu.Unlock()
	b.send(&kgo.Record{Topic: b.input, Value: []byte("0-7")})
	d = b.start(cfg, b.echo)
	if d := cmp.Diff(append(want, "0-7"), values(b.read(b.output, len(want)+7))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
}

// Batches that are small enough by themselves are read, though those of one fetch are too large
// together.
func largeBatches(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2, "max.message.bytes=4000000")
	for range 10 {
		for p := range int32(2) {
			b.bomb(p, 700<<10)
		}
	}
	cfg := b.config()
	cfg.BatchBytes = 1 << 20
	cfg.ReplaceUnread = func(u stream.Batch) []stream.Record {
		t.Errorf("%+v is not read", u)
		return nil
	}
	d := b.start(cfg, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		return []stream.Record{{Topic: b.output, Value: fmt.Appendf(nil, "%d-%d: %d", r.Partition, r.Offset, len(r.Value))}}, nil
	})
	got := values(b.read(b.output, 20))
	for p := range 2 {
		var want []string
		for i := range 10 {
			want = append(want, fmt.Sprintf("%d-%d: %d", p, i, 700<<10))
		}
		if d := cmp.Diff(want, got[p]); d != "" {
			t.Error(d)
		}
	}
	d.check(func(r *recorder) bool {
		if slices.ContainsFunc(r.retries, func(err error) bool { return errors.Is(err, inflate.ErrLater) }) {
			t.Errorf("retries: %v", r.retries)
		}
		return true
	})
	d.stop()
}

// If a disk fault has changed records, only their partition waits. The observer is told, and the
// partition goes on when the records can be read.
func corrupt(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.fill(2, 0, 5)
	d := b.start(b.config(), b.echo)
	b.read(b.output, 10)
	flip := func() {
		f, err := os.OpenFile(b.Broker.Log(b.input, 0), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		end, err := f.Seek(-1, io.SeekEnd)
		var last [1]byte
		if err == nil {
			_, err = f.ReadAt(last[:], end)
		}
		if err == nil {
			last[0]++
			_, err = f.WriteAt(last[:], end)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	b.fill(1, 5, 1)
	flip()
	d = b.start(b.config(), b.echo)
	b.until("the error", func() bool {
		return d.check(func(r *recorder) bool {
			return r.retried("crc", b.input)
		})
	})
	for i := range 20 {
		b.send(&kgo.Record{Topic: b.input, Partition: 1, Value: fmt.Appendf(nil, "1-%d", i+5)})
	}
	if d := cmp.Diff(sequence(1, 25), values(b.read(b.output, 30))[1]); d != "" {
		t.Error(d)
	}
	d.check(func(r *recorder) bool {
		if r.generations != 1 {
			t.Errorf("%d generations, want one", r.generations)
		}
		return true
	})
	for range 255 { // with the first one this restores the byte
		flip()
	}
	b.until("the partition", func() bool {
		return d.check(func(r *recorder) bool { return r.committed[0] == 6 && r.retries[len(r.retries)-1] == nil })
	})
	if d := cmp.Diff(sequence(0, 6), values(b.read(b.output, 31))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
}
