package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// commitEvery is the least time between two commits of offsets. One commit
// writes down all partitions, so a busy session commits this often, and an idle
// one at once.
const commitEvery = 50 * time.Millisecond

// atLeastOnce delivers at least once: each partition publishes by itself, and the
// session's loop commits what the brokers have acknowledged.
type atLeastOnce struct {
	*session

	// Of the session's loop alone.
	stop  context.CancelFunc // ends the publishers
	ended chan struct{}      // closed when they have
	pause backoff.ExponentialBackOff
	next  time.Time // of the next commit, at the earliest

	mu  sync.Mutex
	due map[stream.Partition]share // what is published and not committed
}

func (p *atLeastOnce) open(opts []kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(opts, kgo.DisableAutoCommit())...)
}

// begin starts to publish what is finished in each partition.
func (p *atLeastOnce) begin(_ context.Context, g *generation) error {
	compressor, err := kgo.DefaultCompressor(compression(p.cfg.Compression))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.ended, p.due = stop, make(chan struct{}), map[stream.Partition]share{}
	topics := &outputTopics{client: p.client}
	var publishers sync.WaitGroup
	for id, from := range g.partitions {
		publisher := &stream.Publisher{Config: p.cfg, Trouble: p.trouble, Transport: newProducer(p.client, topics, compressor)}
		publishers.Go(func() {
			err := publisher.Drain(ctx, g.draining, id, from.flight, func(run stream.Run) {
				from.collect(run.Next)
				p.published(id, run)
			})
			if err != nil && ctx.Err() == nil {
				p.end(err)
			}
		})
	}
	go func() {
		defer signal(p.wake)
		defer close(p.ended)
		publishers.Wait()
	}()
	return nil
}

// published notes that a run is acknowledged.
func (p *atLeastOnce) published(id stream.Partition, run stream.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.positions.published(id, run.Next)
	p.due[id] = share{next: run.Next, records: p.due[id].records + len(run.Slots)}
	signal(p.wake)
}

func (p *atLeastOnce) step(ctx context.Context) (time.Duration, error) {
	if len(p.uncommitted()) == 0 {
		return time.Hour, nil
	}
	if wait := time.Until(p.next); wait > 0 {
		return wait, nil
	}
	err := p.commit(ctx)
	if errors.Is(err, kerr.UnknownTopicID) {
		err = cmp.Or(p.lookUpTopics(ctx), err)
	}
	switch {
	case err == nil:
		p.pause.Reset()
		p.next = time.Now().Add(commitEvery)
	case permanent(err), outOfGeneration(err), errors.Is(err, errRecreated), ctx.Err() != nil:
		return 0, err
	default:
		p.trouble.Failed(p.committing(), err)
		p.next = time.Now().Add(p.pause.NextBackOff())
	}
	return time.Until(p.next), nil
}

func (p *atLeastOnce) drained() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// finish waits for what is being published, and commits it.
func (p *atLeastOnce) finish(ctx context.Context) error {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		err := p.commit(ctx)
		if err == nil || permanent(err) || outOfGeneration(err) || errors.Is(err, kerr.UnknownTopicID) || !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

func (p *atLeastOnce) abandon() (left int) {
	p.stop()
	<-p.ended
	for _, s := range p.uncommitted() {
		left += s.records
	}
	p.due = nil
	return left
}

func (p *atLeastOnce) uncommitted() map[stream.Partition]share {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.due)
}

func (p *atLeastOnce) committing() string { return "commit offsets of group " + p.cfg.Group }

// commit commits what is published, by the time that a commit may take.
func (p *atLeastOnce) commit(ctx context.Context) error {
	todo := p.uncommitted()
	if len(todo) == 0 {
		return nil
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for id, s := range todo {
		if offsets[id.Topic] == nil {
			offsets[id.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[id.Topic][int32(id.ID)] = kgo.EpochOffset{Epoch: -1, Offset: s.next}
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for _, t := range req.Topics {
			for i := range t.Partitions {
				r := &t.Partitions[i]
				of := p.current.partitions[stream.Partition{Topic: t.Topic, ID: int(r.Partition)}]
				metadata := of.position(r.Offset).Metadata(p.cluster())
				r.Metadata = &metadata
			}
		}
		return nil
	})
	var err error
	p.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, res *kmsg.OffsetCommitResponse, failed error) {
		if err = failed; failed != nil {
			return
		}
		for _, t := range res.Topics {
			for _, r := range t.Partitions {
				id := stream.Partition{Topic: t.Topic, ID: int(r.Partition)}
				if code := kerr.ErrorForCode(r.ErrorCode); code != nil {
					err = fmt.Errorf("%v: %w", id, code)
					continue
				}
				p.committed(id, todo[id])
			}
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p.committing(), because(ctx, err))
	}
	p.trouble.Worked(p.committing())
	return nil
}

// committed notes that all of a partition before a share's end is committed.
func (p *atLeastOnce) committed(id stream.Partition, s share) {
	p.mu.Lock()
	now := p.due[id]
	if now.records -= s.records; now.next == s.next {
		delete(p.due, id)
	} else {
		p.due[id] = now
	}
	p.mu.Unlock()
	of := p.current.partitions[id]
	p.positions.set(id, of.position(s.next))
	of.commit(s.next)
}

// outOfGeneration tells whether the group has gone on without this member.
func outOfGeneration(err error) bool {
	return errors.Is(err, kerr.IllegalGeneration) ||
		errors.Is(err, kerr.UnknownMemberID) ||
		errors.Is(err, kerr.FencedInstanceID)
}
