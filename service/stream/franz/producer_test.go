package franz

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// A producer recovers from each answer, and from none.
func TestProducer(t *testing.T) {
	to := destination{"out", 0}
	for name, test := range map[string]struct {
		before func(*producer) // the second batch is sent
		second string
		errs   []error // of sending it, again and again
		want   []string
		fresh  bool // with another producer id
	}{
		"well": {func(*producer) {}, "b", []error{nil}, []string{"a", "b"}, false},
		"the acknowledgement was lost": {
			func(p *producer) { p.next[to], p.maybeStored = 0, true }, "a", []error{nil}, []string{"a"}, false,
		},
		"the broker misses one": {
			func(p *producer) { p.next[to] = 7 }, "b", []error{kerr.OutOfOrderSequenceNumber, nil}, []string{"a", "b"}, true,
		},
		"too large": {
			func(*producer) {}, strings.Repeat("x", 2000), []error{kerr.MessageTooLarge}, []string{"a"}, false,
		},
		"too large, perhaps written before": {
			func(p *producer) { p.maybeStored = true }, strings.Repeat("x", 2000), []error{kerr.MessageTooLarge}, []string{"a"}, true,
		},
		"the leader has moved": {
			func(p *producer) { p.topics.of["out"].leaders[0] = 9 }, "b", []error{errAny, nil}, []string{"a", "b"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "out"))
			cfg := config(c.ListenAddrs()...)
			limit := "1000"
			set := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			set.Name, set.Value = "max.message.bytes", &limit
			topic := kmsg.NewIncrementalAlterConfigsRequestResource()
			topic.ResourceType, topic.ResourceName = kmsg.ConfigResourceTypeTopic, "out"
			topic.Configs = append(topic.Configs, set)
			alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
			alter.Resources = append(alter.Resources, topic)
			client := newClient(t, cfg)
			if _, err := alter.RequestWith(t.Context(), client); err != nil {
				t.Fatal(err)
			}
			p := newProducer(client, &outputTopics{client: client}, nil)
			send := func(v string) error {
				return p.Send(t.Context(), "out", 0, []stream.Record{{Topic: "out", Value: []byte(v)}})
			}
			if err := send("a"); err != nil {
				t.Fatal(err)
			}
			id := p.id
			test.before(p)
			for i, want := range test.errs {
				if err := send(test.second); !errors.Is(err, want) && (err == nil || !errors.Is(want, errAny)) {
					t.Errorf("attempt %d: %v, want %v", i, err, want)
				}
			}
			if err := p.identify(t.Context()); err != nil || (p.id != id) != test.fresh {
				t.Errorf("producer %d after %d, %v; want another one: %v", p.id, id, err, test.fresh)
			}
			if got := committed(t, cfg, len(test.want)); !slices.Equal(got, test.want) {
				t.Errorf("the topic holds %q, want %q", got, test.want)
			}
			if err := send("last"); err != nil {
				t.Errorf("the next one: %v", err)
			}
		})
	}
}

var errAny = errors.New("any error")

func TestAfter(t *testing.T) {
	for _, test := range []struct {
		sequence int32
		n        int
		want     int32
	}{{0, 1, 1}, {1<<31 - 2, 1, 1<<31 - 1}, {1<<31 - 1, 1, 0}, {1<<31 - 3, 5, 2}} {
		if got := after(test.sequence, test.n); got != test.want {
			t.Errorf("after(%d, %d) = %d, want %d", test.sequence, test.n, got, test.want)
		}
	}
}

// When the group has gone on without it, a member begins anew with what is
// committed, and loses nothing.
func TestCommitOutOfGeneration(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "a")
	var refusals, joins atomic.Int64
	c.ControlKey(kmsg.OffsetCommit.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if refusals.Add(1) > 1 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.(*kmsg.OffsetCommitRequest).Topics {
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewOffsetCommitResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.IllegalGeneration.Code
				topic.Partitions = append(topic.Partitions, part)
			}
			res.Topics = append(res.Topics, topic)
		}
		return res, nil, true
	})
	c.ControlKey(kmsg.JoinGroup.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		joins.Add(1)
		return nil, nil, false
	})
	stop := startAtLeastOnce(t, cfg)
	if got := committed(t, cfg, 2); !slices.Equal(got, []string{"a", "a"}) {
		t.Errorf("published %q, want it again, for its commit was refused", got)
	}
	produce(t, cfg, "b")
	if got := committed(t, cfg, 3); !slices.Equal(got, []string{"a", "a", "b"}) {
		t.Errorf("published %q", got)
	}
	stop()
	if joins.Load() < 2 {
		t.Error("it did not join again")
	}
}

// An input partition whose output has no leader holds no other partition back.
func TestLeaderlessOutput(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(2, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	var back atomic.Bool
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.ProduceRequest)
		if back.Load() || in.Topics[0].Partitions[0].Partition == 1 || in.Topics[0].TopicID != c.TopicInfo("out").TopicID {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		part := kmsg.NewProduceResponseTopicPartition()
		part.ErrorCode = kerr.LeaderNotAvailable.Code
		topic := kmsg.NewProduceResponseTopic()
		topic.TopicID = in.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, part)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	producer := newClient(t, cfg, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i, v := range []string{"a", "b"} {
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Partition: int32(i), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	stop := startAtLeastOnce(t, cfg)
	if got := committed(t, cfg, 1); !slices.Equal(got, []string{"b"}) {
		t.Errorf("published %q", got)
	}
	back.Store(true)
	got := committed(t, cfg, 2)
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("published %q once there is a leader", got)
	}
	stop()
}

// startAtLeastOnce is start for delivery at least once.
func startAtLeastOnce(t *testing.T, cfg stream.Config) (stop func()) {
	t.Helper()
	d, err := NewAtLeastOnce(cfg, echo)
	if err != nil {
		t.Fatal(err)
	}
	return running(t, d)
}
