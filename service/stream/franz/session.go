package franz

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/outage"
	"inceptor/service/stream/internal/wire"
)

const (
	// fetchBytes bounds what one fetch brings of a partition. A broker sends a
	// larger batch all the same, whole. A poll takes all of it.
	fetchBytes = 512 << 10

	leastPartitionBytes = 64 << 10 // however small a partition's share of the memory is

	// leastFetchBytes and mostFetchBytes bound what one fetch brings of all
	// partitions of a broker.
	leastFetchBytes = 1 << 20
	mostFetchBytes  = 50 << 20

	// fetchWait is how long a broker keeps a fetch waiting for records. It
	// answers as soon as there is one. But a partition that was paused is only
	// fetched after the fetch of the others has its answer, and these may be idle.
	fetchWait = 50 * time.Millisecond
)

var (
	errTooLate = errors.New("the last transaction could not be ended in time")
	errEnded   = errors.New("the session has ended")
)

// A session is one client, from joining the group to the first uncertain event.
// Its loop works on one generation after the other. What runs beside the loop
// has types of its own: a membership and beginnings for the client's callbacks,
// a reader for polls, and three watches.
type session struct {
	// Set once.
	*sessionContext
	operation string
	client    *kgo.Client
	delivery  delivery
	group     *membership

	// Of the loop.
	current *generation // that is worked on
	joined  bool        // a generation was given
}

// A sessionContext is what the parts of a session have in common. Its fields are set once, or
// safe for concurrent use.
type sessionContext struct {
	cfg            stream.Config
	sessionTimeout time.Duration
	outages        *outage.Log
	conns          *wire.Connections // of this session
	polls          pollLock
	inputs         inputTopics
	positions      *positions              // of the driver
	byName         *atomic.Bool            // of the driver: brokers do not check topic ids in fetches
	endSession     context.CancelCauseFunc // with the reason

	latest     atomic.Pointer[generation] // that the group has given us
	brokerLost atomic.Bool                // a broker could not be reached since the last check for a hanging transaction
	wake       chan struct{}              // signalled when the loop may have something to do
	resume     chan struct{}              // signalled when the reader may have something to poll
}

func (d *Driver) newSessionContext(end context.CancelCauseFunc) *sessionContext {
	return &sessionContext{
		cfg: d.cfg, sessionTimeout: d.sessionTimeout, outages: d.outages, conns: d.conns.Again(),
		positions: &d.positions, byName: &d.byName, endSession: end,
		wake: make(chan struct{}, 1), resume: make(chan struct{}, 1),
	}
}

// runSession works until ctx ends or something is uncertain. It returns whether
// the group has given it a generation.
func (d *Driver) runSession(ctx context.Context, operation, id string) (joined bool, err error) {
	life, end := context.WithCancelCause(context.Background())
	defer end(nil)
	common := d.newSessionContext(end)
	unpack := inflate.New(d.cfg.BatchBytes)
	s := &session{
		sessionContext: common, operation: operation,
		group: &membership{sessionContext: common, exactlyOnce: d.limits != nil, worker: d.worker, budget: d.budget},
	}
	s.client, s.delivery, err = d.open(common, s.group, unpack, id)
	if err != nil {
		return false, &foreverError{err} // an option is wrong
	}
	var others sync.WaitGroup
	for _, run := range []func(context.Context){
		(&reader{sessionContext: common, client: s.client, inflate: unpack}).run,
		(&lagWatch{sessionContext: common, client: s.client}).run,
		(&inputWatch{sessionContext: common, client: s.client, stallTimeout: d.stallTimeout, stalls: d.stalls}).run,
		(&joinWatch{sessionContext: common, client: s.client}).run,
	} {
		others.Go(func() { run(life) })
	}
	err = s.run(ctx, life)
	if cause := context.Cause(life); cause != nil {
		err = cause // the reason, and not that a wait was broken off for it
	}
	end(errEnded)
	others.Wait()
	s.close()
	return s.joined, err
}

// open makes the client and the delivery of a session. Callbacks may come before
// it returns.
func (d *Driver) open(common *sessionContext, group *membership, unpack kgo.Decompressor, id string) (*kgo.Client, delivery, error) {
	begin := &beginnings{sessionContext: common, exactlyOnce: d.limits != nil}
	opts := append(connection(common.cfg, common.conns),
		kgo.WithLogger(logger{common.cfg.Log}),
		kgo.WithHooks(append([]kgo.Hook{group, connectHook{common}}, d.hooks...)...),

		kgo.ConsumerGroup(common.cfg.Group),
		kgo.ConsumeTopics(common.cfg.Inputs...),
		kgo.Balancers(balancers()...),
		kgo.SessionTimeout(common.sessionTimeout),
		kgo.HeartbeatInterval(wire.Heartbeat(common.sessionTimeout)),
		kgo.RebalanceTimeout(common.cfg.DrainTimeout+rebalanceMargin),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsCallbackBlocked(group.onBlocked),
		kgo.OnPartitionsAssigned(group.onAssigned),
		kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) {}),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) {}), // OnGroupManageError has the reason
		kgo.OnOffsetsFetched(begin.onFetched),
		kgo.AdjustFetchOffsetsFn(begin.onOffsets),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the position moves past them too
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxPartitionBytes(fetchBytes),
		kgo.WithDecompressor(unpack),
		kgo.KeepRetryableFetchErrors(), // without it a partition stands still and nobody hears of it
	)
	if common.cfg.Instance != "" {
		opts = append(opts, kgo.InstanceID(common.cfg.Instance))
	}
	if common.cfg.Rack != "" {
		opts = append(opts, kgo.Rack(common.cfg.Rack))
	}
	if d.limits == nil {
		client, err := kgo.NewClient(append(opts, kgo.DisableAutoCommit())...)
		return client, newAtLeastOnce(common, client), err
	}
	t, err := newTransactor(common, id, d.limits.Timeout, opts)
	if err != nil {
		return nil, nil, err
	}
	return t.client, &exactlyOnce{sessionContext: common, limits: *d.limits, transactor: t}, nil
}

// close leaves the group, if the broker can be reached.
func (s *session) close() {
	s.endUnclaimed()
	if s.current != nil {
		s.retire()
	}
	s.client.AllowRebalance()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, s.conns.Shut)()
	_ = s.client.LeaveGroupContext(ctx) // if it fails, the group notices after the session timeout
	s.client.Close()
	s.client.AllowRebalance() // otherwise a leave that has failed would wait for ever
	s.endUnclaimed()          // the group may have given us one until the client was closed
}

// endUnclaimed ends the latest generation if nobody has begun to work on it.
func (s *session) endUnclaimed() {
	if g := s.latest.Load(); g != nil && g.claim() {
		g.end()
	}
}

// run works on one generation after the other until stop or life ends. After the
// end of stop it takes no longer than draining may.
func (s *session) run(stop, life context.Context) error {
	work, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	defer context.AfterFunc(stop, func() {
		if retry.Sleep(work, s.cfg.DrainTimeout+commitTimeout) {
			cancel(errTooLate)
			s.conns.Shut() // otherwise the last request would still wait for its answer
		}
	})()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		switch g := s.latest.Load(); {
		case life.Err() != nil:
			return context.Cause(life)
		case stop.Err() != nil:
			return s.drain(work)
		case g != nil && g != s.current && !g.drains():
			if err := s.begin(work, g); err != nil {
				return err
			}
			continue
		case s.group.blocked.Swap(false):
			if err := s.drain(work); err != nil {
				return err
			}
			s.polls.exclusive(s.client.AllowRebalance)
			s.group.allowed.Add(1)
			continue
		case s.current != nil:
			wait, err := s.delivery.step(work)
			if err != nil {
				return err
			}
			due.Reset(wait)
		}
		select {
		case <-s.wake:
		case <-due.C:
		case <-stop.Done():
		case <-life.Done():
		}
	}
}

// begin begins to work on a generation that the group has given us.
func (s *session) begin(work context.Context, g *generation) error {
	if !g.claim() {
		return nil // there is a later one
	}
	if s.current != nil {
		s.retire()
	}
	if err := s.delivery.begin(work, g); err != nil {
		g.end()
		return err
	}
	s.current = g
	ids := slices.SortedFunc(maps.Keys(g.partitions), stream.ComparePartitions)
	_, number := s.client.GroupMetadata()
	s.cfg.Log.Info("assigned", "group", s.cfg.Group, "generation", number, "partitions", ids)
	s.joined = true
	s.outages.Recovered(s.operation)
	s.cfg.Observer.Assigned(ids)
	return nil
}

// retire gives up what is left of the current generation.
func (s *session) retire() {
	left := s.delivery.abandon() + s.current.end()
	if left > 0 {
		s.cfg.Log.Warn("generation ended with uncommitted records; they will be read again", "records", left)
	}
	s.cfg.Observer.Revoked()
	s.current = nil
}

// drain finishes and commits what is in flight, within the time allowed.
func (s *session) drain(work context.Context) error {
	g := s.current
	if g == nil || g.drains() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(work, s.cfg.DrainTimeout+commitTimeout, errTooLate)
	defer cancel()
	defer context.AfterFunc(ctx, s.conns.Shut)() // otherwise the last request would still wait for its answer
	g.drain()
	s.polls.exclusive(func() {}) // a poll that begins later brings nothing of ours
	late := time.NewTimer(s.cfg.DrainTimeout)
	defer late.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for waiting := true; waiting; {
		wait, err := s.delivery.step(ctx)
		if err != nil {
			return err
		}
		if s.delivery.drained() {
			break
		}
		due.Reset(wait)
		select {
		case <-s.wake:
		case <-due.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			g.endWork()
			waiting = false
		}
	}
	if err := s.delivery.finish(ctx); err != nil {
		return err
	}
	s.retire()
	return nil
}
