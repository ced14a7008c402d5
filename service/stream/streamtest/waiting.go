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

// A lockedBuffer is a log that is read while it is written.
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

// A member that does not let a rebalance go on holds who joins back. The log
// tells who is waited for, and that it goes on.
func slowMember(t *testing.T, b *bench) {
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
	b.until("who is waited for", func() bool {
		return strings.Contains(log.String(), "is rebalancing, and waits") && strings.Contains(log.String(), "slow-one (")
	})
	slow.AllowRebalance()
	slow.Close()
	b.until("the partitions", func() bool { return d.look(func(r *recorder) bool { return len(r.assigned) == 2 }) })
	b.until("that it goes on", func() bool { return strings.Contains(log.String(), `msg="works again" operation="join group`) })
	d.stop()
}
