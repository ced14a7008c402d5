package streamtest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A lockedBuffer holds a log, and can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A member that blocks a rebalance holds back the driver that joins. The log names that member, and
// says when the driver has recovered.
func slowMember(t *testing.T, b *harness) {
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	b.fill(2, 0, 1)
	slow := b.newClient(kgo.ClientID("slow-one"), kgo.ConsumerGroup(b.group), kgo.ConsumeTopics(b.input), kgo.BlockRebalanceOnPoll(),
		kgo.Balancers(kgo.RangeBalancer(), kgo.RoundRobinBalancer()), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	b.until("a record of the slow member", func() bool {
		ctx, cancel := context.WithTimeout(b.context(), time.Second)
		defer cancel()
		return slow.PollFetches(ctx).NumRecords() > 0
	})
	cfg, log := b.config(), &lockedBuffer{}
	cfg.Log = slog.New(slog.NewTextHandler(io.MultiWriter(logWriter{b}, log), nil))
	d := b.start(cfg, b.echo)
	b.until("the slow member in the log", func() bool {
		return strings.Contains(log.String(), "is rebalancing, and waits") && strings.Contains(log.String(), "slow-one (")
	})
	slow.AllowRebalance()
	slow.Close()
	b.until("the partitions", func() bool { return d.check(func(r *recorder) bool { return len(r.assigned) == 2 }) })
	b.until("the recovery in the log", func() bool { return strings.Contains(log.String(), `msg=recovered operation="join group`) })
	d.stop()
}
