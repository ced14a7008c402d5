package streamtest

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// A Driver is the driver under test.
type Driver interface {
	Run(ctx context.Context) error
}

// A Suite says which driver to test, on which broker, and what the driver can do.
type Suite struct {
	New func(stream.Config, stream.Handler) (Driver, error)
	// CheckTopics is nil for a driver without one.
	CheckTopics func(ctx context.Context, cfg stream.Config, create bool) ([]stream.Topic, error)
	Session     time.Duration // of tests of what lasts longer than a session

	// ExactlyOnce tells that readers of committed records never see a repeat.
	ExactlyOnce bool
	// CommittedInput tells that the driver reads only committed records.
	CommittedInput bool

	Static bool // the driver knows static membership

	Brokers []string
	Compact func() // compacts the logs now; nil: the broker does so by itself, soon

	// Broker is nil for a broker that cannot be killed, and has no files.
	Broker interface {
		Log(topic string, partition int) string
		Kill()
		Restart()
		Freeze()
		Thaw()
	}
}

// Run runs the suite. Its tests share the broker, not topics or groups.
func (s Suite) Run(t *testing.T) {
	t.Run("together", func(t *testing.T) {
		for name, test := range s.tests() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, newHarness(t, s))
			})
		}
	})
	if s.Broker != nil {
		t.Run("Throttled", func(t *testing.T) { throttled(t, newHarness(t, s)) })
		t.Run("Killed", func(t *testing.T) { killed(t, newHarness(t, s)) })
		t.Run("Frozen", func(t *testing.T) { frozen(t, newHarness(t, s)) })
	}
}

// tests returns the tests that may run at the same time.
func (s Suite) tests() map[string]func(*testing.T, *harness) {
	tests := map[string]func(*testing.T, *harness){
		"Order":           order,
		"Fidelity":        fidelity,
		"CommitAfterAck":  commitAfterAck,
		"Delivered":       delivered,
		"StopAndRestart":  stopAndRestart,
		"DropAndRestart":  dropAndRestart,
		"Rebalance":       rebalance,
		"SlowDrain":       slowDrain,
		"StuckDrain":      stuckDrain,
		"WindowRecords":   windowRecords,
		"WindowBytes":     windowBytes,
		"TotalBytes":      totalBytes,
		"SlowHandler":     slowHandler,
		"HandlerError":    handlerError,
		"StuckPartition":  stuckPartition,
		"ErrorAtStop":     errorAtStop,
		"TooLarge":        tooLarge,
		"BatchTooLarge":   batchTooLarge,
		"RefusedForGood":  refusedForGood,
		"UnreadBatch":     unreadBatch,
		"LargeBatches":    largeBatches,
		"Transactions":    transactions,
		"Compaction":      compaction,
		"PartitionGrowth": partitionGrowth,
		"SeveralTopics":   severalTopics,
		"Standby":         standby,
		"SlowMember":      slowMember,
		"Latency":         latency,
		"SilentAddress":   silentAddress,
		"SessionRefused":  sessionRefused,
	}
	maps.Copy(tests, positionTests)
	if s.CommittedInput {
		tests["Aborted"], tests["HeldBack"] = aborted, heldBack
	} else {
		tests["ReadsAborted"] = readsAborted
	}
	if s.Static {
		tests["Static"], tests["FencedInstance"] = static, fencedInstance
	}
	if s.CheckTopics != nil {
		tests["MissingTopics"], tests["CreateTopics"] = missingTopics, createTopics
	}
	if s.Broker != nil {
		tests["Corrupt"] = corrupt
		tests["CompactedOutput"], tests["CompactedReplacement"] = compactedOutput, compactedReplacement
	}
	return tests
}

// Benchmark passes records of 10 kB through the driver, with a handler that costs nothing. It is an
// upper bound for any other handler.
func (s Suite) Benchmark(b *testing.B) {
	const partitions = 4
	n := newHarness(b, s)
	n.topic(n.input, partitions)
	n.topic(n.output, partitions)
	each := (b.N + partitions - 1) / partitions
	value := noise(10_000)
	for from := 0; from < each; from += 1000 {
		var rs []*kgo.Record
		for range min(1000, each-from) {
			for p := range int32(partitions) {
				rs = append(rs, &kgo.Record{Topic: n.input, Partition: p, Value: value})
			}
		}
		n.send(rs...)
	}
	cfg := n.config()
	cfg.Window.Records = 64
	cfg.TotalBytes = 1 << 30
	cfg.Log = slog.New(slog.DiscardHandler)
	b.SetBytes(int64(len(value)))
	begin := make(chan struct{})
	d := n.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Offset > 0 {
			<-begin
		}
		return n.echo(ctx, r)
	})
	n.until("the first commit", func() bool { // joining a group is not what is measured
		return d.check(func(r *recorder) bool { return len(r.committed) == partitions && r.published >= partitions })
	})
	b.ResetTimer()
	before := processorTime()
	close(begin)
	n.until("the last commit", func() bool {
		return d.check(func(r *recorder) bool {
			done := 0
			for _, next := range r.committed {
				if next >= int64(each) {
					done++
				}
			}
			return done == partitions
		})
	})
	b.StopTimer()
	records := float64(each * partitions)
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric((processorTime()-before).Seconds()*1e6/records, "cpu-µs/record")
	d.stop()
}

// processorTime returns the processor time of this process. It depends less on other processes
// than the time that passes.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkLatency sends one record at a time, each when the answer to the last one has come,
// through a handler that costs nothing.
func (s Suite) BenchmarkLatency(b *testing.B) {
	n := newHarness(b, s)
	n.topic(n.input, 1)
	n.topic(n.output, 1)
	cfg := n.config()
	cfg.Log = slog.New(slog.DiscardHandler)
	d := n.start(cfg, n.echo)
	c := n.newReader(n.output)
	value := noise(10_000)
	roundTrip := func() time.Duration {
		begin := time.Now()
		n.send(&kgo.Record{Topic: n.input, Value: value})
		for received := 0; received == 0; {
			received = len(c.PollFetches(n.context()).Records())
		}
		return time.Since(begin)
	}
	for range 20 { // joining a group is not what is measured
		roundTrip()
	}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range took {
		took[i] = roundTrip()
	}
	b.StopTimer()
	slices.Sort(took)
	for name, share := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99} {
		b.ReportMetric(took[int(share*float64(len(took)-1))].Seconds()*1000, name)
	}
	d.stop()
}
