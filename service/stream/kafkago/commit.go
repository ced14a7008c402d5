package kafkago

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/outage"
	"inceptor/service/stream/internal/resume"
)

const (
	// commitEvery is the least time between two commits. One commit is for all partitions, so a
	// busy driver commits this often, and an idle one at once.
	commitEvery = 50 * time.Millisecond

	// commitTimeout bounds a commit. When a generation ends, it bounds the commit under way and the
	// last one together; but the last one has lastCommit at least.
	commitTimeout = 5 * time.Second
	lastCommit    = time.Second

	// lagEvery is how often the lag is looked up. Fetches report it too, but a partition whose
	// window is full is not fetched.
	lagEvery = 10 * time.Second
)

// commits commits the progress of one generation. Partitions only record theirs; the latest one is
// committed. Safe for concurrent use.
type commits struct {
	// Set once.
	cfg     stream.Config
	cluster *cluster
	outages *outage.Log
	gen     *kafka.Generation
	wake    chan struct{}

	mu      sync.Mutex // guards the rest
	of      map[stream.Partition]*progress
	failing map[stream.Partition]bool // the observer was told that commits fail
}

// A progress is how far one partition has come. It is guarded by the mu of commits.
type progress struct {
	next      resume.Position // the outputs of every record before it are published
	committed resume.Position // negative: must be committed again
	stored    bool            // the group has an offset of this partition
	high      int64           // the partition's high watermark
	reported  int64           // lag that the observer was last told
}

// nowhere means that a partition has no position.
var nowhere = resume.Position{Offset: -1}

func newCommits(cfg stream.Config, cluster *cluster, t *outage.Log, gen *kafka.Generation) *commits {
	return &commits{
		cfg: cfg, cluster: cluster, outages: t, gen: gen, wake: make(chan struct{}, 1),
		of: map[stream.Partition]*progress{}, failing: map[stream.Partition]bool{},
	}
}

// start records where the reading of a partition begins, and whether the group has that offset.
func (c *commits) start(partition stream.Partition, at resume.Position, stored bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[partition] = &progress{next: at, committed: at, stored: stored, reported: -1}
}

// add records that the outputs of every record before next are published.
func (c *commits) add(partition stream.Partition, next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[partition].next.Offset = next
	c.wakeUp()
}

// rewind records that reading goes on at another position. It is committed at once: the old
// offset may come to mean another record.
func (c *commits) rewind(partition stream.Partition, at resume.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[partition] = &progress{next: at, committed: nowhere, reported: -1}
	c.wakeUp()
}

// positions returns those that the group has.
func (c *commits) positions() map[stream.Partition]resume.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[stream.Partition]resume.Position{}
	for id, n := range c.of {
		if n.stored {
			all[id] = n.committed
		}
	}
	return all
}

func (c *commits) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watermark records the end of the log, and reports the lag if no commit will.
func (c *commits) watermark(partition stream.Partition, high int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[partition]
	if n == nil || high < 0 {
		return
	}
	n.high = high
	if n.next == n.committed && n.lag() != n.reported {
		c.reportLag(partition, n)
	}
}

func (n *progress) lag() int64 { return max(0, n.high-n.committed.Offset) }

func (c *commits) reportLag(partition stream.Partition, n *progress) {
	n.reported = n.lag()
	c.cfg.Observer.Committed(partition, n.committed.Offset, n.reported)
}

// run commits whenever there is something to commit, until ctx ends. Once draining is closed it
// also commits each time that keepAlive has passed: an ending generation sends no heartbeats, and
// for the broker a commit counts as one.
func (c *commits) run(ctx context.Context, draining <-chan struct{}, keepAlive time.Duration) error {
	// Short pauses: a broker that is back removes a silent member after the session timeout, and
	// then takes no commit of it.
	pause := retry.NewBackoff(100*time.Millisecond, 300*time.Millisecond)
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
		// A commit is not cancelled when ctx ends: the broker might handle it after the last
		// commit of the generation, and so undo that. With a commit that has taken commitTimeout
		// it still may.
		switch err := c.commit(context.WithoutCancel(ctx), all); {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause.Reset()
		case permanent(err):
			return err
		case outOfGeneration(err): // the heartbeat gets the same error, and ends the generation
			c.outages.Failed("commit offsets", err)
			return nil
		default:
			c.outages.Failed("commit offsets", err)
			wait = pause.NextBackOff()
			c.wakeUp()
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

// flush makes the last commit of a generation, by the deadline.
func (c *commits) flush(deadline time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), max(lastCommit, time.Until(deadline)))
	defer cancel()
	for {
		err := c.commit(ctx, false)
		if err == nil || permanent(err) || outOfGeneration(err) || errors.Is(err, kafka.UnknownTopicID) || !retry.Sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// commit commits the positions that have changed, or all.
func (c *commits) commit(ctx context.Context, all bool) error {
	positions := map[stream.Partition]resume.Position{}
	c.mu.Lock()
	for id, n := range c.of {
		if all || n.next != n.committed || c.failing[id] {
			positions[id] = n.next
		}
	}
	c.mu.Unlock()
	if len(positions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	refused, failed := c.cluster.commit(ctx, c.gen, positions)
	var err error
	for id, position := range positions {
		if reason := cmp.Or(failed, refused[id]); reason != nil {
			err = c.wrap(reason)
			c.failed(id, err)
		} else {
			c.committed(id, position)
		}
	}
	if err == nil {
		c.outages.Recovered("commit offsets")
	}
	return err
}

// committed notes that the group has a position of a partition.
func (c *commits) committed(id stream.Partition, position resume.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing[id] {
		delete(c.failing, id)
		c.cfg.Observer.Retrying(id, stream.Committing, nil)
	}
	if n := c.of[id]; n.next.Topic == position.Topic { // else there was a rewind meanwhile
		n.committed, n.stored = position, true
		c.reportLag(id, n)
	}
}

// failed notes that the group did not take a position of a partition. If the group has gone on,
// that is no fault: the generation ends.
func (c *commits) failed(id stream.Partition, err error) {
	if outOfGeneration(err) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing[id] = true
	c.cfg.Observer.Retrying(id, stream.Committing, err)
}

func (c *commits) wrap(err error) error {
	return fmt.Errorf("commit offsets of group %s for %s: %w", c.cfg.Group, strings.Join(c.cfg.Inputs, ", "), err)
}

// watchLag looks up the high watermarks, for partitions that are not fetched.
func (c *commits) watchLag(ctx context.Context) {
	for retry.Sleep(ctx, lagEvery) {
		ask := map[string][]kafka.OffsetRequest{}
		c.mu.Lock()
		for id := range c.of {
			ask[id.Topic] = append(ask[id.Topic], kafka.LastOffsetOf(id.ID))
		}
		c.mu.Unlock()
		if len(ask) == 0 {
			continue
		}
		res, err := c.cluster.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: ask})
		if err != nil {
			continue // a fetch reports the same fault
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
