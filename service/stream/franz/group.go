package franz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// refusedFor is how long a session goes on while no broker listens.
const refusedFor = 30 * time.Second

var errSilent = errors.New("heartbeats have ended while a transaction waits for one")

// A membership handles the client's callbacks about the group.
type membership struct {
	// Set once.
	*sessionContext
	exactlyOnce bool
	worker      *flight.Worker
	budget      *flight.Budget

	blocked    atomic.Bool  // a rebalance waits for us
	allowed    atomic.Int64 // rebalances that have waited for us, so far
	heartbeats atomic.Int64 // that were answered, so far
}

var (
	_ kgo.HookGroupManageError = (*membership)(nil)
	_ kgo.HookBrokerE2E        = (*membership)(nil)
)

// onAssigned begins a generation. Callbacks use the client that they are given:
// the first may come before kgo.NewClient returns.
func (m *membership) onAssigned(_ context.Context, client *kgo.Client, assigned map[string][]int32) {
	pause := func(id stream.Partition) { client.PauseFetchPartitions(map[string][]int32{id.Topic: {int32(id.ID)}}) }
	resume := func(id stream.Partition) { client.ResumeFetchPartitions(map[string][]int32{id.Topic: {int32(id.ID)}}) }
	var ids []stream.Partition
	for topic, numbers := range assigned {
		for _, n := range numbers {
			ids = append(ids, stream.Partition{Topic: topic, ID: int(n)})
		}
	}
	client.ResumeFetchPartitions(assigned) // an earlier generation may have paused them
	m.limitFetches(client, len(ids))
	g := newGeneration(ids, m.cfg, m.worker, m.budget, func() { signal(m.wake) }, pause, resume)
	if before := m.latest.Swap(g); before != nil && before.claim() {
		before.end()
	}
	signal(m.wake)
	signal(m.resume)
}

// limitFetches bounds what the client fetches ahead of its being polled, and so
// charged: an eighth of the memory there is for all, from all brokers together.
func (m *membership) limitFetches(client *kgo.Client, partitions int) {
	most := int64(mostFetchBytes)
	if total := m.cfg.TotalBytes; total > 0 {
		brokers := max(1, len(client.DiscoveredBrokers()))
		most = max(leastFetchBytes, min(most, total/8/int64(brokers)))
	}
	client.UpdateFetchMaxBytes(int32(most), partitionBytes(m.cfg, partitions))
}

// partitionBytes bounds what one fetch brings of a partition. The records, and
// what they take besides, fit into the partition's own share of the memory.
func partitionBytes(cfg stream.Config, partitions int) int32 {
	if cfg.TotalBytes == 0 {
		return fetchBytes
	}
	share := cfg.TotalBytes / 2 / int64(max(1, partitions))
	return int32(max(leastPartitionBytes, min(fetchBytes, share/2)))
}

// onBlocked is called when a rebalance waits for us. It is also called when the
// group has gone on without us, which franz-go reports only after
// AllowRebalance.
func (m *membership) onBlocked(ctx context.Context, client *kgo.Client) {
	if err := m.stillMember(ctx, client); err != nil {
		m.endSession(fmt.Errorf("group %s: %w", m.cfg.Group, err))
		return
	}
	allowed := m.allowed.Load()
	m.blocked.Store(true)
	signal(m.wake)
	m.watchHeartbeats(ctx, allowed)
}

// watchHeartbeats ends the session if franz-go sends no heartbeats while a
// rebalance waits for us. franz-go stops sending them after one has failed, as
// when a broker was frozen, though the broker may still know us. The end of a
// transaction waits for a heartbeat, and franz-go begins again only after that
// end: both would wait for ever.
func (m *membership) watchHeartbeats(ctx context.Context, allowed int64) {
	for before := m.heartbeats.Load(); retry.Sleep(ctx, m.sessionTimeout/2) && m.allowed.Load() == allowed; {
		now := m.heartbeats.Load()
		if now == before {
			m.endSession(fmt.Errorf("group %s: %w", m.cfg.Group, errSilent))
			return
		}
		before = now
	}
}

// stillMember returns an error if the group has gone on without us, or if that
// cannot be known. While no broker listens, as when the only one restarts, the
// group cannot go on: at least once asks again, which saves the last commit.
// Exactly once does not ask again: a transaction cannot end after franz-go's own
// heartbeat has failed.
func (m *membership) stillMember(ctx context.Context, client *kgo.Client) error {
	for begin := time.Now(); ; {
		err := m.heartbeat(ctx, client)
		if m.exactlyOnce || !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begin) > refusedFor || !retry.Sleep(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

func (m *membership) heartbeat(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, m.sessionTimeout)
	defer cancel()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = m.cfg.Group
	req.MemberID, req.Generation = client.GroupMetadata()
	if m.cfg.Instance != "" {
		req.InstanceID = &m.cfg.Instance
	}
	res, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if errors.Is(err, kerr.RebalanceInProgress) {
		return nil
	}
	return err
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (m *membership) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == kmsg.Heartbeat.Int16() && e.Err() == nil {
		m.heartbeats.Add(1)
	}
}

// OnGroupManageError implements kgo.HookGroupManageError.
func (m *membership) OnGroupManageError(err error) {
	m.endSession(m.conns.Explain(fmt.Errorf("join group %s for %s: %w", m.cfg.Group, strings.Join(m.cfg.Inputs, ", "), err)))
}
