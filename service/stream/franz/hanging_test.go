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
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
	"inceptor/testenv"
)

// A broker that is killed right after it has acknowledged the end of a transaction has
// told its partitions nothing of it, and takes it for complete when it starts again.
// What was committed stays committed, what was aborted comes again, and the group goes
// on.
func TestHangingTransaction(t *testing.T) {
	for _, c := range []struct {
		version int16 // of transactions
		how     kgo.TransactionEndTry
	}{
		{1, kgo.TryCommit},
		{2, kgo.TryCommit},
		{2, kgo.TryAbort},
	} {
		t.Run(fmt.Sprintf("version %d committed %v", c.version, c.how), func(t *testing.T) {
			t.Parallel()
			b := testenv.StartBroker(t, "group.min.session.timeout.ms=1000")
			cfg := config(b.Addr())
			setFeature(t, cfg, "transaction.version", c.version)
			bound := testBound
			bound.ID = "g-hanging"
			for attempt := 1; !hang(t, b, cfg, bound.ID, c.how); attempt++ {
				if attempt == 20 { // the kill may come too late on a busy machine
					t.Fatal("the broker has left no transaction open")
				}
				cfg.Inputs, cfg.Outputs = []string{fmt.Sprintf("in%d", attempt)}, []string{fmt.Sprintf("out%d", attempt)}
			}
			produce(t, cfg, "d")
			stop := start(t, cfg, bound, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
				return []stream.Record{{Topic: cfg.Outputs[0], Value: r.Value}}, nil
			})
			got := committed(t, cfg, 4)
			stop()
			slices.Sort(got)
			want := []string{"a", "b", "c", "d"}
			if c.how == kgo.TryCommit {
				want = []string{"a (before)", "b (before)", "c (before)", "d"}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("readers of committed records see (-want +got):\n%s", d)
			}
		})
	}
}

func setFeature(t *testing.T, cfg stream.Config, name string, version int16) {
	t.Helper()
	admin := kadm.NewClient(newClient(t, cfg))
	const safely = 2 // also down, where nothing is lost
	res, err := admin.UpdateFeatures(t.Context(), false, kadm.FeatureUpdate{Feature: name, MaxVersionLevel: version, UpgradeType: safely})
	if err == nil {
		err = res[name].Err
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// hang answers three records in one transaction, restarts the broker right after its
// end, and reports whether the transaction is open.
func hang(t *testing.T, b *testenv.Broker, cfg stream.Config, id string, how kgo.TransactionEndTry) bool {
	t.Helper()
	admin := kadm.NewClient(newClient(t, cfg))
	output := cfg.Outputs[0]
	if _, err := admin.CreateTopics(t.Context(), 1, 1, nil, cfg.Inputs[0], output); err != nil {
		t.Fatal(err)
	}
	produce(t, cfg, "a", "b", "c")
	g, err := kgo.NewGroupTransactSession(append(connection(cfg, wire.NewConnections(cfg)), kgo.WithHooks(endHook(b.Kill)),
		kgo.ConsumerGroup(cfg.Group), kgo.ConsumeTopics(cfg.Inputs...), kgo.TransactionalID(id), kgo.SessionTimeout(testSession),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Begin(); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 3; {
		fetches := g.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			g.Produce(t.Context(), &kgo.Record{Topic: output, Value: append(r.Value, " (before)"...)}, nil)
		})
	}
	if err := g.Client().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ended, err := g.End(t.Context(), how); err != nil || ended != bool(how) {
		t.Fatalf("committed: %v; %v", ended, err)
	}
	b.Restart()
	stable, err := admin.ListCommittedOffsets(t.Context(), output)
	if err != nil {
		t.Fatal(err)
	}
	return stable[output][0].Offset == 0
}

// An endHook is called as soon as a transaction's end is acknowledged.
type endHook func()

func (h endHook) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == kmsg.EndTxn.Int16() && e.Err() == nil {
		h()
	}
}

// An open transaction of another producer in the output is not taken for our last one.
// One that holds the group's offsets back is reported, and waited for.
func TestOffsetsHeldBack(t *testing.T) {
	t.Parallel()
	b := testenv.StartBroker(t, "group.min.session.timeout.ms=1000")
	cfg := config(b.Addr())
	admin := newClient(t, cfg)
	if _, err := kadm.NewClient(admin).CreateTopics(t.Context(), 1, 1, nil, "in", "out"); err != nil {
		t.Fatal(err)
	}
	log := make(lines, 1000)
	cfg.Log = slog.New(slog.NewTextHandler(writer(func(line string) { log <- line }), nil))
	bound := testBound
	bound.ID = "g-ours"
	produce(t, cfg, "a")
	stop := start(t, cfg, bound, echo)
	committed(t, cfg, 1)
	stop()

	other := newClient(t, cfg, kgo.TransactionalID("g-other"))
	if err := other.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := other.ProduceSync(t.Context(), &kgo.Record{Topic: "out", Value: []byte("other")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	produce(t, cfg, "b")
	stop = start(t, cfg, bound, echo)
	for {
		at, err := kadm.NewClient(admin).FetchOffsets(t.Context(), cfg.Group)
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := at.Lookup("in", 0); ok && o.At == 2 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	close(log)
	for line := range log {
		if strings.Contains(line, "ended hanging transaction") {
			t.Error(line)
		}
	}

	holdOffsets(t, other, cfg)

	produce(t, cfg, "c")
	log = make(lines, 1000)
	told := make(lines, 1000)
	cfg.Observer = readingObserver{told: told}
	stop = start(t, cfg, bound, echo)
	log.await(t, "a transaction has not ended in partitions [in-0]: UNSTABLE_OFFSET_COMMIT")
	told.await(t, "in-0: a transaction has not ended in partitions [in-0]")
	if err := other.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if got := committed(t, cfg, 3); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%q", got)
	}
	log.await(t, `msg=recovered operation="begin at the offsets of g"`)
	told.await(t, "in-0: <nil>")
	stop()
}

// A readingObserver keeps what it is told of reading.
type readingObserver struct {
	stream.Unobserved
	told lines
}

func (o readingObserver) Retrying(p stream.Partition, stage stream.Stage, err error) {
	if stage == stream.Reading {
		o.told <- fmt.Sprintf("%v: %v", p, err)
	}
}

// holdOffsets adds the group's offsets to the open transaction of "g-other".
func holdOffsets(t *testing.T, other *kgo.Client, cfg stream.Config) {
	t.Helper()
	id, epoch, err := other.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	offsets := kmsg.NewPtrAddOffsetsToTxnRequest()
	offsets.TransactionalID, offsets.ProducerID, offsets.ProducerEpoch, offsets.Group = "g-other", id, epoch, cfg.Group
	for added := false; !added; time.Sleep(50 * time.Millisecond) { // a new broker creates a topic for them first
		res, err := offsets.RequestWith(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		added = res.ErrorCode == 0
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = "g-other", id, epoch, cfg.Group, -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = "in"
	topic.Partitions = append(topic.Partitions, kmsg.NewTxnOffsetCommitRequestTopicPartition())
	commit.Topics = append(commit.Topics, topic)
	if res, err := commit.RequestWith(t.Context(), other); err != nil || res.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, res)
	}
}

// A describeHook calls then when the coordinator has described a transaction that
// often.
type describeHook struct {
	checks atomic.Int64
	at     int64
	then   func()
}

func (h *describeHook) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == kmsg.DescribeTransactions.Int16() && e.Err() == nil && h.checks.Add(1) == h.at {
		h.then()
	}
}

// Two processes have one transactional id by mistake, and a third one holds the group's
// offsets back. One begins a transaction while the other checks for a hanging one: the
// other does not commit it.
func TestSharedID(t *testing.T) {
	for name, test := range map[string]struct {
		check int64  // after which it begins
		in    string // the topic that it writes to
	}{
		"after the checks":          {hangingChecks + 1, "out"},
		"after another description": {hangingChecks + 2, "out"},
		"in another topic":          {hangingChecks + 2, "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testenv.StartBroker(t, "group.min.session.timeout.ms=1000")
			cfg := config(b.Addr())
			admin := newClient(t, cfg)
			if _, err := kadm.NewClient(admin).CreateTopics(t.Context(), 1, 1, nil, "in", "out", "elsewhere", "third"); err != nil {
				t.Fatal(err)
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			bound := testBound
			bound.ID = "g-shared"
			first := newClient(t, cfg, kgo.TransactionalID(bound.ID))
			must(first.BeginTransaction())
			must(first.ProduceSync(t.Context(), &kgo.Record{Topic: "out", Value: []byte("committed")}).FirstErr())
			must(first.EndTransaction(t.Context(), kgo.TryCommit))

			other := newClient(t, cfg, kgo.TransactionalID("g-other"))
			must(other.BeginTransaction())
			must(other.ProduceSync(t.Context(), &kgo.Record{Topic: "third", Value: []byte("x")}).FirstErr())
			holdOffsets(t, other, cfg)
			produce(t, cfg, "answered")

			begun := make(chan error, 1)
			hook := &describeHook{at: test.check, then: func() {
				_ = first.BeginTransaction()
				begun <- first.ProduceSync(context.Background(), &kgo.Record{Topic: test.in, Value: []byte("never committed")}).FirstErr()
			}}
			log := make(lines, 1000)
			cfg.Log = slog.New(slog.NewTextHandler(writer(func(line string) { fmt.Print(line); log <- line }), nil))
			stop := start(t, cfg, bound, echo, hook)
			must(<-begun)
			log.await(t, "another process uses our transactional id")
			must(other.EndTransaction(t.Context(), kgo.TryAbort))
			if got := committed(t, cfg, 2); !slices.Equal(got, []string{"committed", "answered"}) {
				t.Errorf("readers of committed records see %q in out", got)
			}
			if test.in != "out" {
				cfg.Outputs = []string{test.in}
				if got := committed(t, cfg, 0); len(got) > 0 {
					t.Errorf("readers of committed records see %q in %s", got, test.in)
				}
			}
			stop()
		})
	}
}

// While a driver runs, a broker is killed at the end of transactions. No answer is lost,
// and none comes twice.
func TestKilledAtCommit(t *testing.T) {
	t.Parallel()
	b := testenv.StartBroker(t, "group.min.session.timeout.ms=1000")
	cfg := config(b.Addr())
	if _, err := kadm.NewClient(newClient(t, cfg)).CreateTopics(t.Context(), 2, 1, nil, "in", "out"); err != nil {
		t.Fatal(err)
	}
	var again atomic.Int64
	cfg.Log = slog.New(slog.NewTextHandler(writer(func(line string) {
		if strings.Contains(line, "ended hanging transaction") {
			again.Add(1)
		}
	}), nil))
	due, killed := make(chan struct{}, 1), make(chan struct{})
	kill := func() {
		select {
		case <-due:
			b.Kill()
			killed <- struct{}{}
		default:
		}
	}
	defer start(t, cfg, testBound, echo, endHook(kill))()
	const rounds, each = 3, 40
	var want []string
	for round := range rounds {
		var records []*kgo.Record
		for i := range each {
			want = append(want, fmt.Sprintf("%d-%02d", round, i))
			records = append(records, &kgo.Record{Topic: "in", Value: []byte(want[len(want)-1])})
		}
		due <- struct{}{}
		client := newClient(t, cfg)
		for _, r := range records {
			client.Produce(t.Context(), r, nil)
		}
		<-killed
		b.Restart()
		if err := client.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := committed(t, cfg, len(want))
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("in round %d, readers of committed records see (-want +got):\n%s", round, d)
		}
	}
	t.Logf("%d of %d transactions were left hanging and ended", again.Load(), rounds)
}
