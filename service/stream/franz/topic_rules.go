package franz

import (
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"inceptor/service/stream"
)

// compactedFor is how long a topic is taken for compacted after it was found so.
// Until then no output without a key is sent to it: each would cost all outputs of
// the transaction an abort.
const compactedFor = 5 * time.Second

// lookUpTimeout bounds the look-up of a topic's configuration.
const lookUpTimeout = 5 * time.Second

// topicRules are what a generation has learnt of the output topics. Of the
// session's loop.
type topicRules struct {
	partitions     map[string]int       // how many a topic has
	limits         map[string]int64     // of bytes that a topic takes together, where one has shown
	compactedUntil map[string]time.Time // of topics that take no record without a key
}

func newTopicRules() *topicRules {
	return &topicRules{partitions: map[string]int{}, limits: map[string]int64{}, compactedUntil: map[string]time.Time{}}
}

// batchBytes returns how many bytes may share a batch.
func (t *topicRules) batchBytes(topic string) int64 {
	if limit := t.limits[topic]; limit > 0 {
		return min(batchBytes, limit)
	}
	return batchBytes
}

// compacted reports whether a topic was found to take no record without a key.
func (t *topicRules) compacted(topic string) bool { return time.Now().Before(t.compactedUntil[topic]) }

// wantsKey reports whether a record has no key though its topic wants one.
func (t *topicRules) wantsKey(r stream.Record) bool { return r.Key == nil && t.compacted(r.Topic) }

// lookUpCompacted asks a broker whether a topic is compacted.
func lookUpCompacted(ctx context.Context, admin *kadm.Client, topic string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return false, err
	}
	c, err := configs.On(topic, nil)
	if err == nil {
		err = c.Err
	}
	for _, entry := range c.Configs {
		if entry.Key == "cleanup.policy" {
			return strings.Contains(entry.MaybeValue(), "compact"), err
		}
	}
	return false, err
}
