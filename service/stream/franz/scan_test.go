package franz

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// control answers so many requests of a kind; -1: all.
func control(c *kfake.Cluster, key kmsg.Key, times int, answer func(kmsg.Request) (kmsg.Response, error)) {
	c.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if times--; times == 0 {
			c.DropControl()
		}
		res, err := answer(r)
		return res, err, true
	})
}

// nothing is what a broker answers that has nothing at the offset asked for, of
// a log whose committed end is stable.
func nothing(stable int64, throttle int32) func(kmsg.Request) (kmsg.Response, error) {
	return func(r kmsg.Request) (kmsg.Response, error) {
		req := r.(*kmsg.FetchRequest)
		res := req.ResponseKind().(*kmsg.FetchResponse)
		res.ThrottleMillis = throttle
		for _, t := range req.Topics {
			topic := kmsg.NewFetchResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewFetchResponseTopicPartition()
				part.Partition, part.HighWatermark, part.LastStableOffset = p.Partition, stable, stable
				topic.Partitions = append(topic.Partitions, part)
			}
			res.Topics = append(res.Topics, topic)
		}
		return res, nil
	}
}

// A scan gives all that is committed, and ends: where the log does, or with an
// error that says what did not come.
func TestScan(t *testing.T) {
	all := []string{"0", "1", "2", "3"}
	fault := func(err *kerr.Error, times int) func(*kfake.Cluster) {
		return func(c *kfake.Cluster) { c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: err, Count: times}) }
	}
	for _, test := range []struct {
		name string
		with func(*kfake.Cluster)
		want []string
		err  string
	}{
		{"as it is", func(*kfake.Cluster) {}, all, ""},
		{"the rest was compacted away", func(c *kfake.Cluster) { control(c, kmsg.Fetch, -1, nothing(4, 0)) }, nil, ""},
		{"one empty answer", func(c *kfake.Cluster) { control(c, kmsg.Fetch, 1, nothing(4, 0)) }, all, ""},
		{"throttled", func(c *kfake.Cluster) { control(c, kmsg.Fetch, scanEmpty, nothing(4, 1)) }, all, ""},
		{"another leader", fault(kerr.NotLeaderForPartition, 2), all, ""},
		{"connection lost", func(c *kfake.Cluster) {
			control(c, kmsg.Fetch, 2, func(kmsg.Request) (kmsg.Response, error) { return nil, errors.New("lost") })
		}, all, ""},
		{"no leader", fault(kerr.LeaderNotAvailable, -1), nil,
			"read from dead, partition 0: offset 0 did not come within 1s, of records up to offset 3: LEADER_NOT_AVAILABLE"},
		{"silence", func(c *kfake.Cluster) {
			control(c, kmsg.Fetch, -1, func(kmsg.Request) (kmsg.Response, error) { return nil, nil })
		}, nil, "read from dead, partition 0: offset 0 did not come within 1s, of records up to offset 3: the broker does not answer"},
		{"silence from the start", func(c *kfake.Cluster) {
			control(c, kmsg.ListOffsets, -1, func(kmsg.Request) (kmsg.Response, error) { return nil, nil })
		}, nil, "read from dead: no broker has answered for 1s"},
		{"a log that has lost its end", func(c *kfake.Cluster) { control(c, kmsg.Fetch, -1, nothing(2, 0)) }, nil,
			"read from dead, partition 0: offset 0 did not come within 1s, of records up to offset 3: the log's committed end is 2 now"},
		{"not allowed", fault(kerr.TopicAuthorizationFailed, 1), nil, "read from dead, partition 0: TOPIC_AUTHORIZATION_FAILED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "dead"))
			cfg := config(c.ListenAddrs()...)
			cfg.Inputs = []string{"dead"}
			produce(t, cfg, all...)
			test.with(c)
			quiet := time.Second
			if test.err == "" {
				quiet = patient
			}
			got, err := scanAll(t, cfg, quiet, nil)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.HasPrefix(err.Error(), test.err) {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}

// patient is how long a scan waits that is to succeed.
const patient = time.Minute

// scanAll are the values that a scan of the topic dead gives; each is told.
func scanAll(t *testing.T, cfg stream.Config, quiet time.Duration, each func()) (values []string, err error) {
	t.Helper()
	err = clientOf(t, cfg, nil).scan(t.Context(), "dead", quiet, func(r stream.Record) error {
		values = append(values, string(r.Value))
		if each != nil {
			each()
		}
		return nil
	})
	return values, err
}

// Retention may remove records while a scan is under way.
func TestScanRetention(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "dead"))
	cfg := config(c.ListenAddrs()...)
	cfg.Inputs = []string{"dead"}
	produce(t, cfg, "0", "1", "2", "3")
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		r.(*kmsg.FetchRequest).Topics[0].Partitions[0].PartitionMaxBytes = 1 // one batch
		return nil, nil, false
	})
	got, err := scanAll(t, cfg, patient, func() {
		if err := c.DeleteRecords("dead", 0, 2); err != nil {
			t.Error(err)
		}
	})
	if want := []string{"0", "2", "3"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// What was aborted is not given, and neither it nor the marks of transactions
// are waited for, wherever the committed end lies.
func TestScanTransactions(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "dead"))
	cfg := config(c.ListenAddrs()...)
	writer := func(id string) *kgo.Client { return newClient(t, cfg, kgo.TransactionalID(id)) }
	one, other := writer("one"), writer("other")
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(w *kgo.Client, value string) {
		t.Helper()
		step(w.BeginTransaction())
		step(w.ProduceSync(t.Context(), &kgo.Record{Topic: "dead", Value: []byte(value)}).FirstErr())
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got, err := scanAll(t, cfg, patient, nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", when, got, err, want)
		}
	}
	write(one, "aborted")
	expect("open")
	step(one.EndTransaction(t.Context(), kgo.TryAbort))
	expect("aborted")
	write(one, "committed")
	step(one.EndTransaction(t.Context(), kgo.TryCommit))
	expect("committed", "committed")
	write(one, "aborted")
	write(other, "open")
	step(one.EndTransaction(t.Context(), kgo.TryAbort))
	expect("the end lies between an aborted record and its mark", "committed")
	step(other.EndTransaction(t.Context(), kgo.TryCommit))
	expect("both ended", "committed", "open")
}
