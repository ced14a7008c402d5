package streamtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// A compacted output takes no record without a key. Each of these is replaced, and the reason
// says so; the others are published.
func compactedOutput(t *testing.T, b *harness) {
	const n = 200
	b.topic(b.input, 2)
	b.topic(b.output, 2, "cleanup.policy=compact,delete")
	b.topic(b.dead, 2)
	var rs []*kgo.Record
	keyed, keyless := map[int][]string{}, map[int][]string{}
	for i := range n {
		for p := range 2 {
			r := &kgo.Record{Topic: b.input, Partition: int32(p), Value: fmt.Appendf(nil, "%d-%d", p, i)}
			if p == 1 || i%20 == 0 {
				r.Key = fmt.Appendf(nil, "key %d", i)
				keyed[p] = append(keyed[p], string(r.Value))
			} else {
				keyless[p] = append(keyless[p], string(r.Value))
			}
			rs = append(rs, r)
		}
	}
	b.send(rs...)
	var asked atomic.Int64
	cfg := b.config()
	cfg.ReplaceRefused = func(in, out stream.Record, reason error) (stream.Record, error) {
		asked.Add(1)
		if !errors.Is(reason, stream.ErrKeyless) || !strings.Contains(reason.Error(), b.output) {
			t.Errorf("offset %d is refused for: %v", in.Offset, reason)
		}
		if out.Key != nil {
			t.Errorf("offset %d has a key, and is refused", in.Offset)
		}
		return stream.Record{Topic: b.dead, Value: in.Value}, nil
	}
	d := b.start(cfg, b.echo)
	if d := cmp.Diff(keyless, values(b.read(b.dead, len(keyless[0])))); d != "" {
		t.Errorf("replaced (-want +got):\n%s", d)
	}
	if d := cmp.Diff(keyed, values(b.read(b.output, len(keyed[0])+n))); d != "" {
		t.Errorf("published (-want +got):\n%s", d)
	}
	d.stop()
	if got := asked.Load(); got != int64(len(keyless[0])) {
		t.Errorf("asked for %d replacements, want %d", got, len(keyless[0]))
	}
}

// If the replacement has no key either, and its topic is compacted too, the partition waits with
// that reason, and the others go on, until the topic takes it.
func compactedReplacement(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2, "cleanup.policy=compact")
	b.topic(b.dead, 2, "cleanup.policy=compact")
	for i := range 5 {
		b.send(&kgo.Record{Topic: b.input, Partition: 0, Value: fmt.Appendf(nil, "0-%d", i)},
			&kgo.Record{Topic: b.input, Partition: 1, Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "1-%d", i)})
	}
	cfg := b.config()
	cfg.ReplaceRefused = func(in, out stream.Record, _ error) (stream.Record, error) {
		if out.Topic == b.dead {
			return stream.Record{}, errors.New("nothing else to publish")
		}
		return stream.Record{Topic: b.dead, Value: in.Value}, nil
	}
	d := b.start(cfg, b.echo)
	b.until("the other partition", func() bool { return d.check(func(r *recorder) bool { return r.committed[1] == 5 }) })
	b.until("the error", func() bool {
		return d.check(func(r *recorder) bool {
			return slices.ContainsFunc(r.retries, func(err error) bool {
				return errors.Is(err, stream.ErrKeyless) && strings.Contains(err.Error(), b.dead)
			})
		})
	})
	b.configure(b.dead, "cleanup.policy", "delete")
	if d := cmp.Diff(sequence(0, 5), values(b.read(b.dead, 5))[0]); d != "" {
		t.Error(d)
	}
	b.until("the partition that waited", func() bool { return d.check(func(r *recorder) bool { return r.committed[0] == 5 }) })
	d.stop()
}
