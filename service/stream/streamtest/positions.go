package streamtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"inceptor/service/stream"
)

// positionTests are about positions that are lost, and about where a group starts.
var positionTests = map[string]func(*testing.T, *bench){
	"OutOfRange":       outOfRange,
	"Overtaken":        overtaken,
	"BeyondEnd":        beyondEnd,
	"Recreated":        recreated,
	"RecreatedBetween": recreatedBetween,
	"RecreatedFull":    recreatedFull,
	"RecreatedWider":   recreatedWider,
	"StopOnReset":      stopOnReset,
	"ForeignCommit":    foreignCommit,
	"CopiedCommit":     copiedCommit,
	"StartLatest":      startLatest,
	"StartTime":        startTime,
	"StartTogether":    startTogether,
}

// RunOld runs what brokers before Kafka 3.1 have a part in, which do not compare
// the ids of topics in fetches.
func (s Suite) RunOld(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *bench){
		"OutOfRange": outOfRange, "RecreatedBetween": recreatedBetween, "RecreatedUnseen": recreatedUnseen,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newBench(t, s))
		})
	}
}

// RunExpired runs what happens when the offsets of a group are gone that a driver
// works for. c is the broker.
func (s Suite) RunExpired(t *testing.T, c *kfake.Cluster) {
	b := newBench(t, s)
	b.topic(b.input, 1)
	b.topic(b.output, 2)
	b.named("a", 0, 10)
	cfg := b.config()
	d := b.start(cfg, b.echo)
	d.commits(10)
	forget(c, b.group)
	if _, err := kadm.NewClient(b.client).UpdatePartitions(b.context(), 2, b.input); err != nil {
		t.Fatal(err)
	}
	d.reset(stream.Reset{Reason: stream.Expired, From: 10, To: 10}) // when the group has joined again
	b.named("a", 10, 5)
	d.commits(15)
	d.stop()
	b.answered("a", 0, 15)
}

// forget lets a broker answer that a group has no offsets.
func forget(c *kfake.Cluster, group string) {
	c.ControlKey(kmsg.OffsetFetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.OffsetFetchRequest)
		res := in.ResponseKind().(*kmsg.OffsetFetchResponse)
		ours := in.Group == group
		for _, t := range in.Topics {
			topic := kmsg.NewOffsetFetchResponseTopic()
			topic.Topic = t.Topic
			for _, id := range t.Partitions {
				p := kmsg.NewOffsetFetchResponseTopicPartition()
				p.Partition, p.Offset = id, -1
				topic.Partitions = append(topic.Partitions, p)
			}
			res.Topics = append(res.Topics, topic)
		}
		for _, g := range in.Groups {
			ours = ours || g.Group == group
			answer := kmsg.NewOffsetFetchResponseGroup()
			answer.Group = g.Group
			for _, t := range g.Topics {
				topic := kmsg.NewOffsetFetchResponseGroupTopic()
				topic.Topic, topic.TopicID = t.Topic, t.TopicID
				for _, id := range t.Partitions {
					p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
					p.Partition, p.Offset = id, -1
					topic.Partitions = append(topic.Partitions, p)
				}
				answer.Topics = append(answer.Topics, topic)
			}
			res.Groups = append(res.Groups, answer)
		}
		return res, nil, ours
	})
}

// deleteRecords removes the records of a partition of the input before an offset.
func (b *bench) deleteRecords(partition int32, before int64) {
	b.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(b.input, partition, before, -1)
	res, err := kadm.NewClient(b.client).DeleteRecords(b.context(), offsets)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		b.Fatalf("delete records: %v", err)
	}
}

// stored is what the group has committed for partition 0 of the input.
func (b *bench) stored() kadm.Offset {
	b.Helper()
	offsets, err := kadm.NewClient(b.client).FetchOffsets(b.context(), b.group)
	if err != nil {
		b.Fatalf("fetch offsets: %v", err)
	}
	o, _ := offsets.Lookup(b.input, 0)
	return o.Offset
}

// store commits an offset for partition 0 of the input, by the topic's name, as
// a process does that has not seen what happened to it.
func (b *bench) store(at int64, metadata string) {
	b.Helper()
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = at, &metadata
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = b.input, append(topic.Partitions, p)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Topics = b.group, append(req.Topics, topic)
	b.until("the commit", func() bool { // not at once after another member has left
		res, err := req.RequestWith(b.context(), b.newClient(kgo.MaxVersions(byName())))
		return err == nil && res.Topics[0].Partitions[0].ErrorCode == 0
	})
}

// named sends n records to partition 0 of the input, whose values begin with name.
func (b *bench) named(name string, from, n int) {
	b.Helper()
	var rs []*kgo.Record
	for i := from; i < from+n; i++ {
		rs = append(rs, &kgo.Record{Topic: b.input, Value: fmt.Appendf(nil, "%s-%d", name, i)})
	}
	b.send(rs...)
}

// answered checks that the output holds all of named(name, from, n): exactly
// once, or at least, and in their order.
func (b *bench) answered(name string, from, n int) {
	b.Helper()
	var got []string
	b.until(fmt.Sprintf("%d answers of %s", n, name), func() bool {
		got = nil
		for _, v := range values(b.read(b.output, 0))[0] {
			var i int
			if _, err := fmt.Sscanf(v, name+"-%d", &i); err == nil {
				got = append(got, v)
			}
		}
		return len(got) >= n
	})
	var want []string
	for i := from; i < from+n; i++ {
		want = append(want, fmt.Sprintf("%s-%d", name, i))
	}
	if d := cmp.Diff(want, got); d != "" {
		b.Errorf("answers of %s (-want +got):\n%s", name, d)
	}
}

// reset waits for the one reset of a driver, and checks it.
func (r *running) reset(want stream.Reset) {
	r.Helper()
	want.Partition = stream.Partition{Topic: r.input}
	r.until("the reset", func() bool { return r.look(func(r *recorder) bool { return len(r.resets) > 0 }) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := cmp.Diff([]stream.Reset{want}, r.resets); d != "" {
		r.Errorf("resets (-want +got):\n%s", d)
	}
}

func (r *running) none() {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.resets) > 0 {
		r.Errorf("resets: %+v", r.resets)
	}
}

// until waits for the group's offset of partition 0.
func (r *running) commits(next int64) {
	r.Helper()
	r.until(fmt.Sprintf("the commit of offset %d", next), func() bool {
		return r.look(func(r *recorder) bool { return r.committed[0] == next })
	})
}

// Retention has overtaken the committed offset: go on with what is left.
func outOfRange(t *testing.T, b *bench) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 5)
	d := b.start(b.config(), b.echo)
	d.commits(5)
	d.stop()
	d.none()
	b.named("b", 0, 310)
	b.deleteRecords(0, 305)
	d = b.start(b.config(), b.echo)
	d.commits(315)
	d.stop()
	d.reset(stream.Reset{Reason: stream.OutOfRange, From: 5, To: 305, Skipped: 300})
	b.answered("b", 300, 10)
}

// Retention overtakes a driver that runs: what is skipped is counted.
func overtaken(t *testing.T, b *bench) {
	const n, kept = 2000, 100
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	for range n / 100 {
		var rs []*kgo.Record
		for range 100 {
			rs = append(rs, &kgo.Record{Topic: b.input, Value: noise(5000)}) // more than is fetched at once
		}
		b.send(rs...)
	}
	gate := make(chan struct{})
	d := b.start(b.config(), func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return b.echo(ctx, r)
	})
	b.until("a full window", func() bool { return d.look(func(r *recorder) bool { return r.records >= 16 }) })
	time.Sleep(time.Second) // for what is fetched ahead
	b.deleteRecords(0, n-kept)
	b.named("b", 0, kept)
	close(gate)
	d.commits(n + kept)
	d.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.resets) != 1 {
		t.Fatalf("resets: %+v", d.resets)
	}
	r := d.resets[0]
	if r.Reason != stream.OutOfRange || r.To != n-kept || r.Skipped != r.To-r.From || r.Skipped < 1 {
		t.Errorf("reset: %+v", r)
	}
	if want := n + kept - int(r.Skipped); len(b.read(b.output, want)) != want {
		t.Errorf("not %d answers to %d records of which %d were skipped", want, n+kept, r.Skipped)
	}
}

// The log ends before the committed offset, as after the election of a leader
// that lacked records, or where a topic was restored.
func beyondEnd(t *testing.T, b *bench) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 30)
	b.store(100, "")
	d := b.start(b.config(), b.echo)
	d.commits(30)
	b.named("a", 30, 10)
	d.commits(40)
	d.stop()
	d.reset(stream.Reset{Reason: stream.BeyondEnd, From: 100, To: 0, Repeated: 30})
	b.answered("a", 0, 40)
}

// A driver that must not reset ends instead, before it commits or publishes
// anything, and says what to do. With the offset set by hand it goes on.
func stopOnReset(t *testing.T, b *bench) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 30)
	b.deleteRecords(0, 20)
	b.store(10, "")
	cfg := b.config()
	cfg.StopOnReset = true
	d := b.start(cfg, b.echo)
	err := d.ended()
	d.none()
	var lost *stream.ResetError
	if !errors.As(err, &lost) {
		t.Fatalf("run: %v", err)
	}
	want := stream.Reset{Partition: stream.Partition{Topic: b.input}, Reason: stream.OutOfRange, From: 10, To: 20, Skipped: 10}
	if d := cmp.Diff(want, lost.Reset); d != "" {
		t.Error(d)
	}
	if at, got := b.stored().At, b.read(b.output, 0); at != 10 || len(got) > 0 {
		t.Errorf("committed %d, published %d records", at, len(got))
	}
	b.store(20, "")
	d = b.start(cfg, b.echo)
	d.commits(30)
	d.stop()
	d.none()
	b.answered("a", 20, 10)
}

// An offset that another client has committed, without saying of which topic,
// is trusted.
func foreignCommit(_ *testing.T, b *bench) { b.trusts("somebody-else's") }

// An offset that was copied from another cluster, as MirrorMaker does it, is
// trusted too: the id of that cluster's topic says nothing of this one's.
func copiedCommit(_ *testing.T, b *bench) {
	b.trusts(stream.Position{Offset: 20, Topic: stream.TopicID{1, 2, 3}}.Metadata("another-cluster"))
}

func (b *bench) trusts(metadata string) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 30)
	b.store(20, metadata)
	d := b.start(b.config(), b.echo)
	d.commits(30)
	d.stop()
	d.none()
	b.answered("a", 20, 10)
}

// A group without offsets that starts at the latest record leaves out those
// before it: once, and not in a partition that the topic gets later.
func startLatest(t *testing.T, b *bench) {
	b.topic(b.input, 2)
	b.topic(b.output, 3)
	b.fill(2, 0, 10)
	cfg := b.config()
	cfg.Start = stream.Start{Latest: true}
	d := b.start(cfg, b.echo)
	b.until("the start", func() bool {
		at := b.offsets(0, 1)
		return at[0] == 10 && at[1] == 10
	})
	b.fill(1, 10, 5)
	d.commits(15)
	d.stop()
	b.fill(2, 15, 5) // while it does not run
	if _, err := kadm.NewClient(b.client).UpdatePartitions(b.context(), 3, b.input); err != nil {
		t.Fatal(err)
	}
	b.until("the new partition", func() bool {
		topics, err := kadm.NewClient(b.client).ListTopics(b.context(), b.input)
		return err == nil && len(topics[b.input].Partitions) == 3
	})
	b.client = b.newClient() // the old one learns of it by and by
	b.send(&kgo.Record{Topic: b.input, Partition: 2, Value: []byte("2-0")})
	d = b.start(cfg, b.echo)
	want := map[int][]string{0: sequence(0, 20)[10:], 1: sequence(1, 20)[15:], 2: {"2-0"}}
	got := values(b.read(b.output, 16))
	d.stop()
	d.none()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
}

// Another member of a new group has committed where it begins when we look up
// where we do: our partition is none that came later.
func startTogether(t *testing.T, b *bench) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.fill(2, 0, 10)
	b.store(10, "")
	cfg := b.config()
	cfg.Start = stream.Start{Latest: true}
	d := b.start(cfg, b.echo)
	b.until("the start", func() bool { return b.offsets(1)[1] == 10 })
	d.stop()
	if got := values(b.read(b.output, 0)); len(got[1]) > 0 {
		t.Errorf("answers to records before the latest: %v", got)
	}
}

// A group without offsets starts at the first record that is as late as a time.
func startTime(t *testing.T, b *bench) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	var rs []*kgo.Record
	for i := range 10 {
		rs = append(rs, &kgo.Record{Topic: b.input, Value: fmt.Appendf(nil, "0-%d", i), Timestamp: begin.Add(time.Duration(i) * time.Minute)})
	}
	rs = append(rs, &kgo.Record{Topic: b.input, Partition: 1, Value: []byte("1-0"), Timestamp: begin}) // nothing as late
	b.send(rs...)
	cfg := b.config()
	cfg.Start = stream.Start{Time: begin.Add(7 * time.Minute)}
	d := b.start(cfg, b.echo)
	b.until("the start", func() bool {
		at := b.offsets(0, 1)
		return at[0] == 10 && at[1] == 1
	})
	d.stop()
	d.none()
	got := values(b.read(b.output, 3))
	if d := cmp.Diff(map[int][]string{0: sequence(0, 10)[7:]}, got); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
}

// byName are the versions of requests that name topics by their names.
func byName() *kversion.Versions { return kversion.V3_0_0() }
