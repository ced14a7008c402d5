package franz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/resume"
)

// A reader polls the client and hands the records to their partitions. Only its
// own goroutine uses it.
type reader struct {
	*sessionContext
	client  *kgo.Client
	inflate *inflate.Decompressor
}

// run polls until life ends.
func (r *reader) run(life context.Context) {
	for life.Err() == nil {
		before := r.latest.Load()
		var full []*partition
		if before != nil {
			full = before.awaitSpace(life)
		}
		drains := false
		r.polls.poll(life, func(ctx context.Context) {
			g := r.latest.Load()
			if g != nil && g.drains() {
				drains = true
				return
			}
			if g == before { // otherwise these partitions are not ours any more
				for _, p := range full {
					p.pauseIfFull()
				}
			}
			fetches := r.client.PollFetches(ctx)
			r.inflate.Reset() // what was fetched is taken
			// A rebalance waits for whoever has polled something. So the records
			// belong to the latest generation.
			if g := r.latest.Load(); g != nil {
				if err := r.take(g, fetches); err != nil {
					r.endSession(err)
				}
			}
		})
		if drains {
			select {
			case <-r.resume:
			case <-life.Done():
			}
		}
	}
}

// take hands what was polled to the partitions of a generation.
func (r *reader) take(g *generation, fetches kgo.Fetches) error {
	r.noteTopicIDs(fetches)
	var failed error
	var read []*partition
	deferred := false // a batch of others waits until there is memory to decompress it
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := g.partitions[stream.Partition{Topic: f.Topic, ID: int(f.Partition)}]
		deferred = deferred || errors.Is(f.Err, inflate.ErrLater)
		unread, err := r.takeError(p, f)
		if err != nil {
			failed = err
		}
		if p == nil {
			return
		}
		if err := r.takeRecords(p, f, unread); err != nil {
			failed = err
		}
		if f.Err == nil {
			read = append(read, p)
		}
	})
	if deferred {
		for _, p := range read {
			p.yield()
		}
	}
	return failed
}

// noteTopicIDs notes if brokers send records without the id of their topic.
func (r *reader) noteTopicIDs(fetches kgo.Fetches) {
	hasRecords := func(p kgo.FetchPartition) bool { return len(p.Records) > 0 }
	for _, f := range fetches {
		for _, t := range f.Topics {
			if t.TopicID == (kadm.TopicID{}) && slices.ContainsFunc(t.Partitions, hasRecords) {
				r.byName.Store(true)
			}
		}
	}
}

// takeError handles the error of one partition's fetch. It returns the batch that
// cannot be read, if that is the error, or an error that ends the session. p is
// nil if the partition is not of the generation.
func (r *reader) takeError(p *partition, f kgo.FetchTopicPartition) (unread *kgo.ErrDecompressTooLarge, failed error) {
	operation := "read from " + f.Topic
	var loss *kgo.ErrDataLoss
	var group *kgo.ErrGroupSession
	switch {
	case f.Err == nil, errors.Is(f.Err, inflate.ErrLater):
	case errors.Is(f.Err, context.Canceled), errors.Is(f.Err, context.DeadlineExceeded), errors.Is(f.Err, kgo.ErrClientClosed), errors.As(f.Err, &group):
	case errors.As(f.Err, &loss):
		r.cfg.Log.Warn("data loss: log truncated", "topic", f.Topic, "partition", f.Partition, "err", f.Err)
	case p == nil && errors.Is(f.Err, kerr.UnknownTopicOrPartition): // a topic that does not exist
		r.outages.Failed(operation, f.Err)
	case p == nil, endsSession(f.Err, p.failingSince()):
		return nil, fmt.Errorf("%s partition %d: %w", operation, f.Partition, f.Err)
	case errors.As(f.Err, &unread):
		return unread, nil
	default:
		r.outages.Failed(operation, f.Err, "partition", f.Partition)
		p.fail(fmt.Errorf("%s: %w", operation, f.Err), kerr.IsRetriable(f.Err))
	}
	return nil, nil
}

// takeRecords hands one partition's records to it, and then the batch that cannot
// be read, if there is one.
func (r *reader) takeRecords(p *partition, f kgo.FetchTopicPartition, unread *kgo.ErrDecompressTooLarge) (failed error) {
	if reset, ok := p.overtaken(f.FetchPartition); ok {
		if err := resume.Report(r.cfg, reset); err != nil {
			return err
		}
	}
	if err := p.push(f.FetchPartition); err != nil {
		failed = err
	}
	if f.Err == nil {
		p.progress.watermark(f.HighWatermark)
	}
	if unread != nil {
		if err := r.skip(p, unread); err != nil {
			failed = err
		}
	}
	if (len(f.Records) > 0 || unread != nil) && p.recovered(true) {
		r.outages.Recovered("read from " + f.Topic)
	}
	return failed
}

// skip moves the client past a batch that cannot be read. The client cannot move
// in a partition without a known offset, of which nothing was read. Then the
// session ends, and the next one looks the offset up.
func (r *reader) skip(p *partition, e *kgo.ErrDecompressTooLarge) error {
	// The offsets that the client knows at all, committed or not.
	if _, known := r.client.CommittedOffsets()[p.id.Topic][int32(p.id.ID)]; !known {
		return fmt.Errorf("skip offsets %d to %d of %v: the client knows no offset of the partition yet", e.Offset, e.NextOffset-1, p.id)
	}
	err := p.skip(stream.Batch{Topic: p.id.Topic, Partition: p.id.ID, First: e.Offset, Last: e.NextOffset - 1})
	r.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{p.id.Topic: {int32(p.id.ID): {Epoch: e.Epoch, Offset: e.NextOffset}}})
	return err
}
