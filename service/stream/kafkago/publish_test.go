package kafkago

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// An output counts as published when all replicas in sync have it.
func TestAllReplicasAcknowledge(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "in", "x")
	var requests, weak atomic.Int64
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		requests.Add(1)
		if req.(*kmsg.ProduceRequest).Acks != -1 {
			weak.Add(1)
		}
		return nil, nil, false
	})
	var published atomic.Int32
	cfg.Observer = counter{count: &published}
	stop := start(t, cfg)
	await(t, "the record to be published", func() bool { return published.Load() > 0 })
	stop()
	if requests.Load() == 0 || weak.Load() > 0 {
		t.Errorf("%d requests, %d of them do not ask for all acknowledgements", requests.Load(), weak.Load())
	}
}

// A quota's pause may be longer than the request timeout. The records are already written: sent
// again they would be repeated, and the next pause would be longer.
func TestPauseLongerThanTimeout(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "out"))
	cluster := connect(config(c.ListenAddrs()...))
	defer cluster.close()
	cluster.client.Timeout = 3 * time.Second
	requests := make(chan struct{}, 10)
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		requests <- struct{}{}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		res.ThrottleMillis = 5000
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = "out"
		topic.Partitions = append(topic.Partitions, kmsg.NewProduceResponseTopicPartition())
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tr := &transport{cfg: cluster.cfg, cluster: cluster}
	if err := tr.Send(ctx, "out", 0, []stream.Record{{Value: []byte("x")}}); err != nil {
		t.Errorf("a throttled request: %v", err)
	}
	if n := len(requests); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}
