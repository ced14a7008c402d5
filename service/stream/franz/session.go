package franz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

const (
	// fetchBytes bounds what one fetch brings of a partition; a broker sends
	// one larger batch nevertheless, whole. A poll takes all of it.
	fetchBytes = 512 << 10

	leastPartitionBytes = 64 << 10 // however small a partition's share of the memory is

	// leastFetchBytes and mostFetchBytes bound what one fetch brings of all
	// partitions of a broker.
	leastFetchBytes = 1 << 20
	mostFetchBytes  = 50 << 20

	// fetchWait is how long a broker keeps a fetch waiting for records. It
	// answers as soon as there is one; but a partition that was paused is not
	// fetched before the others, which may be idle, have their answer.
	fetchWait = 50 * time.Millisecond

	// startTimeout bounds how long all partitions of a generation wait for the
	// look-up of where some of them begin.
	startTimeout = 2 * time.Second
)

var errTooLate = errors.New("the last transaction could not be ended in time")

// A session is one client, from its joining the group to the first thing that
// is not certain.
type session struct {
	*Driver
	operation string
	client    *kgo.Client
	delivery  delivery
	turn      turn
	inflate   *inflate.Decompressor
	fetcher   *kgo.Client                        // client, for callbacks that may come before it is there; of the group's goroutine only
	fetched   map[stream.Partition]fetchedOffset // of the same goroutine
	idsMu     sync.Mutex
	ids       map[string]stream.TopicID // of the input topics, as the client knows them; guarded by idsMu
	clusterID string                    // of the Kafka cluster; guarded by idsMu
	conns     *stream.Connections
	shaken    atomic.Bool // a broker could not be reached since the last look for an orphan
	end       context.CancelCauseFunc

	wake    chan struct{}              // there may be something to do
	resume  chan struct{}              // there may be something to poll
	latest  atomic.Pointer[generation] // that the group has given us
	blocked atomic.Bool                // a rebalance waits for us
	allowed atomic.Int64               // rebalances that waited for us and were let go on
	beats   atomic.Int64               // heartbeats that were answered
	current *generation                // that is worked on
	worked  bool                       // a generation was given
}

// runSession works until ctx ends, or for as long as all is well. It tells
// whether it had come as far as a generation.
func (d *Driver) runSession(ctx context.Context, operation string) (worked bool, err error) {
	life, end := context.WithCancelCause(context.Background())
	defer end(nil)
	s := &session{
		Driver: d, operation: operation, end: end, wake: make(chan struct{}, 1), resume: make(chan struct{}, 1),
		inflate: inflate.New(d.cfg.BatchBytes), ids: map[string]stream.TopicID{}, conns: d.conns.Again(),
	}
	s.delivery = d.delivery(s)
	if err := s.open(); err != nil {
		return false, &foreverError{err} // an option is wrong
	}
	var polls sync.WaitGroup
	polls.Go(func() { s.poll(life) })
	polls.Go(func() { s.watchLag(life) })
	polls.Go(func() { s.watchHolds(life) })
	polls.Go(func() { s.watchJoin(life) })
	err = s.run(ctx, life)
	if cause := context.Cause(life); cause != nil {
		err = cause // what ended the others' waiting, and not that they were ended
	}
	end(errors.New("the session has ended"))
	polls.Wait()
	s.close()
	return s.worked, err
}

func (s *session) open() (err error) {
	opts := append(connection(s.cfg, s.conns),
		kgo.WithLogger(logger{s.cfg.Log}),
		kgo.WithHooks(append([]kgo.Hook{s}, s.hooks...)...),

		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(s.cfg.Inputs...),
		kgo.Balancers(balancers()...),
		kgo.SessionTimeout(s.session),
		kgo.HeartbeatInterval(stream.Heartbeat(s.session)),
		kgo.RebalanceTimeout(s.cfg.DrainTimeout+rebalanceMargin),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsCallbackBlocked(s.onBlocked),
		kgo.OnPartitionsAssigned(s.onAssigned),
		kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) {}),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) {}), // OnGroupManageError is told why
		kgo.OnOffsetsFetched(s.onFetched),
		kgo.AdjustFetchOffsetsFn(s.onOffsets),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // their offsets are passed too
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxPartitionBytes(fetchBytes),
		kgo.WithDecompressor(s.inflate),
		kgo.KeepRetryableFetchErrors(), // or a partition would stand still without a word
	)
	if s.cfg.Instance != "" {
		opts = append(opts, kgo.InstanceID(s.cfg.Instance))
	}
	if s.cfg.Rack != "" {
		opts = append(opts, kgo.Rack(s.cfg.Rack))
	}
	s.client, err = s.delivery.open(opts)
	return err
}

// close leaves the group, if the broker can be told.
func (s *session) close() {
	s.endUntaken()
	if s.current != nil {
		s.retire()
	}
	s.client.AllowRebalance()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, s.conns.Shut)()
	_ = s.client.LeaveGroupContext(ctx) // then the group finds out
	s.client.Close()
	s.client.AllowRebalance() // or what leaves the group in vain would wait for ever
	s.endUntaken()            // the group may have given us one until the client was closed
}

// endUntaken ends the latest generation if nobody has begun to work on it.
func (s *session) endUntaken() {
	if g := s.latest.Load(); g != nil && g.taken.CompareAndSwap(false, true) {
		g.end()
	}
}

// run works on one generation after the other until stop ends, or life. What
// it is about to do when stop ends must not take longer than draining may.
func (s *session) run(stop, life context.Context) error {
	work, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	defer context.AfterFunc(stop, func() {
		if sleep(work, s.cfg.DrainTimeout+commitTimeout) {
			cancel(errTooLate)
			s.conns.Shut() // or the last request would still wait for its answer
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
			if err := s.adopt(work, g); err != nil {
				return err
			}
			continue
		case s.blocked.Swap(false):
			if err := s.drain(work); err != nil {
				return err
			}
			s.turn.alone(s.client.AllowRebalance)
			s.allowed.Add(1)
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

// adopt begins to work on what the group has given us.
func (s *session) adopt(life context.Context, g *generation) error {
	if !g.taken.CompareAndSwap(false, true) {
		return nil // there is a later one
	}
	if s.current != nil {
		s.retire()
	}
	if err := s.delivery.begin(life, g); err != nil {
		g.end()
		return err
	}
	s.current = g
	ids := slices.SortedFunc(maps.Keys(g.partitions), stream.ComparePartitions)
	_, number := s.client.GroupMetadata()
	s.cfg.Log.Info("assigned", "group", s.cfg.Group, "generation", number, "partitions", ids)
	s.worked = true
	s.trouble.Worked(s.operation)
	s.cfg.Observer.Assigned(ids)
	return nil
}

// retire gives up what is left of the current generation.
func (s *session) retire() {
	left := s.delivery.abandon() + s.current.end()
	if left > 0 {
		s.cfg.Log.Warn("generation ended with records uncommitted, which come again", "records", left)
	}
	s.cfg.Observer.Revoked()
	s.current = nil
}

// drain finishes what is in flight, for not longer than allowed, and commits.
func (s *session) drain(life context.Context) error {
	g := s.current
	if g == nil || g.drains() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(life, s.cfg.DrainTimeout+commitTimeout, errTooLate)
	defer cancel()
	defer context.AfterFunc(ctx, s.conns.Shut)() // or the last request would still wait for its answer
	g.drain()
	s.turn.alone(func() {}) // what is polled now is not ours any more
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

// poll hands records to their partitions until life ends.
func (s *session) poll(life context.Context) {
	for life.Err() == nil {
		held := s.latest.Load()
		var late []*partition
		if held != nil {
			late = held.hold(life)
		}
		drained := false
		s.turn.poll(life, func(ctx context.Context) {
			g := s.latest.Load()
			if g != nil && g.drains() {
				drained = true
				return
			}
			if g == held { // else these are not ours any more
				for _, p := range late {
					p.halt()
				}
			}
			fetches := s.client.PollFetches(ctx)
			s.inflate.Reset() // what was fetched is taken
			// Who has polled something holds rebalances back: the latest
			// generation is the one that it belongs to.
			if g := s.latest.Load(); g != nil {
				if err := s.deliver(g, fetches); err != nil {
					s.end(err)
				}
			}
		})
		if drained {
			select {
			case <-s.resume:
			case <-life.Done():
			}
		}
	}
}

func (s *session) deliver(g *generation, fetches kgo.Fetches) error {
	for _, f := range fetches {
		for _, t := range f.Topics {
			records := func(p kgo.FetchPartition) bool { return len(p.Records) > 0 }
			if t.TopicID == (kadm.TopicID{}) && slices.ContainsFunc(t.Partitions, records) {
				s.byName.Store(true)
			}
		}
	}
	var failed error
	var read []*partition
	later := false // there was no room to decompress those of others
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		operation := "read from " + f.Topic
		p := g.partitions[stream.Partition{Topic: f.Topic, ID: int(f.Partition)}]
		var loss *kgo.ErrDataLoss
		var group *kgo.ErrGroupSession
		var unread *kgo.ErrDecompressTooLarge
		switch {
		case f.Err == nil:
		case errors.Is(f.Err, inflate.ErrLater):
			later = true
		case errors.Is(f.Err, context.Canceled), errors.Is(f.Err, context.DeadlineExceeded), errors.Is(f.Err, kgo.ErrClientClosed), errors.As(f.Err, &group):
		case errors.As(f.Err, &loss):
			s.cfg.Log.Warn("the log is shorter than it was", "topic", f.Topic, "partition", f.Partition, "err", f.Err)
		case p == nil && errors.Is(f.Err, kerr.UnknownTopicOrPartition): // a topic that does not exist
			s.trouble.Failed(operation, f.Err)
		case p == nil, endsSession(f.Err, p.failed()):
			failed = fmt.Errorf("%s partition %d: %w", operation, f.Partition, f.Err)
		case errors.As(f.Err, &unread):
		default:
			s.trouble.Failed(operation, f.Err, "partition", f.Partition)
			p.fail(fmt.Errorf("%s: %w", operation, f.Err), kerr.IsRetriable(f.Err))
		}
		if p == nil {
			return
		}
		if r, ok := p.overtaken(f.FetchPartition); ok {
			if err := s.cfg.Reset(r); err != nil {
				failed = err
				return
			}
		}
		if err := p.push(f.FetchPartition); err != nil {
			failed = err
		}
		if f.Err == nil {
			p.watermark(f.HighWatermark)
			read = append(read, p)
		}
		if unread != nil {
			if err := s.pass(p, unread); err != nil {
				failed = err
			}
		}
		if (len(f.Records) > 0 || unread != nil) && p.recover(true) {
			s.trouble.Worked(operation)
		}
	})
	if later {
		for _, p := range read {
			p.yield()
		}
	}
	return failed
}

// pass skips a batch that is not read, at which the client stands still. It cannot
// in a partition without a known offset, from which nothing has been read: then
// the session ends, and the next one looks the offset up.
func (s *session) pass(p *partition, e *kgo.ErrDecompressTooLarge) error {
	// Those that the client knows at all, committed or not.
	if _, known := s.client.CommittedOffsets()[p.id.Topic][int32(p.id.ID)]; !known {
		return fmt.Errorf("skip offsets %d to %d of %v: the client knows no offset of the partition yet", e.Offset, e.NextOffset-1, p.id)
	}
	err := p.pass(stream.Batch{Topic: p.id.Topic, Partition: p.id.ID, First: e.Offset, Last: e.NextOffset - 1})
	s.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{p.id.Topic: {int32(p.id.ID): {Epoch: e.Epoch, Offset: e.NextOffset}}})
	return err
}

// onAssigned begins a generation. Callbacks use the client that they are given:
// the first may come before there is s.client.
func (s *session) onAssigned(_ context.Context, client *kgo.Client, assigned map[string][]int32) {
	pause := func(id stream.Partition) { client.PauseFetchPartitions(map[string][]int32{id.Topic: {int32(id.ID)}}) }
	resume := func(id stream.Partition) { client.ResumeFetchPartitions(map[string][]int32{id.Topic: {int32(id.ID)}}) }
	var ids []stream.Partition
	for topic, numbers := range assigned {
		for _, n := range numbers {
			ids = append(ids, stream.Partition{Topic: topic, ID: int(n)})
		}
	}
	client.ResumeFetchPartitions(assigned) // of a generation before
	s.limitFetches(client, len(ids))
	g := newGeneration(ids, s.cfg, s.worker, s.budget, func() { signal(s.wake) }, pause, resume)
	if before := s.latest.Swap(g); before != nil && before.taken.CompareAndSwap(false, true) {
		before.end()
	}
	signal(s.wake)
	signal(s.resume)
}

// limitFetches bounds what the client fetches ahead of its being polled, and so
// charged: an eighth of the memory there is for all, from all brokers together.
func (s *session) limitFetches(client *kgo.Client, partitions int) {
	most := int64(mostFetchBytes)
	if total := s.cfg.TotalBytes; total > 0 {
		brokers := max(1, len(client.DiscoveredBrokers()))
		most = max(leastFetchBytes, min(most, total/8/int64(brokers)))
	}
	client.UpdateFetchMaxBytes(int32(most), partitionBytes(s.cfg, partitions))
}

// partitionBytes bounds what one fetch brings of a partition: it has room in the
// partition's own share of the memory, with what its records take besides.
func partitionBytes(cfg stream.Config, partitions int) int32 {
	if cfg.TotalBytes == 0 {
		return fetchBytes
	}
	share := cfg.TotalBytes / 2 / int64(max(1, partitions))
	return int32(max(leastPartitionBytes, min(fetchBytes, share/2)))
}

// uncommitted tells whether the group has committed nothing.
func uncommitted(o kgo.Offset) bool { return o.EpochOffset().Offset < 0 }

// OnGroupManageError implements kgo.HookGroupManageError.
func (s *session) OnGroupManageError(err error) {
	s.end(s.conns.Explain(fmt.Errorf("join group %s for %s: %w", s.cfg.Group, strings.Join(s.cfg.Inputs, ", "), err)))
}

var (
	_ kgo.HookGroupManageError = (*session)(nil)
	_ kgo.HookBrokerConnect    = (*session)(nil)
	_ kgo.HookBrokerE2E        = (*session)(nil)
)
