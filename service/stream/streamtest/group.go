package streamtest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// After a stop in the middle and a restart, every record is answered once.
func stopAndRestart(t *testing.T, b *harness) {
	const partitions, n = 2, 100
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	b.fill(partitions, 0, n)
	var seen calls
	slow := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		time.Sleep(20 * time.Millisecond)
		return b.echo(ctx, r)
	}
	for _, upTo := range []int{30, 90, partitions * n} {
		d := b.start(b.config(), slow)
		b.until("some records", func() bool { return seen.count() >= upTo })
		d.stop()
	}
	d := b.start(b.config(), slow) // it has nothing to commit
	b.until("the committed offsets", func() bool {
		return d.check(func(r *recorder) bool { return r.committed[0] == n && r.committed[1] == n })
	})
	d.stop()
	got := values(b.read(b.output, partitions*n))
	for p := range partitions {
		if d := cmp.Diff(sequence(p, n), got[p]); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", p, d)
		}
	}
}

// After a stop that does not wait for handlers, records are repeated, and none is lost.
func dropAndRestart(t *testing.T, b *harness) {
	const n = 60
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.fill(1, 0, n)
	cfg := b.config()
	cfg.DrainTimeout = 0
	var seen calls
	slow := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		select {
		case <-time.After(30 * time.Millisecond):
			return b.echo(ctx, r)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for _, upTo := range []int{20, 40, n} {
		d := b.start(cfg, slow)
		b.until("some records", func() bool { return seen.count() >= upTo })
		d.stop()
	}
	d := b.start(cfg, slow)
	b.until("the end", func() bool { return b.offsets(0)[0] == n })
	d.stop()
	b.complete(t, b.read(b.output, n), 1, n)
}

// complete checks that every record is there, that the first copies are in order, and that there
// are no repeats if there must be none.
func (b *harness) complete(t *testing.T, rs []*kgo.Record, partitions, n int) {
	t.Helper()
	for p, got := range values(rs) {
		var firsts []string
		for _, v := range got {
			if !slices.Contains(firsts, v) {
				firsts = append(firsts, v)
			}
		}
		if d := cmp.Diff(sequence(p, n), firsts); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", p, d)
		}
	}
	repeats := len(rs) - partitions*n
	t.Logf("%d repeats of %d records", repeats, partitions*n)
	if b.ExactlyOnce && repeats > 0 {
		t.Errorf("exactly once, but %d repeats", repeats)
	}
}

// A second member joins and the first leaves, with records in flight. None is lost, and because all
// drain in time, none is repeated.
func rebalance(t *testing.T, b *harness) {
	const partitions, n = 4, 150
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	b.fill(partitions, 0, n)
	var seen calls
	slow := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		time.Sleep(40 * time.Millisecond)
		return b.echo(ctx, r)
	}
	cfg := b.config()
	cfg.Window.Records = 4
	first := b.start(cfg, slow)
	b.until("some records", func() bool { return seen.count() >= 100 })
	second := b.start(cfg, slow)
	b.until("two partitions each", func() bool {
		two := func(r *recorder) bool { return len(r.assigned) == 2 }
		return first.check(two) && second.check(two)
	})
	b.until("more records", func() bool { return seen.count() >= 200 })
	first.stop()
	got := values(b.read(b.output, partitions*n))
	second.stop()
	for p := range partitions {
		if d := cmp.Diff(sequence(p, n), got[p]); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", p, d)
		}
	}
}

// A rebalance waits for a handler that takes longer than the session timeout, and its record is not
// handled twice.
func slowDrain(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.fill(2, 0, 1)
	var seen calls
	slow := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		time.Sleep(2*b.Session + b.Session/2)
		return b.echo(ctx, r)
	}
	first := b.start(b.briefly(b.config()), slow)
	b.until("both records", func() bool { return seen.count() == 2 })
	second := b.start(b.briefly(b.config()), b.echo)
	b.until("a partition each", func() bool {
		one := func(r *recorder) bool { return len(r.assigned) == 1 }
		return first.check(one) && second.check(one)
	})
	b.fill(2, 1, 1)
	got := values(b.read(b.output, 4))
	first.stop()
	second.stop()
	for p := range 2 {
		if d := cmp.Diff(sequence(p, 2), got[p]); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", p, d)
		}
	}
}

// A rebalance waits for a handler that does not return, for the drain timeout at most. Its record
// is handled again.
func stuckDrain(t *testing.T, b *harness) {
	const n = 3
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.fill(2, 0, n)
	release := make(chan struct{})
	var seen calls
	h := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		if r.Partition == 0 {
			select {
			case <-release:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return b.echo(ctx, r)
	}
	cfg := b.config()
	cfg.DrainTimeout = time.Second
	first := b.start(cfg, h)
	b.until("all records", func() bool { return seen.count() == 2*n })
	second := b.start(cfg, h)
	b.until("a partition each", func() bool {
		one := func(r *recorder) bool { return len(r.assigned) == 1 }
		return first.check(one) && second.check(one)
	})
	close(release)
	got := values(b.read(b.output, 2*n))
	first.stop()
	second.stop()
	for p := range 2 {
		if d := cmp.Diff(sequence(p, n), got[p]); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", p, d)
		}
	}
}

// A handler may take longer than the session timeout.
func slowHandler(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.fill(1, 0, 1)
	var n atomic.Int64
	d := b.start(b.briefly(b.config()), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		n.Add(1)
		time.Sleep(b.Session + 2*time.Second)
		return b.echo(ctx, r)
	})
	b.read(b.output, 1)
	d.stop()
	if n.Load() != 1 || d.generations != 1 {
		t.Errorf("handled %d times in %d generations", n.Load(), d.generations)
	}
}

// A handler that keeps failing does not hold back a stop.
func errorAtStop(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.fill(1, 0, 8)
	cfg := b.config()
	cfg.DrainTimeout = 2 * patience
	d := b.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Offset == 5 {
			return nil, errors.New("not now")
		}
		return b.echo(ctx, r)
	})
	b.until("three attempts", func() bool { return d.check(func(r *recorder) bool { return len(r.retries) >= 3 }) })
	d.stop() // long before the drain timeout
	// The end of a transaction is acknowledged a little before its offsets can be read.
	b.until("the commit of the answered records", func() bool { return b.offsets(0)[0] == 5 })
	d = b.start(b.config(), b.echo)
	if d := cmp.Diff(sequence(0, 8), values(b.read(b.output, 8))[0]); d != "" {
		t.Error(d)
	}
	d.stop()
}

// New partitions are noticed without a restart.
func partitionGrowth(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	d := b.start(b.config(), b.echo)
	b.until("the assignment", func() bool { return d.check(func(r *recorder) bool { return len(r.assigned) == 1 }) })
	req := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = b.input, 3
	req.Topics = append(req.Topics, rt)
	req.TimeoutMillis = 5000
	if _, err := req.RequestWith(b.context(), b.client); err != nil {
		t.Fatal(err)
	}
	b.until("the new partitions", func() bool { return d.check(func(r *recorder) bool { return len(r.assigned) == 3 }) })
	b.fill(3, 0, 5)
	b.read(b.output, 15)
	d.stop()
}

// The broker is killed and restarted. No record is lost, and the driver recovers by itself.
func killed(t *testing.T, b *harness) {
	const partitions, n = 4, 200
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	b.fill(partitions, 0, n)
	var seen calls
	d := b.start(b.briefly(b.config()), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		time.Sleep(10 * time.Millisecond)
		return b.echo(ctx, r)
	})
	b.until("some records", func() bool { return seen.count() >= 200 })
	b.Broker.Kill()
	time.Sleep(time.Second)
	b.Broker.Restart()
	begin := time.Now()
	before := seen.count()
	b.until("the next record", func() bool { return seen.count() > before })
	t.Logf("recovered %v after the broker", time.Since(begin).Round(time.Millisecond))
	b.until("the end", func() bool {
		o := b.offsets(0, 1, 2, 3)
		return o[0] == n && o[1] == n && o[2] == n && o[3] == n
	})
	d.stop()
	b.complete(t, b.read(b.output, partitions*n), partitions, n)
}

// The broker is frozen for longer than the session, and one of two drivers is stopped meanwhile.
// The stop ends, and no record is lost.
func frozen(t *testing.T, b *harness) {
	const partitions, n = 2, 100
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	b.fill(partitions, 0, n)
	var seen calls
	slow := func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		seen.add(r)
		time.Sleep(50 * time.Millisecond)
		return b.echo(ctx, r)
	}
	cfg := b.briefly(b.config())
	cfg.DrainTimeout = 2 * time.Second
	going, stopped := b.start(cfg, slow), b.start(cfg, slow)
	b.until("some records", func() bool {
		one := func(r *recorder) bool { return len(r.assigned) == 1 }
		return going.check(one) && stopped.check(one) && seen.count() >= 40
	})
	b.Broker.Freeze()
	begin := time.Now()
	time.Sleep(time.Second) // acknowledgements that were on their way
	count := func() int { return len(going.deliveries(b.input, 0)) + len(going.deliveries(b.input, 1)) }
	before := count()
	stopped.cancel()
	if err := stopped.ended(); err != nil {
		t.Errorf("run: %v", err)
	}
	took := time.Since(begin)
	t.Logf("stopped in %v while the broker was frozen", took.Round(time.Millisecond))
	if took > cfg.DrainTimeout+time.Minute { // a quarter of that without other work
		t.Error("that is much longer than the drain timeout")
	}
	time.Sleep(time.Until(begin.Add(2 * b.Session)))
	if now := count(); now != before {
		t.Errorf("%d records are delivered while the broker is frozen", now-before)
	}
	b.Broker.Thaw()
	b.until("the end", func() bool {
		o := b.offsets(0, 1)
		return o[0] == n && o[1] == n
	})
	going.stop()
	b.complete(t, b.read(b.output, partitions*n), partitions, n)
}
