package franz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"inceptor/service/stream"
)

// compactedFor is how long a topic is taken for compacted once it was found so.
// Until then no output without a key is sent to it: each would cost all outputs
// of the transaction an abort.
const compactedFor = 5 * time.Second

// lookUpTimeout bounds the look-up of a topic's configuration.
const lookUpTimeout = 5 * time.Second

// refusedKeyless returns why an output without a key was refused. It wraps
// stream.ErrKeyless if the topic is compacted, or may be. franz-go drops the
// broker's message, so the topic's configuration is looked up.
func (s *transactional) refusedKeyless(ctx context.Context, f failure) error {
	topic := f.record.Topic
	if f.record.Key != nil || !errors.Is(f.err, kerr.InvalidRecord) || s.wantsKey(f.record) {
		return f.err
	}
	compacted, err := s.isCompacted(ctx, topic)
	switch {
	case err != nil:
		return fmt.Errorf("%w (perhaps %w; its configuration cannot be read: %w)", f.err, stream.ErrKeyless, err)
	case compacted:
		s.compacted[topic] = time.Now().Add(compactedFor)
	}
	return f.err
}

// isCompacted looks up whether a topic is compacted.
func (s *transactional) isCompacted(ctx context.Context, topic string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	configs, err := kadm.NewClient(s.client).DescribeTopicConfigs(ctx, topic)
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

// wantsKey tells whether a record has no key, and its topic was found to take
// none without.
func (s *transactional) wantsKey(r stream.Record) bool { return r.Key == nil && s.takesKeyed(r.Topic) }

// takesKeyed tells whether a topic was found to take no record without a key.
func (s *transactional) takesKeyed(topic string) bool { return time.Now().Before(s.compacted[topic]) }

// replaceKeyless puts something that its topic takes in the place of an output
// without a key, or returns why there is nothing.
func (s *transactional) replaceKeyless(o *output) error {
	for s.wantsKey(o.record) {
		if err := s.replace(o, stream.ErrKeyless); err != nil {
			return err
		}
		o.alone = false // the others are not in doubt
	}
	return nil
}
