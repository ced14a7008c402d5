package franz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// Config.ReplaceRefused is told that the time of the record is at fault.
func TestInvalidTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "x")
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		in := req.(*kmsg.ProduceRequest)
		res := in.ResponseKind().(*kmsg.ProduceResponse)
		p := kmsg.NewProduceResponseTopicPartition()
		p.ErrorCode = kerr.InvalidTimestamp.Code
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = in.Topics[0].Topic, in.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, p)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	var reasons []error
	cfg.ReplaceRefused = func(_, output stream.Record, reason error) (stream.Record, error) {
		reasons = append(reasons, reason)
		return output, nil
	}
	stop := start(t, cfg, testBound, echo)
	committed(t, cfg, 1)
	stop()
	if len(reasons) != 1 || !errors.Is(reasons[0], stream.ErrInvalidTime) {
		t.Errorf("refused for %v", reasons)
	}
	if got := committed(t, cfg, 1); len(got) != 1 {
		t.Errorf("published %q", got)
	}
}

// Whatever happens at the end of a transaction, each record is answered once. Where the
// transaction was certainly aborted, handlers are not called again.
func TestEnds(t *testing.T) {
	answer := func(code int16) func(kmsg.Request) (kmsg.Response, error, bool) {
		return func(req kmsg.Request) (kmsg.Response, error, bool) {
			res := req.ResponseKind()
			switch res := res.(type) {
			case *kmsg.EndTxnResponse:
				res.ErrorCode = code
			case *kmsg.HeartbeatResponse:
				res.ErrorCode = code
			case *kmsg.TxnOffsetCommitResponse:
				for _, in := range req.(*kmsg.TxnOffsetCommitRequest).Topics {
					topic := kmsg.NewTxnOffsetCommitResponseTopic()
					topic.Topic, topic.TopicID = in.Topic, in.TopicID
					for _, p := range in.Partitions {
						part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
						part.Partition, part.ErrorCode = p.Partition, code
						topic.Partitions = append(topic.Partitions, part)
					}
					res.Topics = append(res.Topics, topic)
				}
			}
			return res, nil, true
		}
	}
	lost := func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("lost"), true }
	for name, test := range map[string]struct {
		key     kmsg.Key
		control func(kmsg.Request) (kmsg.Response, error, bool)
		times   int
		once    bool // handlers are not called again
	}{
		"aborted":                    {kmsg.TxnOffsetCommit, answer(kerr.TransactionAbortable.Code), 2, true},
		"coordinator moves":          {kmsg.TxnOffsetCommit, answer(kerr.NotCoordinator.Code), 2, true},
		"generation is over":         {kmsg.TxnOffsetCommit, answer(kerr.IllegalGeneration.Code), 1, true},
		"end is aborted":             {kmsg.EndTxn, answer(kerr.TransactionAbortable.Code), 1, true},
		"end is unknown":             {kmsg.EndTxn, answer(kerr.UnknownServerError.Code), 1, true},
		"end is lost":                {kmsg.EndTxn, lost, 1, true},
		"fenced":                     {kmsg.EndTxn, answer(kerr.ProducerFenced.Code), 1, false},
		"mapping is gone":            {kmsg.EndTxn, answer(kerr.InvalidProducerIDMapping.Code), 1, false},
		"member is out":              {kmsg.Heartbeat, answer(kerr.UnknownMemberID.Code), 2, false},
		"heartbeats end":             {kmsg.Heartbeat, answer(kerr.UnknownServerError.Code), 1, false},
		"offsets may not be written": {kmsg.TxnOffsetCommit, answer(kerr.InvalidTxnState.Code), 1, false},
		"group rebalances, it seems": {kmsg.Heartbeat, answer(kerr.RebalanceInProgress.Code), 2, false},
		"offsets are lost":           {kmsg.TxnOffsetCommit, lost, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.Log = slog.New(slog.NewTextHandler(logWriter{t}, nil))
			const n = 40
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint(i))
			}
			produce(t, cfg, want...)
			var left atomic.Int64
			left.Store(int64(test.times))
			c.ControlKey(test.key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if left.Add(-1) < 0 {
					return nil, nil, false
				}
				return test.control(req)
			})
			var mu sync.Mutex
			calls := map[string]int{}
			stop := start(t, cfg, testBound, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
				mu.Lock()
				calls[string(r.Value)]++
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
				return echo(ctx, r)
			})
			await(t, "the fault, and a request that has none", func() bool { return left.Load() < 0 })
			committed(t, cfg, n)
			stop()
			got := committed(t, cfg, n)
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("published %q", got)
			}
			again := 0
			for _, n := range calls {
				again += n - 1
			}
			if test.once && again > 0 {
				t.Errorf("%d records handled again", again)
			}
		})
	}
}

// A broker that commits a transaction and answers that it does not know is not believed:
// the answers are not published again.
func TestUnknownEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "a", "b", "c")
	other := newClient(t, cfg)
	var done atomic.Bool
	c.ControlKey(kmsg.EndTxn.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if done.Swap(true) {
			return nil, nil, false
		}
		c.SleepControl(func() {
			end := *req.(*kmsg.EndTxnRequest)
			if res, err := end.RequestWith(t.Context(), other); err != nil || res.ErrorCode != 0 || !end.Commit {
				t.Errorf("end: %v, %+v", err, res)
			}
		})
		res := req.ResponseKind().(*kmsg.EndTxnResponse)
		res.ErrorCode = kerr.UnknownServerError.Code
		return res, nil, true
	})
	stop := start(t, cfg, testBound, echo)
	committed(t, cfg, 3)
	stop()
	if got := committed(t, cfg, 3); !done.Load() || strings.Join(got, " ") != "a b c" {
		t.Errorf("published %q", got)
	}
}
