package streamtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// An upstream is a producer that fills the input in transactions.
type upstream struct {
	*harness
	client *kgo.Client
	open   bool
}

func newUpstream(b *harness) *upstream {
	b.Helper()
	return &upstream{harness: b, client: b.newClient(kgo.TransactionalID(b.group + "-upstream"))}
}

func (u *upstream) send(values ...string) {
	u.Helper()
	if !u.open {
		if err := u.client.BeginTransaction(); err != nil {
			u.Fatal(err)
		}
		u.open = true
	}
	for _, v := range values {
		if err := u.client.ProduceSync(u.context(), &kgo.Record{Topic: u.input, Value: []byte(v)}).FirstErr(); err != nil {
			u.Fatal(err)
		}
	}
}

func (u *upstream) end(how kgo.TransactionEndTry) {
	u.Helper()
	u.open = false
	if err := u.client.EndTransaction(u.context(), how); err != nil {
		u.Fatal(err)
	}
}

// Markers of transactions are not records, and the committed offset passes them.
func transactions(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	up := newUpstream(b)
	for i := range 3 {
		up.send(fmt.Sprintf("0-%d", i))
		up.end(kgo.TryCommit)
	}
	d := b.start(b.config(), b.echo)
	b.until("lag 0 after the last marker", func() bool {
		return d.check(func(r *recorder) bool { return r.committed[0] == 6 && r.lag[0] == 0 })
	})
	if d := cmp.Diff(sequence(0, 3), values(b.read(b.output, 3))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
}

// Records of aborted transactions are not read, nor those of an open one. The committed offset
// passes all of them.
func aborted(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	up := newUpstream(b)
	for i := range 20 {
		up.send(fmt.Sprintf("0-%d", i), fmt.Sprintf("0-%d", i+1000))
		if i%3 == 1 {
			up.end(kgo.TryAbort)
			up.send(fmt.Sprintf("0-%d", i), fmt.Sprintf("0-%d", i+1000))
		}
		up.end(kgo.TryCommit)
		b.send(&kgo.Record{Topic: b.input, Value: fmt.Appendf(nil, "0-%d", i+2000)}) // in no transaction
	}
	up.send("0-20", "0-1020")
	up.end(kgo.TryAbort)
	up.send("0-21")

	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("0-%d", i), fmt.Sprintf("0-%d", i+1000), fmt.Sprintf("0-%d", i+2000))
	}
	d := b.start(b.config(), b.echo)
	if d := cmp.Diff(want, values(b.read(b.output, len(want)))[0]); d != "" {
		t.Errorf("before the last transaction (-want +got):\n%s", d)
	}
	up.end(kgo.TryCommit)
	if d := cmp.Diff(append(want, "0-21"), values(b.read(b.output, len(want)+1))[0]); d != "" {
		t.Errorf("after it (-want +got):\n%s", d)
	}
	b.until("lag 0", func() bool { return d.check(func(r *recorder) bool { return r.committed[0] > 0 && r.lag[0] == 0 }) })
	d.stop()
}

// Records after an open transaction wait for its end. The observer is told what they wait for,
// and when the partition has recovered.
func heldBack(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	up := newUpstream(b)
	b.fill(2, 0, 3)
	up.send("0-3")
	b.fill(1, 4, 3) // after it
	id, epoch, err := up.client.ProducerID(b.context())
	if err != nil {
		t.Fatal(err)
	}
	d := b.start(b.config(), b.echo)
	want := []string{
		"holds back every record of " + stream.Partition{Topic: b.input}.String() + " from offset 3 on",
		fmt.Sprintf("producer id %d, epoch %d", id, epoch), b.group + "-upstream", "began at", "timeout of",
	}
	var told []string
	b.until("the error of partition 0", func() bool {
		return d.check(func(r *recorder) bool {
			told = nil
			for _, err := range r.retries {
				if errors.Is(err, stream.ErrOpenTransaction) {
					told = append(told, err.Error())
				}
			}
			return len(told) > 0
		})
	})
	if len(told) > 1 {
		t.Errorf("told %d times, want once: %q", len(told), told)
	}
	for _, w := range want {
		if !strings.Contains(told[0], w) {
			t.Errorf("%q does not tell %q", told[0], w)
		}
	}
	if got := values(b.read(b.output, 6)); len(got[0]) != 3 || len(got[1]) != 3 {
		t.Errorf("before its end, the output holds %v", got)
	}
	up.end(kgo.TryCommit)
	if d := cmp.Diff(sequence(0, 7), values(b.read(b.output, 10))[0]); d != "" {
		t.Errorf("after its end (-want +got):\n%s", d)
	}
	b.until("the recovery", func() bool {
		return d.check(func(r *recorder) bool { return r.retries[len(r.retries)-1] == nil })
	})
	d.stop()
}

// A driver that reads uncommitted records answers those of aborted transactions too.
func readsAborted(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	up := newUpstream(b)
	up.send("0-0")
	up.end(kgo.TryAbort)
	up.send("0-1")
	up.end(kgo.TryCommit)
	d := b.start(b.config(), b.echo)
	if d := cmp.Diff(sequence(0, 2), values(b.read(b.output, 2))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
}

// With more members than partitions, one member waits, and takes over when the other leaves.
func standby(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	first := b.start(b.config(), b.echo)
	b.until("the partition", func() bool { return first.check(func(r *recorder) bool { return len(r.assigned) == 1 }) })
	second := b.start(b.config(), b.echo)
	b.until("two generations, one partition", func() bool {
		has := func(r *recorder) bool { return r.generations > 0 && len(r.assigned) == 1 }
		hasNot := func(r *recorder) bool { return r.generations > 0 && r.assigned != nil && len(r.assigned) == 0 }
		return first.check(has) && second.check(hasNot) || first.check(hasNot) && second.check(has)
	})
	b.fill(1, 0, 10)
	b.read(b.output, 10)
	first.stop()
	begin := time.Now()
	b.fill(1, 10, 10)
	if d := cmp.Diff(sequence(0, 20), values(b.read(b.output, 20))[0]); d != "" {
		t.Error(d)
	}
	t.Logf("taken over within %v", time.Since(begin).Round(time.Millisecond))
	second.stop()
}
