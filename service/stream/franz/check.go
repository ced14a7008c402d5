package franz

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/outage"
)

const (
	// missingLooks is how often topics must be missing, over about a second.
	missingLooks = 4

	// outputMargin is by how many bytes an output may be larger than its input: a dead letter is
	// the input with headers.
	outputMargin = 64 << 10

	// createTimeout is how long the brokers may take to create topics.
	createTimeout = 10 * time.Second
)

// CheckTopics returns the input topics and the output topics, in that order, with the limits that
// can be compared before a record is lost to one. With create it creates those that are missing:
// outputs get as many partitions as the largest input, and a slightly larger limit. Without, its
// error wraps stream.ErrMissingTopics and names each. While no broker can be reached it tries
// again until ctx ends, and the log says so.
func (c *Client) CheckTopics(ctx context.Context, create bool) ([]stream.Topic, error) {
	// Without retries by the client, the log has the reason at once.
	client, done, err := c.requester(kgo.RequestRetries(0), kgo.WithHooks(loginHook{c.cfg}))
	if err != nil {
		return nil, err
	}
	defer done()
	check := &topicCheck{cfg: c.cfg, client: client, created: map[string]bool{}}
	outages := outage.NewLog(c.cfg.Log)
	pause := retry.NewBackoff(100*time.Millisecond, 2*time.Second)
	var last error // what the broker or the network answered, not that ctx ended
	for looks := 1; ; looks++ {
		topics, err := check.topics(ctx, create)
		if err == nil {
			outages.Recovered("check topics")
			return topics, nil
		}
		err = refusedLogin(c.cfg.SASL, err)
		if last == nil || ctx.Err() == nil {
			last = err
		}
		// A broker that has just started, or a topic that was just created, may need another look.
		missing := errors.Is(err, stream.ErrMissingTopics) && !create && looks >= missingLooks
		if missing || misconfigured(err) {
			return nil, fmt.Errorf("check topics at %s: %w", strings.Join(c.cfg.Brokers, ","), err)
		}
		if !errors.Is(err, stream.ErrMissingTopics) && ctx.Err() == nil {
			outages.Failed("check topics", err)
		}
		if !retry.Sleep(ctx, pause.NextBackOff()) {
			return nil, fmt.Errorf("check topics at %s: %w (last: %w)", strings.Join(c.cfg.Brokers, ","), context.Cause(ctx), last)
		}
	}
}

// misconfigured tells whether an error passes only when somebody changes something. It is found out
// at the start, where somebody is looking.
func misconfigured(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return permanent(err) || unauthenticated(err) || errors.As(err, &unknown) || errors.As(err, &host)
}

// A loginHook tells the observer whether the brokers take the credentials.
type loginHook struct{ cfg stream.Config }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h loginHook) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	err = refusedLogin(h.cfg.SASL, err)
	if h.cfg.SASL.Mechanism != "" && (err == nil || unauthenticated(err)) {
		h.cfg.Observer.Authentication(err)
	}
}

// A topicCheck looks at the topics of a configuration. One goroutine uses it.
type topicCheck struct {
	cfg     stream.Config
	client  *kgo.Client
	created map[string]bool // by this check
}

// topics returns the topics. If some are missing it may create them; either way its error wraps
// stream.ErrMissingTopics then.
func (c *topicCheck) topics(ctx context.Context, create bool) ([]stream.Topic, error) {
	topics, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, t := range topics {
		if isMissing(t) {
			missing = append(missing, t.Name)
		}
	}
	if len(missing) == 0 {
		return topics, c.describe(ctx, topics)
	}
	if create {
		inputs := topics[:len(c.cfg.Inputs)]
		if err := c.createMissing(ctx, missing, inputs); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %s", stream.ErrMissingTopics, strings.Join(missing, ", "))
}

func isMissing(t stream.Topic) bool { return t.Partitions == 0 }

// list looks up the inputs and the outputs, without their limits. One that does not exist has no
// partitions.
func (c *topicCheck) list(ctx context.Context) ([]stream.Topic, error) {
	names := slices.Concat(c.cfg.Inputs, c.cfg.Outputs)
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	res, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	topics := make([]stream.Topic, len(names))
	for i, name := range names {
		topics[i] = stream.Topic{Name: name, Created: c.created[name]}
	}
	for _, found := range res.Topics {
		i := -1
		if found.Topic != nil {
			i = slices.Index(names, *found.Topic)
		}
		if i < 0 {
			continue
		}
		err := kerr.ErrorForCode(found.ErrorCode)
		if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil, explain(c.cfg, fmt.Errorf("describe %s: %w", names[i], err), "", "Describe", names[i])
		}
		topics[i].Partitions = len(found.Partitions)
		for at, p := range found.Partitions {
			if n := len(p.Replicas); at == 0 || n < topics[i].Replicas {
				topics[i].Replicas = n
			}
		}
	}
	return topics, nil
}

// createMissing asks for the missing topics. The inputs come first, with the brokers' defaults, for
// the outputs follow them: in their number of partitions, and in their limit.
func (c *topicCheck) createMissing(ctx context.Context, missing []string, inputs []stream.Topic) error {
	like := stream.Topic{Partitions: -1}
	if slices.ContainsFunc(inputs, isMissing) {
		missing = slices.DeleteFunc(missing, func(name string) bool { return !slices.Contains(c.cfg.Inputs, name) })
	} else if err := c.describe(ctx, inputs); err != nil {
		return err
	} else {
		like = largest(inputs)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = int32(createTimeout.Milliseconds())
	for _, name := range missing {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(like.Partitions), -1
		if like.MaxMessageBytes > 0 {
			limit := kmsg.NewCreateTopicsRequestTopicConfig()
			limit.Name, limit.Value = "max.message.bytes", kmsg.StringPtr(strconv.Itoa(like.MaxMessageBytes+outputMargin))
			topic.Configs = append(topic.Configs, limit)
		}
		req.Topics = append(req.Topics, topic)
	}
	res, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case err == nil:
			c.created[t.Topic] = true
		case !errors.Is(err, kerr.TopicAlreadyExists):
			return fmt.Errorf("create %s: %w", t.Topic, err)
		}
	}
	return nil
}

// largest has the most partitions, and the largest limit, of some topics.
func largest(topics []stream.Topic) (t stream.Topic) {
	for _, other := range topics {
		t.Partitions = max(t.Partitions, other.Partitions)
		t.MaxMessageBytes = max(t.MaxMessageBytes, other.MaxMessageBytes)
	}
	return t
}

// describe looks up the limits. Reading a topic's configuration needs a permission that reading its
// records does not: without it, they stay zero.
func (c *topicCheck) describe(ctx context.Context, topics []stream.Topic) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, t := range topics {
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, t.Name
		resource.ConfigNames = []string{"max.message.bytes", "min.insync.replicas", "cleanup.policy"}
		req.Resources = append(req.Resources, resource)
	}
	res, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return err
	}
	for _, r := range res.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); permanent(err) {
			continue
		} else if err != nil {
			return fmt.Errorf("describe %s: %w", r.ResourceName, err)
		}
		i := slices.IndexFunc(topics, func(t stream.Topic) bool { return t.Name == r.ResourceName })
		if i < 0 {
			continue
		}
		for _, e := range r.Configs {
			if e.Value == nil {
				continue
			}
			switch n, _ := strconv.Atoi(*e.Value); e.Name {
			case "max.message.bytes":
				topics[i].MaxMessageBytes = n
			case "min.insync.replicas":
				topics[i].MinInSync = n
			case "cleanup.policy":
				topics[i].Compacted = strings.Contains(*e.Value, "compact")
			}
		}
	}
	return nil
}
