package streamtest

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// RunFrozenFirst freezes the first of several brokers, which leads the topics, under a
// driver that works, and lets another one start that has that broker
// before the others in its list. Suite.Replicas is how many brokers there are.
func (s Suite) RunFrozenFirst(t *testing.T, lead func(topics ...string), freeze, thaw func()) {
	b := newBench(t, s)
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.fill(2, 0, 5)
	working := b.start(b.config(), b.echo)
	b.read(b.output, 10)
	lead(b.input, b.output)

	freeze()
	defer thaw()
	begin := time.Now()
	live := b.newClient(kgo.SeedBrokers(b.Brokers[1:]...))
	b.client = live
	b.fill(2, 5, 5)
	t.Logf("the cluster takes records again after %v", time.Since(begin).Round(time.Millisecond))
	b.until("the records after the freeze", func() bool {
		return working.look(func(r *recorder) bool {
			return r.next[stream.Partition{Topic: b.input}] == 10 && r.next[stream.Partition{Topic: b.input, ID: 1}] == 10
		})
	})
	t.Logf("%v after the freeze they are answered and committed", time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	late := b.start(b.config(), b.echo)
	b.until("the second member", func() bool { return late.look(func(r *recorder) bool { return len(r.assigned) == 1 }) })
	t.Logf("another member has joined after %v", time.Since(begin).Round(time.Millisecond))
	late.stop()
	working.stop()
}
