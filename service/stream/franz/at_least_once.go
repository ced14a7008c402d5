package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// commitEvery is the least time between two commits of offsets. One commit writes
// down all partitions. So a busy session commits this often, and an idle one at
// once.
const commitEvery = 50 * time.Millisecond

// atLeastOnce delivers at least once: each partition publishes by itself, and the
// session's loop commits what the brokers have acknowledged.
type atLeastOnce struct {
	// Set once.
	*sessionContext
	client    *kgo.Client
	operation string // committing, for log and errors

	// Of the session's loop.
	generation *generation
	stop       context.CancelFunc // ends the publishers
	ended      chan struct{}      // closed when they have ended
	pause      retry.Backoff
	next       time.Time                 // of the next commit, at the earliest
	failing    map[stream.Partition]bool // the observer was told that commits fail

	mu  sync.Mutex
	due map[stream.Partition]covered // what is published and not committed; guarded by mu
}

func newAtLeastOnce(common *sessionContext, client *kgo.Client) *atLeastOnce {
	return &atLeastOnce{
		sessionContext: common, client: client, operation: "commit offsets of group " + common.cfg.Group,
		pause: retry.NewBackoff(100*time.Millisecond, 300*time.Millisecond),
	}
}

// begin starts to publish what is finished in each partition.
func (a *atLeastOnce) begin(_ context.Context, g *generation) error {
	compressor, err := kgo.DefaultCompressor(compression(a.cfg.Compression))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	a.generation, a.stop, a.ended, a.due = g, stop, make(chan struct{}), map[stream.Partition]covered{}
	a.failing = map[stream.Partition]bool{}
	topics := &outputTopics{client: a.client}
	var publishers sync.WaitGroup
	for id, from := range g.partitions {
		publisher := &flight.Publisher{Config: a.cfg, Outages: a.outages, Transport: newProducer(a.client, topics, compressor)}
		publishers.Go(func() {
			err := publisher.Drain(ctx, g.draining, id, from.flight, func(stretch flight.Stretch) {
				from.progress.collect(stretch.Next)
				a.published(id, stretch)
			})
			if err != nil && ctx.Err() == nil {
				a.endSession(err)
			}
		})
	}
	ended := a.ended
	go func() {
		defer signal(a.wake)
		defer close(ended)
		publishers.Wait()
	}()
	return nil
}

// published notes that a stretch is acknowledged.
func (a *atLeastOnce) published(id stream.Partition, stretch flight.Stretch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.positions.published(id, stretch.Next)
	a.due[id] = covered{next: stretch.Next, records: a.due[id].records + len(stretch.Slots)}
	signal(a.wake)
}

func (a *atLeastOnce) step(ctx context.Context) (time.Duration, error) {
	if len(a.uncommitted()) == 0 {
		return time.Hour, nil
	}
	if wait := time.Until(a.next); wait > 0 {
		return wait, nil
	}
	err := a.commit(ctx)
	if errors.Is(err, kerr.UnknownTopicID) {
		err = cmp.Or(a.checkTopics(ctx, a.client), err)
	}
	switch {
	case err == nil:
		a.pause.Reset()
		a.next = time.Now().Add(commitEvery)
	case permanent(err), outOfGeneration(err), errors.Is(err, errRecreated), ctx.Err() != nil:
		return 0, err
	default:
		a.outages.Failed(a.operation, err)
		a.next = time.Now().Add(a.pause.NextBackOff())
	}
	return time.Until(a.next), nil
}

func (a *atLeastOnce) drained() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// finish waits for what is being published, and commits it.
func (a *atLeastOnce) finish(ctx context.Context) error {
	select {
	case <-a.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		err := a.commit(ctx)
		if err == nil || permanent(err) || outOfGeneration(err) || errors.Is(err, kerr.UnknownTopicID) || !retry.Sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

func (a *atLeastOnce) abandon() (left int) {
	a.stop()
	<-a.ended
	for _, c := range a.uncommitted() {
		left += c.records
	}
	a.due = nil
	return left
}

func (a *atLeastOnce) uncommitted() map[stream.Partition]covered {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.due)
}

// commit commits what is published, within commitTimeout.
func (a *atLeastOnce) commit(ctx context.Context) error {
	due := a.uncommitted()
	if len(due) == 0 {
		return nil
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for id, c := range due {
		if offsets[id.Topic] == nil {
			offsets[id.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[id.Topic][int32(id.ID)] = kgo.EpochOffset{Epoch: -1, Offset: c.next}
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for _, t := range req.Topics {
			for i := range t.Partitions {
				r := &t.Partitions[i]
				of := a.generation.partitions[stream.Partition{Topic: t.Topic, ID: int(r.Partition)}]
				metadata := of.position(r.Offset).Metadata(a.inputs.cluster())
				r.Metadata = &metadata
			}
		}
		return nil
	})
	var err error
	a.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, res *kmsg.OffsetCommitResponse, failed error) {
		if failed != nil {
			err = fmt.Errorf("%s: %w", a.operation, because(ctx, failed))
			for id := range due {
				a.failed(id, err)
			}
			return
		}
		for _, t := range res.Topics {
			for _, r := range t.Partitions {
				id := stream.Partition{Topic: t.Topic, ID: int(r.Partition)}
				if code := kerr.ErrorForCode(r.ErrorCode); code != nil {
					err = fmt.Errorf("%s: %v: %w", a.operation, id, code)
					a.failed(id, fmt.Errorf("%s: %w", a.operation, code))
				} else {
					a.committed(id, due[id])
				}
			}
		}
	})
	if err == nil {
		a.outages.Recovered(a.operation)
	}
	return err
}

// failed tells that the group did not take the offset of a partition. If the group has gone on,
// that is no fault: the generation ends.
func (a *atLeastOnce) failed(id stream.Partition, err error) {
	if outOfGeneration(err) {
		return
	}
	a.failing[id] = true
	a.cfg.Observer.Retrying(id, stream.Committing, err)
}

// committed notes that everything that c covers of a partition is committed.
func (a *atLeastOnce) committed(id stream.Partition, c covered) {
	a.mu.Lock()
	now := a.due[id]
	if now.records -= c.records; now.next == c.next {
		delete(a.due, id)
	} else {
		a.due[id] = now
	}
	a.mu.Unlock()
	of := a.generation.partitions[id]
	if a.failing[id] {
		delete(a.failing, id)
		a.cfg.Observer.Retrying(id, stream.Committing, nil)
	}
	a.positions.set(id, of.position(c.next))
	of.progress.commit(c.next)
}

// outOfGeneration reports whether the group has gone on without this member.
func outOfGeneration(err error) bool {
	return errors.Is(err, kerr.IllegalGeneration) ||
		errors.Is(err, kerr.UnknownMemberID) ||
		errors.Is(err, kerr.FencedInstanceID)
}
