package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
)

// Topics are those of one service.
type Topics struct{ Input, Output, DeadLetter string }

// partitions of each topic.
const partitions = 2

// A Client sends records to a service and reads its answers. The key of each is a number that is
// used once. A Client is for one goroutine.
type Client struct {
	*kgo.Client
	topics Topics
	next   int
	unread map[int]bool // keys whose answers are due
}

// An Answer is one that was read.
type Answer struct {
	Key      int
	Appended time.Time // to the output topic, as the broker says
	Read     time.Time
	Value    []byte
}

// NewClient creates the topics and reads the output from its beginning. The records of the output
// get the time at which the broker appends them. A record that is sent waits up to linger for
// others of its batch.
func NewClient(ctx context.Context, broker string, t Topics, linger time.Duration) (*Client, error) {
	kc, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.ConsumeTopics(t.Output, t.DeadLetter),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(time.Second),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(1<<20-1024),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.UnknownTopicRetries(-1),
	)
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(kc)
	appendTime := "LogAppendTime"
	for _, topic := range []string{t.Input, t.Output, t.DeadLetter} {
		config := map[string]*string{}
		if topic == t.Output {
			config["message.timestamp.type"] = &appendTime
		}
		if _, err := admin.CreateTopic(ctx, partitions, 1, config, topic); err != nil {
			kc.Close()
			return nil, fmt.Errorf("create %s: %w", topic, err)
		}
	}
	return &Client{Client: kc, topics: t, unread: map[int]bool{}}, nil
}

// reserve reserves the next n keys and returns the first.
func (c *Client) reserve(n int) (first int) {
	first = c.next
	c.next += n
	for i := range n {
		c.unread[first+i] = true
	}
	return first
}

// send sends a record with a reserved key, without waiting.
func (c *Client) send(ctx context.Context, key int, value []byte, failed func(error)) {
	c.Produce(ctx, &kgo.Record{
		Topic: c.topics.Input, Key: []byte(strconv.Itoa(key)), Value: value,
	}, func(_ *kgo.Record, err error) {
		if err != nil {
			failed(fmt.Errorf("send: %w", err))
		}
	})
}

// Backlog sends n records and waits until the broker has them.
func (c *Client) Backlog(ctx context.Context, values [][]byte, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := c.reserve(n)
	for i := range n {
		c.send(ctx, first+i, values[i%len(values)], cancel)
	}
	if err := c.Flush(ctx); err != nil {
		return context.Cause(ctx)
	}
	return context.Cause(ctx)
}

// answerTimeout is how long to wait for the next answer.
const answerTimeout = 60 * time.Second

// Await reads n answers and returns them in the order in which they were appended.
func (c *Client) Await(ctx context.Context, n int) ([]Answer, error) {
	var answers []Answer
	for last := time.Now(); len(answers) < n; {
		pollCtx, cancel := context.WithDeadline(ctx, last.Add(answerTimeout))
		fetches := c.PollFetches(pollCtx)
		cancel()
		now := time.Now()
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := fetches.Err0(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("%d of %d answers are missing", n-len(answers), n)
			}
			return nil, err
		}
		for r := range fetches.RecordsAll() {
			if r.Topic == c.topics.DeadLetter {
				return nil, fmt.Errorf("a dead letter: %s", r.Headers)
			}
			key, err := strconv.Atoi(string(r.Key))
			if err != nil || !c.unread[key] { // a repeat
				continue
			}
			delete(c.unread, key)
			last = now
			answers = append(answers, Answer{key, r.Timestamp, now, r.Value})
		}
	}
	slices.SortStableFunc(answers, func(a, b Answer) int { return a.Appended.Compare(b.Appended) })
	return answers, nil
}

// tail is how many answers at the end of a backlog do not count: batches are no longer full there.
const tail = 16

// Throughput returns how many records a second the service answers from a backlog of n and a few
// more, and how many there were.
func (c *Client) Throughput(ctx context.Context, values [][]byte, n int) (rate float64, all int, err error) {
	all = n + tail
	if err := c.Backlog(ctx, values, all); err != nil {
		return 0, 0, err
	}
	answers, err := c.Await(ctx, all)
	if err != nil {
		return 0, 0, err
	}
	times := make([]time.Time, n)
	for i := range times {
		times[i] = answers[i].Appended
	}
	rate, err = Rate(times)
	return rate, all, err
}

// Latency sends records at a fixed rate. It measures from when each was due to be sent, whether or
// not those before it were answered, until its answer is read.
func (c *Client) Latency(ctx context.Context, values [][]byte, rate float64, long time.Duration) (answers []Answer, took []time.Duration, err error) {
	interval := time.Duration(float64(time.Second) / rate)
	n := int(long / interval)
	first := c.reserve(n)
	begin := time.Now().Add(interval)
	due := func(key int) time.Time { return begin.Add(time.Duration(key-first) * interval) }
	sendCtx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	go func() {
		for i := range n {
			if wait := time.Until(due(first + i)); wait > 0 {
				if !retry.Sleep(sendCtx, wait) {
					return
				}
			}
			c.send(sendCtx, first+i, values[i%len(values)], failed)
		}
	}()
	if answers, err = c.Await(sendCtx, n); err != nil {
		return nil, nil, err
	}
	took = make([]time.Duration, n)
	for i, a := range answers {
		took[i] = a.Read.Sub(due(a.Key))
	}
	return answers, took, nil
}
