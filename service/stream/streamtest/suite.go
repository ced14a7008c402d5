package streamtest

import (
	"context"
	"testing"
	"time"

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
	CheckTopics func(ctx context.Context, cfg stream.Config, create bool, outputs ...string) ([]stream.Topic, error)
	Session     time.Duration // after which a driver without heartbeats is out of its group

	// ExactlyOnce tells that the driver gives no repeats, whatever happens, to
	// readers of committed records; and that it reads only those itself.
	ExactlyOnce bool

	Brokers []string
	Compact func() // cleans the log now; nil: the broker does it by itself, soon

	// Broker is nil where a broker cannot be killed.
	Broker interface {
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
			"WindowRecords":   windowRecords,
			"WindowBytes":     windowBytes,
			"SlowHandler":     slowHandler,
			"HandlerError":    handlerError,
			"ErrorAtStop":     errorAtStop,
			"TooLarge":        tooLarge,
			"BatchTooLarge":   batchTooLarge,
			"RefusedForGood":  refusedForGood,
			"Transactions":    transactions,
			"Compaction":      compaction,
			"OutOfRange":      outOfRange,
			"PartitionGrowth": partitionGrowth,
			"Standby":         standby,
			"Latency":         latency,
		}
		if s.ExactlyOnce {
			tests["Aborted"] = aborted
		}
		if s.CheckTopics != nil {
			tests["MissingTopics"], tests["CreateTopics"] = missingTopics, createTopics
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, newBench(t, s))
			})
		}
	})
	if s.Broker != nil {
		t.Run("Killed", func(t *testing.T) { killed(t, newBench(t, s)) })
		t.Run("Frozen", func(t *testing.T) { frozen(t, newBench(t, s)) })
	}
}
