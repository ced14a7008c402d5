package franz

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream/internal/resume"
)

// errRecreated ends a session whose client keeps to the id of a deleted topic.
var errRecreated = errors.New("it was deleted and recreated")

// inputTopics remembers the ids of the input topics, as the client knows them,
// and that of the cluster. The zero value knows none. Safe for concurrent use.
type inputTopics struct {
	mu        sync.Mutex
	ids       map[string]resume.TopicID // by name; guarded by mu
	clusterID string                    // guarded by mu
}

// lookUp asks a broker for the ids of topics, and remembers the cluster's. kadm
// would answer from memory. A topic that does not exist has none.
func (t *inputTopics) lookUp(ctx context.Context, client *kgo.Client, topics []string) (map[string]resume.TopicID, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &name
		req.Topics = append(req.Topics, topic)
	}
	res, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("look up the ids of topics: %w", err)
	}
	if res.ClusterID != nil {
		t.mu.Lock()
		t.clusterID = *res.ClusterID
		t.mu.Unlock()
	}
	ids := map[string]resume.TopicID{}
	for _, t := range res.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up the id of a topic: %w", err)
		}
		if t.Topic != nil {
			ids[*t.Topic] = t.TopicID
		}
	}
	return ids, nil
}

// cluster returns the id of the Kafka cluster; empty: not known.
func (t *inputTopics) cluster() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clusterID
}

// compare returns an error if a topic is another one than when its id was first
// compared: the client keeps to the old one.
func (t *inputTopics) compare(ids map[string]resume.TopicID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, id := range ids {
		if before, known := t.ids[topic]; known && id != before {
			return fmt.Errorf("topic %s: %w", topic, errRecreated)
		}
		if t.ids == nil {
			t.ids = map[string]resume.TopicID{}
		}
		t.ids[topic] = id
	}
	return nil
}

// checkTopics returns an error if the input topics are not those of the session,
// or cannot be looked up.
func (s *sessionContext) checkTopics(ctx context.Context, client *kgo.Client) error {
	ids, err := s.inputs.lookUp(ctx, client, s.cfg.Inputs)
	if err == nil {
		err = s.inputs.compare(ids)
	}
	if err == nil {
		s.positions.topicsChecked()
	}
	return err
}
