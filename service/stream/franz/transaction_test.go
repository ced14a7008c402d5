package franz

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"inceptor/service/stream"
)

// An answer is visible at once if nothing else is in flight, and otherwise after the
// interval or with so many records.
func TestWhenAnswersAreSeen(t *testing.T) {
	const never = 4 * time.Minute
	for name, test := range map[string]struct {
		records  int
		interval time.Duration
		held     bool // the last record is in flight all the time
		want     int  // answers that are seen meanwhile, of 8
	}{
		"nothing else in flight": {1000, never, false, 8},
		"after the interval":     {1000, 100 * time.Millisecond, true, 8},
		"with so many records":   {4, never, true, 8},
		"not before":             {1000, never, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.Window.Records = 100
			var want []string
			for i := range 8 {
				want = append(want, fmt.Sprint(i))
			}
			release := make(chan struct{})
			var handled atomic.Int64
			stop := start(t, cfg, Transaction{Interval: test.interval, Records: test.records, Timeout: 2 * never},
				func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
					if string(r.Value) == "held" {
						<-release
						return nil, nil
					}
					handled.Add(1)
					return echo(ctx, r)
				})
			records := want
			if test.held {
				records = append(slices.Clone(want), "held")
			}
			batch := make([]*kgo.Record, len(records))
			for i, v := range records {
				batch[i] = &kgo.Record{Topic: "in", Value: []byte(v)}
			}
			// All of them come with one fetch: none is idle before the last.
			client := newClient(t, cfg, kgo.ManualFlushing())
			for _, r := range batch {
				client.Produce(t.Context(), r, nil)
			}
			if err := client.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if test.want == 0 {
				for handled.Load() < 8 {
					time.Sleep(10 * time.Millisecond)
				}
			}
			if got := committed(t, cfg, test.want); len(got) != test.want {
				t.Errorf("%d answers are seen, want %d: %q", len(got), test.want, got)
			}
			close(release)
			stop()
			if d := cmp.Diff(want, committed(t, cfg, 8)); d != "" {
				t.Errorf("after the end (-want +got):\n%s", d)
			}
		})
	}
}

// If records come one by one, a tenth of the interval lies between two transactions.
func TestTransactionsAreApart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	stop := start(t, cfg, Transaction{Interval: 4 * time.Minute, Records: 1000, Timeout: 10 * time.Minute}, echo)
	produce(t, cfg, "a")
	if d := cmp.Diff([]string{"a"}, committed(t, cfg, 1)); d != "" {
		t.Errorf("the first (-want +got):\n%s", d)
	}
	produce(t, cfg, "b")
	if d := cmp.Diff([]string{"a"}, committed(t, cfg, 1)); d != "" {
		t.Errorf("soon after it (-want +got):\n%s", d)
	}
	stop()
	if d := cmp.Diff([]string{"a", "b"}, committed(t, cfg, 2)); d != "" {
		t.Errorf("after the end (-want +got):\n%s", d)
	}
}

// A process with the transactional id of a killed one ends the killed one's transaction at
// once. Brokers are told the timeout after which they end it.
func TestEndsWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	bound := Transaction{Interval: 100 * time.Millisecond, Records: 1000, Timeout: 5 * time.Minute, ID: "g-same"}
	killed := newClient(t, cfg, kgo.TransactionalID(bound.ID), kgo.TransactionTimeout(bound.Timeout))
	if err := killed.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := killed.ProduceSync(t.Context(), &kgo.Record{Topic: "out", Value: []byte("left open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var told atomic.Int64
	c.ControlKey(kmsg.InitProducerID.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		told.Store(int64(req.(*kmsg.InitProducerIDRequest).TransactionTimeoutMillis))
		return nil, nil, false
	})
	produce(t, cfg, "a")
	stop := start(t, cfg, bound, echo)
	if d := cmp.Diff([]string{"a"}, committed(t, cfg, 1)); d != "" {
		t.Errorf("readers of committed records see (-want +got):\n%s", d)
	}
	stop()
	if got, want := time.Duration(told.Load())*time.Millisecond, bound.Timeout; got != want {
		t.Errorf("the brokers are told %v, want %v", got, want)
	}
}

// Of two processes with one transactional id, one is fenced, warns, and goes on with
// another id. Each record is answered once.
func TestTwoWithOneID(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(2, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	bound := testBound
	bound.ID = "g-same"
	var fenced atomic.Int64
	cfg.Log = slog.New(slog.NewTextHandler(writer(func(line string) {
		if strings.Contains(line, `level=WARN msg="transactional id fenced; going on with a new one" id=g-`) {
			fenced.Add(1)
		}
	}), nil))
	stopOne, stopOther := start(t, cfg, bound, echo), start(t, cfg, bound, echo)
	client := newClient(t, cfg, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	var want []string
	send := func() {
		want = append(want, fmt.Sprintf("%05d", len(want)))
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(want[len(want)-1])}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for begin := time.Now(); fenced.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("nobody is fenced")
		}
		send()
	}
	for range 20 {
		send()
	}
	got := committed(t, cfg, len(want))
	stopOne()
	stopOther()
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("readers of committed records see (-want +got):\n%s", d)
	}
}

// Exactly once works with brokers of Kafka 2.5.
func TestOldBroker(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"), kfake.MaxVersions(kversion.V2_5_0()))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "a", "b")
	stop := start(t, cfg, testBound, echo)
	if d := cmp.Diff([]string{"a", "b"}, committed(t, cfg, 2)); d != "" {
		t.Errorf("readers of committed records see (-want +got):\n%s", d)
	}
	stop()
}

// A generation is ended if another one follows before the loop has worked on it.
func TestGenerationsFollow(t *testing.T) {
	d, err := New(config("127.0.0.1:1"), testBound, echo)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, d.cfg)
	s := &session{sessionContext: d.newSessionContext(nil)}
	m := &membership{sessionContext: s.sessionContext, worker: d.worker, budget: d.budget}
	m.onAssigned(t.Context(), client, map[string][]int32{"in": {0, 1}})
	first := s.latest.Load()
	m.onAssigned(t.Context(), client, map[string][]int32{"in": {1}})
	if !first.ended {
		t.Error("the first goes on")
	}
	if err := s.begin(t.Context(), first); err != nil || s.current != nil {
		t.Errorf("the first is worked on all the same: %v", err)
	}
	second := s.latest.Load()
	s.endUnclaimed()
	if !second.ended {
		t.Error("the second goes on")
	}
}
