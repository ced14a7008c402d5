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
	"inceptor/service/stream/internal/resume"
)

// positionTests are about positions that are lost, and about where a group starts.
var positionTests = map[string]func(*testing.T, *harness){
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

// RunOld runs the tests that matter for brokers before Kafka 3.1, which do not compare the ids of
// topics in fetches.
func (s Suite) RunOld(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *harness){
		"OutOfRange": outOfRange, "RecreatedBetween": recreatedBetween, "RecreatedUnseen": recreatedUnseen,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newHarness(t, s))
		})
	}
}

// RunExpired tests what happens when a group's offsets are gone while a driver runs. c is the
// broker.
func (s Suite) RunExpired(t *testing.T, c *kfake.Cluster) {
	b := newHarness(t, s)
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

// forget makes a broker answer that a group has no offsets.
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
func (b *harness) deleteRecords(partition int32, before int64) {
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

// stored returns what the group has committed for partition 0 of the input.
func (b *harness) stored() kadm.Offset {
	b.Helper()
	offsets, err := kadm.NewClient(b.client).FetchOffsets(b.context(), b.group)
	if err != nil {
		b.Fatalf("fetch offsets: %v", err)
	}
	o, _ := offsets.Lookup(b.input, 0)
	return o.Offset
}

// store commits an offset for partition 0 of the input, by the topic's name, as a process does
// that does not know what happened to the topic.
func (b *harness) store(at int64, metadata string) {
	b.Helper()
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = at, &metadata
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = b.input, append(topic.Partitions, p)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Topics = b.group, append(req.Topics, topic)
	b.until("the commit", func() bool { // fails for a moment after another member has left
		res, err := req.RequestWith(b.context(), b.newClient(kgo.MaxVersions(byName())))
		return err == nil && res.Topics[0].Partitions[0].ErrorCode == 0
	})
}

// named sends n records to partition 0 of the input, whose values begin with name.
func (b *harness) named(name string, from, n int) {
	b.Helper()
	var rs []*kgo.Record
	for i := from; i < from+n; i++ {
		rs = append(rs, &kgo.Record{Topic: b.input, Value: fmt.Appendf(nil, "%s-%d", name, i)})
	}
	b.send(rs...)
}

// answered checks that the output has all of named(name, from, n), once each and in their order.
func (b *harness) answered(name string, from, n int) {
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
	r.until("the reset", func() bool { return r.check(func(r *recorder) bool { return len(r.resets) > 0 }) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := cmp.Diff([]stream.Reset{want}, r.resets); d != "" {
		r.Errorf("resets (-want +got):\n%s", d)
	}
}

func (r *running) noResets() {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.resets) > 0 {
		r.Errorf("resets: %+v", r.resets)
	}
}

// commits waits until the driver has committed an offset of partition 0.
func (r *running) commits(next int64) {
	r.Helper()
	r.until(fmt.Sprintf("the commit of offset %d", next), func() bool {
		return r.check(func(r *recorder) bool { return r.committed[0] == next })
	})
}

// Retention has removed the record at the committed offset: the driver goes on with what is left.
func outOfRange(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 5)
	d := b.start(b.config(), b.echo)
	d.commits(5)
	d.stop()
	d.noResets()
	b.named("b", 0, 310)
	b.deleteRecords(0, 305)
	d = b.start(b.config(), b.echo)
	d.commits(315)
	d.stop()
	d.reset(stream.Reset{Reason: stream.OutOfRange, From: 5, To: 305, Skipped: 300})
	b.answered("b", 300, 10)
}

// Retention removes records while a driver runs: those that are skipped are counted.
func overtaken(t *testing.T, b *harness) {
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
	b.until("a full window", func() bool { return d.check(func(r *recorder) bool { return r.records >= 16 }) })
	time.Sleep(time.Second) // for records that are fetched ahead
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

// The log ends before the committed offset, as after the election of a leader that lacked
// records, or after a topic was restored.
func beyondEnd(t *testing.T, b *harness) {
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

// With StopOnReset a driver ends before it commits or publishes anything, and says what to do.
// When the offset is set by hand it goes on.
func stopOnReset(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 30)
	b.deleteRecords(0, 20)
	b.store(10, "")
	cfg := b.config()
	cfg.StopOnReset = true
	d := b.start(cfg, b.echo)
	err := d.ended()
	d.noResets()
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
	d.noResets()
	b.answered("a", 20, 10)
}

// An offset that another client has committed, without a topic's id, is used.
func foreignCommit(_ *testing.T, b *harness) { trusts(b, "somebody-else's") }

// An offset that was copied from another cluster, as MirrorMaker does it, is used too: the
// topic's id means nothing in this cluster.
func copiedCommit(_ *testing.T, b *harness) {
	trusts(b, resume.Position{Offset: 20, Topic: resume.TopicID{1, 2, 3}}.Metadata("another-cluster"))
}

func trusts(b *harness, metadata string) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.named("a", 0, 30)
	b.store(20, metadata)
	d := b.start(b.config(), b.echo)
	d.commits(30)
	d.stop()
	d.noResets()
	b.answered("a", 20, 10)
}

// A group without offsets that starts at the latest record skips those before it: only the first
// time, and not in a partition that is added later.
func startLatest(t *testing.T, b *harness) {
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
	b.client = b.newClient() // the old one learns of it only later
	b.send(&kgo.Record{Topic: b.input, Partition: 2, Value: []byte("2-0")})
	d = b.start(cfg, b.echo)
	want := map[int][]string{0: sequence(0, 20)[10:], 1: sequence(1, 20)[15:], 2: {"2-0"}}
	got := values(b.read(b.output, 16))
	d.stop()
	d.noResets()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
}

// Another member of a new group has committed its start when we look up ours. Our partition must
// not count as one that was added later.
func startTogether(t *testing.T, b *harness) {
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

// A group without offsets starts at the first record at a time, or later.
func startTime(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	var rs []*kgo.Record
	for i := range 10 {
		rs = append(rs, &kgo.Record{Topic: b.input, Value: fmt.Appendf(nil, "0-%d", i), Timestamp: begin.Add(time.Duration(i) * time.Minute)})
	}
	rs = append(rs, &kgo.Record{Topic: b.input, Partition: 1, Value: []byte("1-0"), Timestamp: begin}) // none at the time or later
	b.send(rs...)
	cfg := b.config()
	cfg.Start = stream.Start{Time: begin.Add(7 * time.Minute)}
	d := b.start(cfg, b.echo)
	b.until("the start", func() bool {
		at := b.offsets(0, 1)
		return at[0] == 10 && at[1] == 1
	})
	d.stop()
	d.noResets()
	got := values(b.read(b.output, 3))
	if d := cmp.Diff(map[int][]string{0: sequence(0, 10)[7:]}, got); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
}

// byName returns versions of requests that name topics by their names.
func byName() *kversion.Versions { return kversion.V3_0_0() }
