package streamtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// With two input topics, the answers to both go to one output, each to the partition with its
// number, and each topic's order is kept. Partitions with the same number have offsets of their
// own. A record that fails holds back its own partition, and not that of the other topic with the
// same number.
func severalTopics(t *testing.T, b *harness) {
	const each = 30
	other := b.input + ".other"
	b.topic(b.input, 2)
	b.topic(other, 1)
	b.topic(b.output, 2)
	var rs []*kgo.Record
	for i := range each {
		rs = append(rs,
			&kgo.Record{Topic: b.input, Partition: 0, Value: fmt.Appendf(nil, "a0-%02d", i)},
			&kgo.Record{Topic: b.input, Partition: 1, Value: fmt.Appendf(nil, "a1-%02d", i)},
			&kgo.Record{Topic: other, Partition: 0, Value: fmt.Appendf(nil, "b0-%02d", i)})
	}
	b.send(rs...)
	cfg := b.config()
	cfg.Inputs = []string{b.input, other}
	var recovered atomic.Bool
	d := b.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if string(r.Value) == "a0-10" && !recovered.Load() {
			return nil, errors.New("not now")
		}
		return b.echo(ctx, r)
	})
	b.until("the other partitions' answers", func() bool {
		return d.check(func(r *recorder) bool {
			return r.next[stream.Partition{Topic: b.input, ID: 1}] == each && r.next[stream.Partition{Topic: other}] == each
		})
	})
	if d.check(func(r *recorder) bool { return r.next[stream.Partition{Topic: b.input}] > 10 }) {
		t.Error("a record that failed is committed")
	}
	recovered.Store(true)
	got := values(b.read(b.output, 3*each))
	d.stop()
	var a0, b0, a1 []string
	for _, v := range got[0] {
		if v[0] == 'a' {
			a0 = append(a0, v)
		} else {
			b0 = append(b0, v)
		}
	}
	a1 = got[1]
	for name, got := range map[string][]string{"a0": a0, "a1": a1, "b0": b0} {
		var want []string
		for i := range each {
			want = append(want, fmt.Sprintf("%s-%02d", name, i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q", name, got)
		}
	}
	again := b.start(cfg, b.echo)
	b.until("the lag of all", func() bool { return again.check(func(r *recorder) bool { return len(r.next) == 3 }) })
	again.stop()
	for p, next := range again.next {
		if next != each {
			t.Errorf("%v begins at offset %d, want %d", p, next, each)
		}
	}
	b.read(b.output, 3*each)
}
