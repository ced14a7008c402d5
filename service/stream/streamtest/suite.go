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

// A Driver is what is tested.
type Driver interface {
	Run(ctx context.Context) error
}

// A Suite says what to test, and where.
type Suite struct {
	New func(stream.Config, stream.Handler) (Driver, error)
	// CheckTopics is nil for a driver that leaves this to another one.
	CheckTopics func(ctx context.Context, cfg stream.Config, create bool) ([]stream.Topic, error)
	Session     time.Duration // after which a driver without heartbeats is out of its group

	// ExactlyOnce tells that the driver gives no repeats, whatever happens, to
	// readers of committed records.
	ExactlyOnce bool
	// CommittedInput tells that it reads only committed records.
	CommittedInput bool

	Static bool // the driver knows static membership

	Brokers []string
	Compact func() // cleans the log now; nil: the broker does it by itself, soon

	// Broker is nil where a broker cannot be killed, and has no files.
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
		tests := map[string]func(*testing.T, *bench){
			"Order":           order,
			"Fidelity":        fidelity,
			"CommitAfterAck":  commitAfterAck,
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
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, newBench(t, s))
			})
		}
	})
	if s.Broker != nil {
		t.Run("Throttled", func(t *testing.T) { throttled(t, newBench(t, s)) })
		t.Run("Killed", func(t *testing.T) { killed(t, newBench(t, s)) })
		t.Run("Frozen", func(t *testing.T) { frozen(t, newBench(t, s)) })
	}
}

// Benchmark moves records of 10 kB through the driver and a handler that costs
// nothing: an upper bound for whatever else happens to a record.
func (s Suite) Benchmark(b *testing.B) {
	const partitions = 4
	n := newBench(b, s)
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
		return d.look(func(r *recorder) bool { return len(r.committed) == partitions && r.published >= partitions })
	})
	b.ResetTimer()
	before := processorTime()
	close(begin)
	n.until("the last commit", func() bool {
		return d.look(func(r *recorder) bool {
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

// processorTime is what this process has used. It depends less than the time on
// what else the machine does.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkLatency sends records one by one, each when the one before has come
// back, through a handler that costs nothing.
func (s Suite) BenchmarkLatency(b *testing.B) {
	n := newBench(b, s)
	n.topic(n.input, 1)
	n.topic(n.output, 1)
	cfg := n.config()
	cfg.Log = slog.New(slog.DiscardHandler)
	d := n.start(cfg, n.echo)
	c := n.newReader(n.output)
	value := noise(10_000)
	there := func() time.Duration {
		begin := time.Now()
		n.send(&kgo.Record{Topic: n.input, Value: value})
		for came := 0; came == 0; {
			came = len(c.PollFetches(n.context()).Records())
		}
		return time.Since(begin)
	}
	for range 20 { // joining a group is not what is measured
		there()
	}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range took {
		took[i] = there()
	}
	b.StopTimer()
	slices.Sort(took)
	for name, share := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99} {
		b.ReportMetric(took[int(share*float64(len(took)-1))].Seconds()*1000, name)
	}
	d.stop()
}
