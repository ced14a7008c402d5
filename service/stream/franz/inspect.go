package franz

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/diagnosis"
	"inceptor/service/stream/internal/wire"
)

const (
	// inspectPatience bounds each request of an inspection, with its retries.
	inspectPatience = 10 * time.Second

	// maxProbes bounds how many addresses an inspection tries.
	maxProbes = 50

	// noProducer is a producer's id that no broker has given to anybody.
	noProducer = math.MaxInt64
)

// Inspect looks at everything that a process needs of the brokers, and changes nothing there: it
// reads and writes no record, creates no topic and no transaction, and members of the group do not
// notice. With create, it asks whether missing topics may be created. If an authorizer does not
// tell what is allowed, a permission counts as granted.
func (c *Client) Inspect(ctx context.Context, create bool) stream.Inspection {
	found := stream.Inspection{Brokers: c.probe(ctx, false, c.cfg.Brokers...)}
	cfg := c.cfg
	cfg.Brokers = nil // only those that answer are asked, so that the others fail nothing else
	for _, b := range found.Brokers {
		if b.Err == nil {
			cfg.Brokers = append(cfg.Brokers, b.Address)
		}
	}
	if len(cfg.Brokers) == 0 {
		return found
	}
	asked, err := NewClient(cfg, c.tx)
	if err != nil {
		found.Err = err
		return found
	}
	defer asked.Close()
	asked.inspectCluster(ctx, create, &found)
	return found
}

// inspectCluster fills in what brokers that answer tell of the others, and of all the rest.
func (c *Client) inspectCluster(ctx context.Context, create bool, found *stream.Inspection) {
	client, done, err := c.requester(kgo.RetryTimeout(inspectPatience), kgo.WithHooks(loginHook{c.cfg}))
	if err != nil {
		found.Err = err
		return
	}
	defer done()
	cluster, err := c.describeAll(ctx, client)
	if err != nil {
		found.Err = refusedLogin(c.cfg.SASL, err)
		return
	}
	found.Brokers = append(found.Brokers, c.probe(ctx, true, advertised(cluster, found.Brokers)...)...)
	found.Topics = c.inspectTopics(ctx, client, cluster, create)
	found.Group = c.inspectGroup(ctx)
	if c.tx != nil {
		found.ID, found.IDErr = c.inspectID(ctx, client)
	}
}

// probe tries addresses, all at the same time.
func (c *Client) probe(ctx context.Context, advertised bool, addresses ...string) []stream.InspectedBroker {
	addresses = addresses[:min(len(addresses), maxProbes)]
	brokers := make([]stream.InspectedBroker, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			brokers[i] = stream.InspectedBroker{Address: address, Advertised: advertised, Err: wire.Probe(ctx, c.cfg, address)}
		})
	}
	all.Wait()
	return brokers
}

// describeAll asks for the brokers and the topics, with what is allowed on each topic. A topic that
// was created just now is waited for.
func (c *Client) describeAll(ctx context.Context, client *kgo.Client) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectPatience)
	defer cancel()
	for looks := 1; ; looks++ {
		req := kmsg.NewPtrMetadataRequest()
		req.IncludeTopicAuthorizedOperations = true
		for _, name := range slices.Concat(c.cfg.Inputs, c.cfg.Outputs) {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr(name)
			req.Topics = append(req.Topics, topic)
		}
		res, err := req.RequestWith(ctx, client)
		missing := err == nil && slices.ContainsFunc(res.Topics, func(t kmsg.MetadataResponseTopic) bool {
			return errors.Is(kerr.ErrorForCode(t.ErrorCode), kerr.UnknownTopicOrPartition)
		})
		if !missing || looks >= missingLooks || !retry.Sleep(ctx, 100*time.Millisecond) {
			return res, err
		}
	}
}

// advertised returns the addresses under which the brokers want to be reached, other than those
// that are known.
func advertised(cluster *kmsg.MetadataResponse, known []stream.InspectedBroker) []string {
	var addresses []string
	for _, b := range cluster.Brokers {
		address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		if !slices.ContainsFunc(known, func(k stream.InspectedBroker) bool { return k.Address == address }) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// inspectTopics returns the inputs and the outputs, each with what is wrong with it.
func (c *Client) inspectTopics(ctx context.Context, client *kgo.Client, cluster *kmsg.MetadataResponse, create bool) []stream.InspectedTopic {
	var topics []stream.InspectedTopic
	var described []stream.Topic
	for _, name := range slices.Concat(c.cfg.Inputs, c.cfg.Outputs) {
		t := stream.InspectedTopic{Topic: stream.Topic{Name: name}, Input: slices.Contains(c.cfg.Inputs, name)}
		at := slices.IndexFunc(cluster.Topics, func(t kmsg.MetadataResponseTopic) bool { return t.Topic != nil && *t.Topic == name })
		if at < 0 {
			t.Err = errors.New("the brokers do not tell of it")
		} else {
			c.inspectTopic(&t, &cluster.Topics[at])
		}
		if t.Missing && create {
			t.Err = c.inspectCreation(ctx, client, name)
		}
		topics, described = append(topics, t), append(described, t.Topic)
	}
	ctx, cancel := context.WithTimeout(ctx, inspectPatience)
	defer cancel()
	check := &topicCheck{cfg: c.cfg, client: client}
	if err := check.describe(ctx, described); err == nil { // without their limits, nothing can be said of them
		for i := range topics {
			topics[i].Topic = described[i]
		}
	}
	return topics
}

// inspectTopic fills in what the brokers tell of a topic.
func (c *Client) inspectTopic(t *stream.InspectedTopic, told *kmsg.MetadataResponseTopic) {
	operation, code := "Write", kmsg.ACLOperationWrite
	if t.Input {
		operation, code = "Read", kmsg.ACLOperationRead
	}
	switch err := kerr.ErrorForCode(told.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		t.Missing = true
		return
	case errors.Is(err, kerr.TopicAuthorizationFailed),
		err == nil && told.AuthorizedOperations != math.MinInt32 && told.AuthorizedOperations&(1<<code) == 0:
		t.Err = errors.New(diagnosis.Permission(c.cfg, operation, "topic", t.Name))
	case err != nil:
		t.Err = err
	}
	t.Partitions = len(told.Partitions)
	leaderless := 0
	for i, p := range told.Partitions {
		if n := len(p.Replicas); i == 0 || n < t.Replicas {
			t.Replicas = n
		}
		if errors.Is(kerr.ErrorForCode(p.ErrorCode), kerr.LeaderNotAvailable) {
			leaderless++
		}
	}
	if leaderless > 0 && t.Err == nil {
		t.Err = fmt.Errorf("%d of %d partitions have no leader: start the brokers that hold them", leaderless, t.Partitions)
	}
}

// inspectCreation returns why a topic cannot be created; nothing is created.
func (c *Client) inspectCreation(ctx context.Context, client *kgo.Client, name string) error {
	ctx, cancel := context.WithTimeout(ctx, inspectPatience)
	defer cancel()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, -1, -1
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.ValidateOnly = int32(inspectPatience.Milliseconds()), true
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(ctx, client)
	if err == nil && len(res.Topics) > 0 {
		err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("does not exist, and %s", diagnosis.Permission(c.cfg, "Create", "topic", name))
	case err != nil:
		return fmt.Errorf("does not exist, and cannot be created: %w", err)
	}
	return nil
}

// inspectGroup returns why the process may not join the group.
func (c *Client) inspectGroup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, inspectPatience)
	defer cancel()
	err := c.tryJoin(ctx)
	if errors.Is(err, kerr.GroupAuthorizationFailed) {
		return errors.New(diagnosis.Permission(c.cfg, "Read", "group", c.cfg.Group))
	}
	return err
}

// inspectID returns the transactional id that a process would take first, and why it may not use
// it. It asks the coordinator to abort a transaction of a producer that does not exist: the
// permission is checked first, and then nothing is found that could be changed.
func (c *Client) inspectID(ctx context.Context, client *kgo.Client) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, inspectPatience)
	defer cancel()
	resource, option := c.tx.ID, ""
	if id = c.tx.ID; id == "" {
		host, hostErr := os.Hostname()
		if hostErr != nil {
			host = "check"
		}
		id = slotID(c.cfg.Group, host, 0)
		resource, option = c.cfg.Group+"-", " --resource-pattern-type prefixed"
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.Commit = id, noProducer, false
	res, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return id, errors.New(diagnosis.Permission(c.cfg, "Write", "transactional-id", resource) + option)
	case err == nil, errors.Is(err, kerr.InvalidProducerIDMapping), errors.Is(err, kerr.InvalidProducerEpoch),
		errors.Is(err, kerr.InvalidTxnState), errors.Is(err, kerr.ConcurrentTransactions), errors.Is(err, kerr.ProducerFenced):
	default:
		return id, fmt.Errorf("ask for the coordinator: %w", err)
	}
	if most := c.brokerTimes(ctx, "transaction.max.timeout.ms")[0]; most > 0 && c.tx.Timeout > most {
		return id, fmt.Errorf("kafka.transaction.timeout of %v exceeds the brokers' transaction.max.timeout.ms: set it to %v or less", c.tx.Timeout, most)
	}
	return id, nil
}
