package streamtest

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"inceptor/service/stream"
)

// recreate deletes the input and creates it again, empty.
func (b *harness) recreate(partitions int32) {
	b.Helper()
	admin := kadm.NewClient(b.client)
	old, err := admin.Metadata(b.context(), b.input)
	if err == nil {
		_, err = admin.DeleteTopic(b.context(), b.input)
	}
	if err != nil {
		b.Fatalf("delete %s: %v", b.input, err)
	}
	b.until("the new topic", func() bool { // fails while the old one is being deleted
		_, err := admin.CreateTopic(b.context(), partitions, 1, nil, b.input)
		return err == nil
	})
	b.client = b.newClient() // a client keeps the id of the old topic
	admin = kadm.NewClient(b.client)
	b.until("the new topic's leaders", func() bool { // brokers learn of it one by one
		now, err := admin.Metadata(b.context(), b.input)
		if err != nil || now.Topics[b.input].ID == old.Topics[b.input].ID {
			return false
		}
		ends, err := admin.ListEndOffsets(b.context(), b.input)
		return err == nil && ends.Error() == nil && len(ends[b.input]) == int(partitions)
	})
}

// The topic is deleted and recreated while a driver waits for records: it begins at the first
// record of the new one.
func recreated(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 100)
	d := b.start(b.config(), b.echo)
	d.commits(100)
	b.recreate(1)
	b.named("b", 0, 300)
	d.reset(stream.Reset{Reason: stream.Recreated, From: 100, To: 0})
	d.commits(300)
	d.stop()
	b.answered("a", 0, 100)
	b.answered("b", 0, 300)
	if got := b.stored().At; got != 300 {
		t.Errorf("committed: %d", got)
	}
}

// The topic is recreated while no driver runs. The group's offset belongs to the old one, but
// exists in the new one too.
func recreatedBetween(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 100)
	d := b.start(b.config(), b.echo)
	d.commits(100)
	d.stop()
	var old kadm.Offset
	b.until("the commit", func() bool { // the end of a transaction shows a little later
		old = b.stored()
		return old.At == 100
	})
	b.recreate(1)
	b.named("b", 0, 300)
	b.until("the brokers forget the old topic's offset", func() bool { return b.stored().At != old.At })
	b.store(old.At, old.Metadata)
	d = b.start(b.config(), b.echo)
	d.commits(300)
	d.stop()
	d.reset(stream.Reset{Reason: stream.Recreated, From: 100, To: 0})
	b.answered("b", 0, 300)

	d = b.start(b.config(), b.echo) // its offset belongs to the new topic now
	d.commits(300)
	d.stop()
	d.noResets()
}

// The topic is recreated, and records after the old position are read before the driver compares
// the ids. The records before it must not be lost. At least once, the reset says how many are
// repeated; exactly once, none is answered twice.
func recreatedUnseen(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 100)
	d := b.start(b.config(), b.echo)
	d.commits(100)
	b.recreate(1)
	b.named("b", 0, 300)
	seen := map[string]bool{}
	b.until("all answers", func() bool {
		for _, r := range b.read(b.output, 0) {
			seen[string(r.Value)] = true
		}
		return len(seen) == 400
	})
	d.commits(300)
	d.stop()
	if len(d.resets) != 1 || d.resets[0].Reason != stream.Recreated || d.resets[0].To != 0 {
		t.Fatalf("resets: %+v", d.resets)
	}
	again := len(b.read(b.output, 400)) - 400
	if d.resets[0].Repeated < int64(again) || again > 200 || b.ExactlyOnce && again > 0 {
		t.Errorf("%d records are answered twice, reset: %+v", again, d.resets[0])
	}
}

// The topic is recreated while the window is full, so that nothing is fetched; the new one is
// longer. Records in flight may be answered, but their offsets must not be committed as the new
// topic's.
func recreatedFull(t *testing.T, b *harness) {
	const n = 1000
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 100)
	gate := make(chan struct{})
	d := b.start(b.config(), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Offset >= 100 && r.Value[0] == 'a' {
			select {
			case <-gate:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return b.echo(ctx, r)
	})
	d.commits(100)
	b.named("a", 100, n)
	b.until("a full window", func() bool { return d.check(func(r *recorder) bool { return r.records >= 16 }) })
	b.recreate(1)
	b.named("b", 0, 3*n)
	close(gate)
	b.until("the reset", func() bool { return d.check(func(r *recorder) bool { return len(r.resets) > 0 }) })
	d.commits(3 * n)
	d.stop()
	b.answered("b", 0, 3*n)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.resets) != 1 || d.resets[0].Reason != stream.Recreated || d.resets[0].From < 100 || d.resets[0].From > 100+n || d.resets[0].To != 0 || d.resets[0].Repeated != 0 {
		t.Errorf("resets: %+v", d.resets)
	}
}

// The recreated topic has more partitions. The group joins again, and finds no offsets: the
// broker has deleted them with the topic.
func recreatedWider(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 2)
	b.named("a", 0, 100)
	cfg := b.config()
	cfg.Start = stream.Start{Latest: true} // must not matter
	b.store(0, "")
	d := b.start(cfg, b.echo)
	d.commits(100)
	b.recreate(2)
	b.fill(2, 0, 150)
	d.commits(150)
	d.reset(stream.Reset{Reason: stream.Recreated, From: 100, To: 0})
	b.until("the other partition", func() bool { return d.check(func(r *recorder) bool { return r.committed[1] == 150 }) })
	d.stop()
	got := values(b.read(b.output, 400))
	if d := cmp.Diff(sequence(0, 150), got[0][100:]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(sequence(1, 150), got[1]); d != "" {
		t.Error(d)
	}
}
