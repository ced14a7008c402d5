package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// Handlers end in any order, and answer with none, one or two records. The outputs of each
// partition are in order, and in the partition that belongs to it.
func order(t *testing.T, b *harness) {
	const partitions, n = 4, 60
	b.topic(b.input, partitions)
	b.topic(b.output, 3)
	b.fill(partitions, 0, n)
	d := b.start(b.config(), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		time.Sleep(rand.N(10 * time.Millisecond))
		var out []stream.Record
		for i := range r.Offset % 3 {
			out = append(out, stream.Record{Topic: b.output, Value: fmt.Appendf(nil, "%s/%d", r.Value, i)})
		}
		return out, nil
	})
	got := map[string][]string{}
	for _, r := range b.read(b.output, partitions*n) {
		p, _, _ := strings.Cut(string(r.Value), "-")
		from, _ := strconv.Atoi(p)
		if int(r.Partition) != from%3 {
			t.Errorf("%s is in partition %d", r.Value, r.Partition)
		}
		got[p] = append(got[p], string(r.Value))
	}
	for p := range partitions {
		var want []string
		for i, v := range sequence(p, n) {
			for k := range i % 3 {
				want = append(want, fmt.Sprintf("%s/%d", v, k))
			}
		}
		if d := cmp.Diff(want, got[strconv.Itoa(p)]); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", p, d)
		}
	}
	b.until("lag 0", func() bool {
		return d.check(func(r *recorder) bool {
			return r.committed[0] == n && r.committed[3] == n && r.lag[0] == 0 && r.lag[3] == 0
		})
	})
	d.stop()
	b.until("the last commits", func() bool { o := b.offsets(0, 1, 2, 3); return min(o[0], o[1], o[2], o[3]) >= n }) // they can be read a little after their acknowledgement
	if d := cmp.Diff(map[int32]int64{0: n, 1: n, 2: n, 3: n}, b.offsets(0, 1, 2, 3)); d != "" {
		t.Error(d)
	}
}

// Keys, values, headers and times stay as they are, with every codec.
func fidelity(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	at := time.UnixMilli(time.Now().UnixMilli() - 5000)
	rs := []*kgo.Record{
		{Key: nil, Value: []byte("no key")},
		{Key: []byte{}, Value: []byte("an empty key")},
		{Key: []byte("tombstone"), Value: nil},
		{Key: []byte("empty"), Value: []byte{}},
		{Key: []byte("big"), Value: noise(300_000)},
		{Value: []byte("headers"), Headers: []kgo.RecordHeader{
			{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b", Value: []byte("3")}, {Key: "", Value: []byte{}}}},
	}
	codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	for i, codec := range codecs {
		c := b.newClient(kgo.ProducerBatchCompression([]kgo.CompressionCodec{
			kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[i]))
		for _, r := range rs {
			r := *r
			r.Topic, r.Timestamp = b.input, at.Add(time.Duration(i)*time.Second)
			if err := c.ProduceSync(b.context(), &r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		cfg := b.config()
		cfg.Compression = codec
		d := b.start(cfg, b.echo)
		got := b.read(b.output, (i+1)*len(rs))
		d.stop()
		for k, r := range got[i*len(rs):] {
			want := rs[k]
			if !same(want.Key, r.Key) || !same(want.Value, r.Value) {
				t.Errorf("%s, record %d: %.20q = %.20q, want %.20q = %.20q", codec, k, r.Key, r.Value, want.Key, want.Value)
			}
			if len(want.Headers) != len(r.Headers) || len(want.Headers) > 0 && !cmp.Equal(want.Headers, r.Headers) {
				t.Errorf("%s, record %d: headers %v, want %v", codec, k, r.Headers, want.Headers)
			}
			if !r.Timestamp.Equal(at.Add(time.Duration(i) * time.Second)) {
				t.Errorf("%s, record %d: time %v", codec, k, r.Timestamp)
			}
		}
	}
}

// same compares two values; nil and empty differ.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// While the broker does not acknowledge the output, here because its topic does not exist,
// nothing is committed, and the driver waits.
func commitAfterAck(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.fill(1, 0, 10)
	d := b.start(b.config(), b.echo)
	b.until("a retry", func() bool { return d.check(func(r *recorder) bool { return len(r.retries) > 2 }) })
	if got := b.offsets(0)[0]; got > 0 {
		t.Fatalf("committed %d before any output was acknowledged", got)
	}
	if got := d.deliveries(b.input, 0); len(got) > 0 {
		t.Fatalf("delivered are %v before any output was acknowledged", got)
	}
	b.topic(b.output, 1)
	if d := cmp.Diff(sequence(0, 10), values(b.read(b.output, 10))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
	b.until("the last commit", func() bool { return b.offsets(0)[0] >= 10 }) // it can be read a little after its acknowledgement
	if got := b.offsets(0)[0]; got != 10 {
		t.Errorf("committed %d, want 10", got)
	}
	if diff := cmp.Diff([]int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, d.deliveries(b.input, 0)); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

// deliveries returns the offsets of a partition that were delivered, as they were told.
func (r *running) deliveries(topic string, partition int) []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.delivered[stream.Partition{Topic: topic, ID: partition}])
}

// The observer is told once of each record that its outputs are acknowledged, in the order of the
// offsets and before the commit: not when the handler has ended, and also when there is no output.
// It is told of each output which record has caused it.
func delivered(t *testing.T, b *harness) {
	const partitions, n, held = 2, 40, 25
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	b.fill(partitions, 0, n)
	release := make(chan struct{})
	var ended atomic.Int64
	d := b.start(b.config(), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Partition == 1 && r.Offset == held {
			select {
			case <-release:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		defer ended.Add(1)
		if r.Offset%3 == 0 {
			return nil, nil
		}
		return b.echo(ctx, r)
	})
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i)
	}
	b.until("the records before the one that waits", func() bool {
		return len(d.deliveries(b.input, 0)) >= n && len(d.deliveries(b.input, 1)) >= held
	})
	window := int64(b.config().Window.Records)
	b.until("the handlers of the window", func() bool { return ended.Load() >= n+min(n, held+window)-1 })
	if diff := cmp.Diff([][]int64{all, all[:held]}, [][]int64{d.deliveries(b.input, 0), d.deliveries(b.input, 1)}); diff != "" {
		t.Errorf("delivered while record %d waits (-want +got):\n%s", held, diff)
	}
	close(release)
	b.until("all records", func() bool { return len(d.deliveries(b.input, 1)) >= n })
	d.stop()
	if diff := cmp.Diff([][]int64{all, all}, [][]int64{d.deliveries(b.input, 0), d.deliveries(b.input, 1)}); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	outputs := slices.DeleteFunc(slices.Clone(all), func(offset int64) bool { return offset%3 == 0 })
	for id := range partitions {
		if diff := cmp.Diff(outputs, d.acknowledged[stream.Partition{Topic: b.input, ID: id}]); diff != "" {
			t.Errorf("outputs acknowledged (-want +got):\n%s", diff)
		}
	}
	if len(d.early) > 0 {
		t.Errorf("committed before they were delivered: %v", d.early)
	}
}

// The window bounds the records that handlers get.
func windowRecords(t *testing.T, b *harness) {
	windowed(t, b, stream.Window{Records: 4, Bytes: 1 << 20}, 4)
}

// The window bounds their bytes; a larger record passes alone.
func windowBytes(t *testing.T, b *harness) {
	windowed(t, b, stream.Window{Records: 100, Bytes: 2500}, 2)
}

func windowed(t *testing.T, b *harness, w stream.Window, limit int64) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	var rs []*kgo.Record
	for i := range 40 {
		size := 1000
		if i%10 == 5 {
			size = 5000
		}
		rs = append(rs, &kgo.Record{Topic: b.input, Value: fmt.Appendf(nil, "%0*d", size, i)})
	}
	b.send(rs...)
	var now, most atomic.Int64
	var wrong atomic.Bool
	full := make(chan struct{}) // closed when as many handlers run as may
	reached := sync.OnceFunc(func() { close(full) })
	cfg := b.config()
	cfg.Window = w
	d := b.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		n := now.Add(1)
		defer now.Add(-1)
		if n > limit || w.Bytes < 5000 && len(r.Value) == 5000 && n > 1 {
			wrong.Store(true)
		}
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == limit {
			reached()
		}
		select {
		case <-full:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		time.Sleep(10 * time.Millisecond)
		return b.echo(ctx, r)
	})
	b.read(b.output, len(rs))
	d.stop()
	if wrong.Load() || most.Load() != limit {
		t.Errorf("%d handlers at once, want %d at most, and then", most.Load(), limit)
	}
}

// A failing handler is called again until it succeeds, the observer is told, and later records
// wait.
func handlerError(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.fill(1, 0, 10)
	var calls atomic.Int64
	var pass atomic.Bool
	d := b.start(b.config(), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Offset == 3 && !pass.Load() {
			calls.Add(1)
			return nil, errors.New("not now")
		}
		return b.echo(ctx, r)
	})
	b.until("three attempts", func() bool { return calls.Load() >= 3 })
	b.until("the commit before it", func() bool { return b.offsets(0)[0] == 3 })
	if got := values(b.read(b.output, 3))[0]; len(got) != 3 {
		t.Errorf("published %v beyond the failing record", got)
	}
	pass.Store(true)
	if d := cmp.Diff(sequence(0, 10), values(b.read(b.output, 10))[0]); d != "" {
		t.Error(d)
	}
	b.until("the end of the retries", func() bool {
		return d.check(func(r *recorder) bool { return len(r.retries) >= 4 && r.retries[len(r.retries)-1] == nil })
	})
	d.stop()
}

// A partition that stands still holds back no other one, however long its backlog.
func stuckPartition(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	const backlog, more = 3000, 20
	b.fill(2, 0, backlog)
	release := make(chan struct{})
	d := b.start(b.config(), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Partition == 0 {
			select {
			case <-release:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return b.echo(ctx, r)
	})
	b.until("the other partition's backlog", func() bool { return b.offsets(1)[1] >= backlog })
	b.fill(2, backlog, more)
	if d := cmp.Diff(map[int][]string{1: sequence(1, backlog+more)}, values(b.read(b.output, backlog+more))); d != "" {
		t.Errorf("while it is stuck (-want +got):\n%s", d)
	}
	close(release)
	if d := cmp.Diff(sequence(0, backlog+more), values(b.read(b.output, 2*(backlog+more)))[0]); d != "" {
		t.Errorf("afterwards (-want +got):\n%s", d)
	}
	d.stop()
}

// A single record passes fast.
func latency(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	d := b.start(b.config(), b.echo)
	c := b.newReader(b.output)
	// Other work on the machine makes some slow. What lingers makes all of them slow.
	b.until("a record that is there and back within 200ms", func() bool {
		begin := time.Now()
		b.send(&kgo.Record{Topic: b.input, Value: []byte("x")})
		for n := 0; n == 0; {
			n = len(c.PollFetches(b.context()).Records())
		}
		took := time.Since(begin)
		t.Logf("there and back: %v", took)
		return took <= 200*time.Millisecond
	})
	d.stop()
}

// calls counts how often each record was handled.
type calls struct {
	mu sync.Mutex
	of map[string]int
}

func (c *calls) add(r stream.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[string(r.Value)]++
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.of)
}
