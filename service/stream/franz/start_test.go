package franz

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/streamtest"
)

// refuseStarts lets our look-ups of where partition 0 begins fail with code while refuse
// returns true. The client's own look-ups, which are for committed records, succeed.
func refuseStarts(c *kfake.Cluster, code *kerr.Error, refuse func() bool) {
	c.ControlKey(kmsg.ListOffsets.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.ListOffsetsRequest)
		if in.IsolationLevel != 0 || !refuse() {
			return nil, nil, false
		}
		res := in.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, t := range in.Topics {
			topic := kmsg.NewListOffsetsResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				part := kmsg.NewListOffsetsResponseTopicPartition()
				part.Partition, part.Offset = p.Partition, 0
				if p.Partition == 0 {
					part.ErrorCode = code.Code
				}
				topic.Partitions = append(topic.Partitions, part)
			}
			res.Topics = append(res.Topics, topic)
		}
		return res, nil, true
	})
}

// If it cannot be looked up where a partition begins, the others do not wait for it,
// whether the client tries again or not. It is read as soon as the client knows.
func TestStartNotKnown(t *testing.T) {
	for name, code := range map[string]*kerr.Error{
		"refused":   kerr.UnknownServerError,
		"no leader": kerr.LeaderNotAvailable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(2, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			producer := newClient(t, cfg, kgo.RecordPartitioner(kgo.ManualPartitioner()))
			for i, v := range []string{"a", "b"} {
				r := &kgo.Record{Topic: "in", Partition: int32(i), Value: []byte(v)}
				if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			refuseStarts(c, code, func() bool { return true })
			stop := start(t, cfg, testBound, echo)
			got := committed(t, cfg, 2)
			stop()
			slices.Sort(got)
			if d := cmp.Diff([]string{"a", "b"}, got); d != "" {
				t.Errorf("published (-want +got):\n%s", d)
			}
		})
	}
}

// A batch that cannot be read is skipped even if it was not known where its partition
// begins, and the client knows no offset there.
func TestUnreadAtUnknownStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	bomb := newClient(t, cfg, streamtest.Bomb(50<<20))
	if err := bomb.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: make([]byte, 100<<10)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	produce(t, cfg, "a")
	var fetched atomic.Bool
	input := c.TopicInfo("in").TopicID
	c.ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			if topic.TopicID == input {
				fetched.Store(true)
			}
		}
		return nil, nil, false
	})
	refuseStarts(c, kerr.UnknownServerError, func() bool { return !fetched.Load() })
	cfg.BatchBytes = 1 << 20
	cfg.ReplaceUnread = func(stream.Batch) []stream.Record {
		return []stream.Record{{Topic: "out", Value: []byte("unread")}}
	}
	stop := start(t, cfg, testBound, echo)
	got := committed(t, cfg, 2)
	stop()
	if d := cmp.Diff([]string{"unread", "a"}, got); d != "" {
		t.Errorf("published (-want +got):\n%s", d)
	}
}
