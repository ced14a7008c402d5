package streamtest

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// RunCommitRefused tests a driver that delivers at least once while the group takes no offset of
// one partition: it tells so, and the other partition goes on. Then the group takes none at all,
// and the driver can still be stopped. c is the broker.
func (s Suite) RunCommitRefused(t *testing.T, c *kfake.Cluster) {
	b := newHarness(t, s)
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	var refused atomic.Int32 // the first of those partitions
	refused.Store(1)
	refuseCommits(c, func(partition int32) bool { return partition >= refused.Load() })
	cfg := b.config()
	cfg.DrainTimeout = 2 * time.Second // at the end nothing can be committed
	d := b.start(cfg, b.echo)
	b.fill(2, 0, 5)
	one := stream.Partition{Topic: b.input, ID: 1}
	failing := func(r *recorder) error { return r.failing[one][stream.Committing] }
	b.until("commits that fail", func() bool {
		return d.check(func(r *recorder) bool { return r.committed[0] == 5 && failing(r) != nil })
	})
	d.check(func(r *recorder) bool {
		if text := failing(r).Error(); !strings.Contains(text, "commit offsets of group "+b.group) || len(r.failing) != 1 {
			t.Errorf("what fails: %v", r.failing)
		}
		return true
	})
	refused.Store(2)
	b.until("commits", func() bool {
		return d.check(func(r *recorder) bool { return r.committed[1] == 5 && len(r.failing) == 0 })
	})
	refused.Store(0)
	b.fill(2, 5, 5)
	b.until("commits that fail", func() bool { return d.check(func(r *recorder) bool { return len(r.failing) == 2 }) })
	d.stop()
	if len(d.failing) > 0 {
		t.Errorf("after the end: %v", d.failing)
	}
}

// refuseCommits makes a broker refuse the offsets of some partitions. It accepts the other offsets
// of the same request, but forgets them.
func refuseCommits(c *kfake.Cluster, refused func(partition int32) bool) {
	c.ControlKey(kmsg.OffsetCommit.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.OffsetCommitRequest)
		res, some := in.ResponseKind().(*kmsg.OffsetCommitResponse), false
		for i := range in.Topics {
			t := &in.Topics[i]
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewOffsetCommitResponseTopicPartition()
				if part.Partition = p.Partition; refused(p.Partition) {
					part.ErrorCode, some = kerr.OffsetMetadataTooLarge.Code, true
				}
				topic.Partitions = append(topic.Partitions, part)
			}
			res.Topics = append(res.Topics, topic)
		}
		return res, nil, some
	})
}
