package streamtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// A record that is too large for its topic is replaced, and the order is kept.
func tooLarge(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1, "max.message.bytes=20000")
	b.fill(1, 0, 10)
	var source atomic.Int64
	cfg := b.config()
	cfg.ReplaceRefused = func(in, out stream.Record, reason error) (stream.Record, error) {
		source.Store(in.Offset)
		switch {
		case reason == nil:
			t.Error("refused without a reason")
		case len(out.Value) == 50_000: // the first replacement is too large as well
			return stream.Record{Topic: b.output, Value: noise(40_000)}, nil
		case len(out.Value) != 40_000:
			t.Errorf("refused: %d bytes", len(out.Value))
		}
		return stream.Record{Topic: b.output, Value: in.Value}, nil
	}
	d := b.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Offset == 0 {
			time.Sleep(200 * time.Millisecond) // so that all are one run
		}
		if r.Offset == 6 {
			return []stream.Record{{Topic: b.output, Value: noise(50_000)}}, nil
		}
		return b.echo(ctx, r)
	})
	if d := cmp.Diff(sequence(0, 10), values(b.read(b.output, 10))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
	if source.Load() != 6 {
		t.Errorf("refused for offset %d", source.Load())
	}
}

// Records that are small enough by themselves, but not together, are not refused.
func batchTooLarge(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1, "max.message.bytes=20000")
	b.fill(1, 0, 12)
	cfg := b.config()
	cfg.ReplaceRefused = func(_, _ stream.Record, reason error) (stream.Record, error) {
		return stream.Record{}, fmt.Errorf("nothing is too large here: %w", reason)
	}
	d := b.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Offset == 0 {
			time.Sleep(200 * time.Millisecond)
		}
		return []stream.Record{{Topic: b.output, Key: r.Value, Value: noise(9_000)}}, nil
	})
	var keys []string
	for _, r := range b.read(b.output, 12) {
		keys = append(keys, string(r.Key))
	}
	if d := cmp.Diff(sequence(0, 12), keys); d != "" {
		t.Error(d)
	}
	d.stop()
}

// If a refused record has no replacement, or each one is refused as well, its partition waits and
// says so, and the others go on. A stop does not wait for it. When the topic takes the record, it
// is published in its place.
func refusedForGood(t *testing.T, b *harness) {
	for name, refused := range map[string]func(_, out stream.Record, _ error) (stream.Record, error){
		"NoReplacement": func(_, _ stream.Record, _ error) (stream.Record, error) {
			return stream.Record{}, errors.New("nothing smaller")
		},
		"RefusedAsWell": func(_, out stream.Record, _ error) (stream.Record, error) { return out, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHarness(t, b.Suite)
			cfg := b.config()
			cfg.ReplaceRefused = refused
			refusedUntilConfigured(t, b, cfg)
		})
	}
}

// refusedUntilConfigured runs a driver whose topic refuses offset 2 of partition 0, until the topic
// is configured to take it.
func refusedUntilConfigured(t *testing.T, b *harness, cfg stream.Config) {
	b.topic(b.input, 2)
	b.topic(b.output, 2, "max.message.bytes=20000")
	b.fill(2, 0, 5)
	handler := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Partition == 0 && r.Offset == 2 {
			return []stream.Record{{Topic: b.output, Value: noise(50_000)}}, nil
		}
		return b.echo(ctx, r)
	}
	reported := func(r *recorder) bool { return r.retried(b.output, "offset 2") }
	cfg.DrainTimeout = 2 * patience
	d := b.start(cfg, handler)
	b.until("the error", func() bool { return d.check(reported) })
	d.stop() // long before the drain timeout
	d = b.start(cfg, handler)
	b.until("the error, once more", func() bool { return d.check(reported) })
	b.fill(2, 5, 5)
	b.until("the other partition", func() bool { return d.check(func(r *recorder) bool { return r.committed[1] == 10 }) })
	if got := b.offsets(0)[0]; got > 2 {
		t.Errorf("committed %d beyond the refused record", got)
	}
	b.configure(b.output, "max.message.bytes", "100000")
	b.until("the refused one", func() bool { return d.check(func(r *recorder) bool { return r.committed[0] == 10 }) })
	b.until("the recovery", func() bool {
		return d.check(func(r *recorder) bool { return r.retries[len(r.retries)-1] == nil })
	})
	d.stop()
	got := values(b.read(b.output, 20))
	if !b.ExactlyOnce { // records before the refused one may be repeated
		seen := map[string]bool{}
		got[0] = slices.DeleteFunc(got[0], func(v string) bool {
			again := seen[v]
			seen[v] = true
			return again
		})
	}
	if len(got[0]) != 10 || len(got[0][2]) != 50_000 {
		t.Fatalf("%d records in partition 0", len(got[0]))
	}
	if d := cmp.Diff(append(sequence(0, 2), sequence(0, 10)[3:]...), slices.Delete(got[0], 2, 3)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(sequence(1, 10), got[1]); d != "" {
		t.Error(d)
	}
}

// The records that compaction leaves are read, with tombstones.
func compaction(t *testing.T, b *harness) {
	b.topic(b.input, 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.0001", "segment.ms=200", "max.compaction.lag.ms=200", "delete.retention.ms=600000")
	b.topic(b.output, 1)
	for i := range 5 { // batches of which all records are removed, some, or none
		var rs []*kgo.Record
		for k := range 10 {
			rs = append(rs, &kgo.Record{Topic: b.input, Key: fmt.Appendf(nil, "%d", k*(1+i%2)), Value: fmt.Appendf(nil, "%d", i)})
		}
		b.send(rs...)
	}
	b.send(&kgo.Record{Topic: b.input, Key: []byte("4"), Value: nil})
	time.Sleep(300 * time.Millisecond)
	b.send(&kgo.Record{Topic: b.input, Key: []byte("last"), Value: []byte("x")})
	if b.Compact != nil {
		b.Compact()
	}
	var want []*kgo.Record
	b.until("the compaction", func() bool { // 15 keys and the last one; it may take more than one pass
		want = b.read(b.input, 0)
		return len(want) == 16
	})
	d := b.start(b.config(), b.echo)
	got := b.read(b.output, len(want))
	b.until("lag 0", func() bool {
		return d.check(func(r *recorder) bool { return r.committed[0] == 52 && r.lag[0] == 0 })
	})
	d.stop()
	for i, w := range want {
		if !same(w.Key, got[i].Key) || !same(w.Value, got[i].Value) {
			t.Errorf("record %d: %q = %q, want %q = %q", i, got[i].Key, got[i].Value, w.Key, w.Value)
		}
	}
}

// Missing topics are an error that names each of them.
func missingTopics(t *testing.T, b *harness) {
	b.topic(b.output, 1)
	_, err := b.CheckTopics(b.context(), b.config(), false)
	if !errors.Is(err, stream.ErrMissingTopics) || !strings.Contains(err.Error(), b.input) ||
		!strings.Contains(err.Error(), b.dead) || strings.Contains(err.Error(), b.output) {
		t.Errorf("check: %v", err)
	}
}

// Outputs are created with the input's number of partitions and a larger limit, and limits are
// returned.
func createTopics(t *testing.T, b *harness) {
	b.topic(b.input, 3, "max.message.bytes=2000000")
	got, err := b.CheckTopics(b.context(), b.config(), true)
	if err != nil {
		t.Fatal(err)
	}
	want := []stream.Topic{
		{Name: b.input, Partitions: 3, Replicas: 1, MinInSync: 1, MaxMessageBytes: 2_000_000},
		{Name: b.output, Partitions: 3, Replicas: 1, MinInSync: 1, Created: true, MaxMessageBytes: 2_000_000 + 64<<10},
		{Name: b.dead, Partitions: 3, Replicas: 1, MinInSync: 1, Created: true, MaxMessageBytes: 2_000_000 + 64<<10},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	again, err := b.CheckTopics(b.context(), b.config(), false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, again, cmpopts.IgnoreFields(stream.Topic{}, "Created")); d != "" {
		t.Error(d)
	}
	b.configure(b.dead, "cleanup.policy", "compact,delete")
	b.until("the cleanup policy", func() bool {
		got, err := b.CheckTopics(b.context(), b.config(), false)
		return err == nil && !got[0].Compacted && !got[1].Compacted && got[2].Compacted
	})
	fresh := b.config()
	fresh.Inputs, fresh.Outputs = []string{b.input + "2"}, nil
	if got, err = b.CheckTopics(b.context(), fresh, true); err != nil || len(got) != 1 || got[0].Partitions == 0 {
		t.Errorf("create the input: %v, %v", got, err)
	}
}
