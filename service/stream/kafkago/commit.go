package kafkago

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"

	"inceptor/service/stream"
)

const (
	// commitEvery is the least time between two commits. One commit writes
	// down all partitions, so a busy driver commits this often, and an idle
	// one at once.
	commitEvery = 50 * time.Millisecond

	// commitTimeout bounds a commit, and both the one under way and the last
	// one of a generation; but the last one has lastCommit at least.
	commitTimeout = 5 * time.Second
	lastCommit    = time.Second

	// lagEvery is how often the lag is looked up, for partitions whose
	// window is full: nothing is fetched then, and nothing told.
	lagEvery = 10 * time.Second
)

// commits writes down the progress of one generation. Partitions only leave
// a note; the latest one wins.
type commits struct {
	cfg     stream.Config
	cluster *cluster
	trouble *stream.Trouble
	gen     *kafka.Generation
	wake    chan struct{}

	mu    sync.Mutex
	notes map[stream.Partition]*note
}

type note struct {
	next      stream.Position // every record before it is published
	committed stream.Position // negative: must be committed anew
	stored    bool            // the group has an offset
	high      int64           // watermark
	told      int64           // lag that the observer knows
}

// nowhere is the position of a partition that has none.
var nowhere = stream.Position{Offset: -1}

func newCommits(cfg stream.Config, cluster *cluster, t *stream.Trouble, gen *kafka.Generation) *commits {
	return &commits{cfg: cfg, cluster: cluster, trouble: t, gen: gen, wake: make(chan struct{}, 1), notes: map[stream.Partition]*note{}}
}

// start notes where the reading of a partition begins, and whether the group
// has that offset.
func (c *commits) start(partition stream.Partition, at stream.Position, stored bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[partition] = &note{next: at, committed: at, stored: stored, told: -1}
}

// add notes that every record before next is published.
func (c *commits) add(partition stream.Partition, next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[partition].next.Offset = next
	c.hurry()
}

// rewind notes that reading goes on elsewhere. It is committed at once: the
// old offset may come to mean another record.
func (c *commits) rewind(partition stream.Partition, at stream.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[partition] = &note{next: at, committed: nowhere, told: -1}
	c.hurry()
}

// positions are those that the group has.
func (c *commits) positions() map[stream.Partition]stream.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[stream.Partition]stream.Position{}
	for id, n := range c.notes {
		if n.stored {
			all[id] = n.committed
		}
	}
	return all
}

func (c *commits) hurry() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watermark notes how long the log is, and tells the lag if nothing else will.
func (c *commits) watermark(partition stream.Partition, high int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.notes[partition]
	if n == nil || high < 0 {
		return
	}
	n.high = high
	if n.next == n.committed && n.lag() != n.told {
		c.tell(partition, n)
	}
}

func (n *note) lag() int64 { return max(0, n.high-n.committed.Offset) }

func (c *commits) tell(partition stream.Partition, n *note) {
	n.told = n.lag()
	c.cfg.Observer.Committed(partition, n.committed.Offset, n.told)
}

// run commits whenever there is something to commit, until ctx ends. Once
// draining is closed it commits every so often all the same: an ending generation
// sends no heartbeats, and to the broker a commit is as good as one.
func (c *commits) run(ctx context.Context, draining <-chan struct{}, keepAlive time.Duration) error {
	// Short pauses: a broker that is back forgets a silent member after the
	// session timeout, and with it the right to commit.
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 300 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5}
	var alive <-chan time.Time
	for {
		all := false
		select {
		case <-c.wake:
		case <-draining:
			draining = nil
			t := time.NewTicker(keepAlive)
			defer t.Stop()
			alive = t.C
			continue
		case <-alive:
			all = true
		case <-ctx.Done():
			return nil
		}
		wait := commitEvery
		// Not broken off when ctx ends: the broker might get to it after the
		// last commit of the generation, and take that back. It may still do so
		// with one that has taken commitTimeout.
		switch err := c.commit(context.WithoutCancel(ctx), all); {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause.Reset()
		case permanent(err):
			return err
		case outOfGeneration(err): // the heartbeat learns it too, and ends it
			c.trouble.Failed("commit offsets", err)
			return nil
		default:
			c.trouble.Failed("commit offsets", err)
			wait = pause.NextBackOff()
			c.hurry()
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// flush is the last commit of a generation, by the deadline.
func (c *commits) flush(deadline time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), max(lastCommit, time.Until(deadline)))
	defer cancel()
	for {
		err := c.commit(ctx, false)
		if err == nil || permanent(err) || outOfGeneration(err) || errors.Is(err, kafka.UnknownTopicID) || !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// commit writes down what has changed, or all that is known.
func (c *commits) commit(ctx context.Context, all bool) error {
	todo := map[stream.Partition]stream.Position{}
	c.mu.Lock()
	for id, n := range c.notes {
		if all || n.next != n.committed {
			todo[id] = n.next
		}
	}
	c.mu.Unlock()
	if len(todo) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	refused, err := c.cluster.commit(ctx, c.gen, todo)
	if err != nil {
		return c.wrap(err)
	}
	for id, position := range todo {
		if reason := refused[id]; reason != nil {
			err = c.wrap(reason)
			continue
		}
		c.mu.Lock()
		if n := c.notes[id]; n.next.Topic == position.Topic { // else it was rewound meanwhile
			n.committed, n.stored = position, true
			c.tell(id, n)
		}
		c.mu.Unlock()
	}
	if err == nil {
		c.trouble.Worked("commit offsets")
	}
	return err
}

func (c *commits) wrap(err error) error {
	return fmt.Errorf("commit offsets of group %s for %s: %w", c.cfg.Group, strings.Join(c.cfg.Inputs, ", "), err)
}

// watchLag looks the watermarks up, for partitions that are not fetched.
func (c *commits) watchLag(ctx context.Context) {
	for sleep(ctx, lagEvery) {
		ask := map[string][]kafka.OffsetRequest{}
		c.mu.Lock()
		for id := range c.notes {
			ask[id.Topic] = append(ask[id.Topic], kafka.LastOffsetOf(id.ID))
		}
		c.mu.Unlock()
		if len(ask) == 0 {
			continue
		}
		res, err := c.cluster.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: ask})
		if err != nil {
			continue // fetching tells of it
		}
		for topic, offsets := range res.Topics {
			for _, o := range offsets {
				if o.Error == nil {
					c.watermark(stream.Partition{Topic: topic, ID: o.Partition}, o.LastOffset)
				}
			}
		}
	}
}
