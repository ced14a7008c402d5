package kafkago

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"

	"inceptor/service/stream"
)

// missingLooks is how often topics must be missing, over about a second.
const missingLooks = 4

// CheckTopics looks at the input topics and the output topics, in that order,
// and tells what it found: enough to compare limits before the first record is
// lost to one. Missing topics it creates if create says so, outputs with as
// many partitions as the largest input and a slightly larger limit; else it returns an
// error that wraps stream.ErrMissingTopics and names each. A broker that cannot
// be reached is tried again until ctx ends, and the log says so.
func CheckTopics(ctx context.Context, cfg stream.Config, create bool) ([]stream.Topic, error) {
	names := slices.Concat(cfg.Inputs, cfg.Outputs)
	cluster := connect(cfg, names...)
	defer cluster.close()
	trouble := stream.NewTrouble(cfg.Log)
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	created := map[string]bool{}
	var last error // what the broker or the network answered, not that ctx ended
	for looks := 1; ; looks++ {
		topics, err := cluster.check(ctx, names, create, created)
		if err == nil {
			trouble.Worked("check topics")
			return topics, nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		// A broker that has just started, or a topic that has just been
		// created, may need another look.
		missing := errors.Is(err, stream.ErrMissingTopics) && !create && looks >= missingLooks
		if missing || misconfigured(err) {
			return nil, fmt.Errorf("check topics at %s: %w", strings.Join(cfg.Brokers, ","), err)
		}
		if !errors.Is(err, stream.ErrMissingTopics) && ctx.Err() == nil {
			trouble.Failed("check topics", err)
		}
		if !sleep(ctx, pause.NextBackOff()) {
			return nil, fmt.Errorf("check topics at %s: %w (last: %w)", strings.Join(cfg.Brokers, ","), context.Cause(ctx), last)
		}
		// A pool that has never connected repeats its first error for
		// seconds without trying again; a new one tries at once.
		cluster.transport.CloseIdleConnections()
	}
}

func (c *cluster) check(ctx context.Context, names []string, create bool, created map[string]bool) ([]stream.Topic, error) {
	res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
	if err != nil {
		return nil, err
	}
	var topics []stream.Topic
	var missing []string
	for _, t := range res.Topics {
		switch {
		case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
			missing = append(missing, t.Name)
		case t.Error != nil:
			return nil, explain(c.cfg, fmt.Errorf("describe %s: %w", t.Name, t.Error), "Describe", t.Name)
		}
		topic := stream.Topic{Name: t.Name, Partitions: len(t.Partitions), Created: created[t.Name]}
		for i, p := range t.Partitions {
			if n := len(p.Replicas); i == 0 || n < topic.Replicas {
				topic.Replicas = n
			}
		}
		topics = append(topics, topic)
	}
	if len(missing) > 0 {
		if create {
			// The inputs first: the outputs follow them.
			model := stream.Topic{Partitions: -1}
			if known := topics[:len(c.cfg.Inputs)]; slices.ContainsFunc(known, isMissing) {
				missing = slices.DeleteFunc(missing, func(name string) bool { return !slices.Contains(c.cfg.Inputs, name) })
			} else if err := c.describe(ctx, known); err != nil {
				return nil, err
			} else {
				model = largest(known)
			}
			if err := c.create(ctx, missing, model, created); err != nil {
				return nil, err
			}
		}
		return nil, fmt.Errorf("%w: %s", stream.ErrMissingTopics, strings.Join(missing, ", "))
	}
	return topics, c.describe(ctx, topics)
}

func isMissing(t stream.Topic) bool { return t.Partitions == 0 }

// largest is a topic with the most partitions, and the largest limit, of some.
func largest(topics []stream.Topic) (t stream.Topic) {
	for _, other := range topics {
		t.Partitions = max(t.Partitions, other.Partitions)
		t.MaxMessageBytes = max(t.MaxMessageBytes, other.MaxMessageBytes)
	}
	return t
}

// outputRoom is by how many bytes an output may be larger than its input: a
// dead letter is the input with headers.
const outputRoom = 64 << 10

// create asks for topics, and notes those that did not exist. They get the
// model's number of partitions, -1 for the broker's default, and take what it
// takes and a little more, if its limit is known.
func (c *cluster) create(ctx context.Context, names []string, model stream.Topic, created map[string]bool) error {
	req := &kafka.CreateTopicsRequest{}
	for _, n := range names {
		topic := kafka.TopicConfig{Topic: n, NumPartitions: model.Partitions, ReplicationFactor: -1}
		if model.MaxMessageBytes > 0 {
			limit := strconv.Itoa(model.MaxMessageBytes + outputRoom)
			topic.ConfigEntries = []kafka.ConfigEntry{{ConfigName: "max.message.bytes", ConfigValue: limit}}
		}
		req.Topics = append(req.Topics, topic)
	}
	res, err := c.client.CreateTopics(ctx, req)
	if err != nil {
		return err
	}
	for n, err := range res.Errors {
		switch {
		case err == nil:
			created[n] = true
		case !errors.Is(err, kafka.TopicAlreadyExists):
			return fmt.Errorf("create %s: %w", n, err)
		}
	}
	return nil
}

// describe looks up the limits. Reading a topic's configuration needs a
// permission that reading its records does not: without it, they stay zero.
func (c *cluster) describe(ctx context.Context, topics []stream.Topic) error {
	req := &kafka.DescribeConfigsRequest{}
	for _, t := range topics {
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic,
			ResourceName: t.Name,
			ConfigNames:  []string{"max.message.bytes", "min.insync.replicas", "cleanup.policy"},
		})
	}
	res, err := c.client.DescribeConfigs(ctx, req)
	if err != nil {
		return err
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			if permanent(r.Error) {
				continue
			}
			return fmt.Errorf("describe %s: %w", r.ResourceName, r.Error)
		}
		for _, e := range r.ConfigEntries {
			for i := range topics {
				if topics[i].Name != r.ResourceName {
					continue
				}
				switch n, _ := strconv.Atoi(e.ConfigValue); e.ConfigName {
				case "max.message.bytes":
					topics[i].MaxMessageBytes = n
				case "min.insync.replicas":
					topics[i].MinInSync = n
				case "cleanup.policy":
					topics[i].Compacted = strings.Contains(e.ConfigValue, "compact")
				}
			}
		}
	}
	return nil
}
