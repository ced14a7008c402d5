package kafkago

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"inceptor/internal/retry"
)

// leaderWatch is how long a request may wait before it is checked whether its broker still leads
// the partition.
const leaderWatch = 3 * time.Second

var errLeaderMoved = errors.New("another broker leads the partition now")

// whileLeader returns a context that ends when another broker leads the partition: a frozen
// broker would keep a request until its timeout.
func whileLeader(ctx context.Context, client *kafka.Client, topic string, partition int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	before, known := leader(ctx, client, topic, partition)
	if !known {
		return ctx, func() { cancel(nil) }
	}
	watch := time.AfterFunc(leaderWatch, func() {
		for {
			if now, known := leader(ctx, client, topic, partition); known && now != before {
				cancel(errLeaderMoved)
			}
			if !retry.Sleep(ctx, leaderWatch/3) {
				return
			}
		}
	})
	return ctx, func() {
		watch.Stop()
		cancel(nil)
	}
}

// leader returns the broker that leads a partition, from the last metadata. It is called for each
// request, and kafka.Client.Metadata would copy all partitions.
func leader(ctx context.Context, client *kafka.Client, topic string, partition int) (broker int32, known bool) {
	res, err := client.Transport.RoundTrip(ctx, client.Addr, &metadata.Request{TopicNames: []string{topic}})
	if err != nil {
		return 0, false
	}
	for _, t := range res.(*metadata.Response).Topics {
		for i := range t.Partitions {
			if p := &t.Partitions[i]; int(p.PartitionIndex) == partition && p.ErrorCode == 0 {
				return p.LeaderID, true
			}
		}
	}
	return 0, false
}

// leaderMoved returns why a request failed: errLeaderMoved if another broker leads the partition
// now, context.DeadlineExceeded after the timeout, else err.
func leaderMoved(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err != nil && (errors.Is(cause, errLeaderMoved) || errors.Is(cause, context.DeadlineExceeded)) {
		return cause
	}
	return err
}
