package franz

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// TryJoin returns an error if the brokers would not let a process join the group
// with the configured session. It causes no rebalance: since KIP-394 brokers check
// everything before they give a new member the id with which it must join again.
// They forget the id when the session is over. Leaving with it would begin a
// rebalance (4.3.1).
func TryJoin(ctx context.Context, cfg stream.Config) error {
	cfg, err := cfg.Checked()
	if err != nil {
		return err
	}
	client, done, err := trial(cfg)
	if err != nil {
		return err
	}
	defer done()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType = cfg.Group, "consumer"
	req.SessionTimeoutMillis = int32(cfg.Session.Milliseconds())
	req.RebalanceTimeoutMillis = int32((cfg.DrainTimeout + rebalanceMargin).Milliseconds())
	for _, b := range balancers() {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = b.ProtocolName(), b.JoinGroupMetadata(cfg.Inputs, nil, 0)
		req.Protocols = append(req.Protocols, p)
	}
	res, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if err == nil || errors.Is(err, kerr.MemberIDRequired) {
		return nil
	}
	return ExplainSession(ctx, cfg, explain(cfg, fmt.Errorf("join group %s: %w", cfg.Group, err), "", "Read", cfg.Inputs...))
}

// balancers are the protocols of the other driver, so that the processes of a group
// can change their guarantee one by one.
func balancers() []kgo.GroupBalancer {
	return []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer()}
}

// trial makes a client for a few requests.
func trial(cfg stream.Config) (*kgo.Client, func(), error) {
	conns := stream.NewConnections(cfg)
	client, err := kgo.NewClient(append(connection(cfg, conns), kgo.RetryTimeout(30*time.Second))...)
	if err != nil {
		return nil, nil, err
	}
	return client, func() {
		conns.Shut()
		client.Close()
	}, nil
}

// ExplainSession adds to an error that refuses the session the bounds that the
// broker allows, if it tells them.
func ExplainSession(ctx context.Context, cfg stream.Config, err error) error {
	if !stream.Refused(err, stream.SessionRefused) {
		return err
	}
	client, done, openErr := trial(cfg)
	if openErr != nil {
		return err
	}
	defer done()
	admin := kadm.NewClient(client)
	brokers, listErr := admin.ListBrokers(ctx)
	if listErr != nil || len(brokers) == 0 {
		return err
	}
	configs, describeErr := admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if describeErr != nil || len(configs) == 0 {
		return err
	}
	bound := func(key string) time.Duration {
		i := slices.IndexFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == key })
		if i < 0 {
			return 0
		}
		millis, _ := strconv.Atoi(configs[0].Configs[i].MaybeValue())
		return time.Duration(millis) * time.Millisecond
	}
	least, most := bound("group.min.session.timeout.ms"), bound("group.max.session.timeout.ms")
	if least == 0 || most == 0 {
		return err
	}
	return fmt.Errorf("%w: set it from %v to %v", err, least, most)
}

// CheckAccess returns an error for every permission that a driver lacks, with the
// command that grants it: Read on the inputs, Write on the outputs, and with a
// transaction Write on its id. It changes nothing, except that the brokers then know
// a transactional id that only checks use. If an authorizer does not tell, the
// permission counts as granted.
func CheckAccess(ctx context.Context, cfg stream.Config, tx *Transaction) []error {
	client, done, err := trial(cfg)
	if err != nil {
		return []error{err}
	}
	defer done()
	var lacks []error
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.IncludeTopicAuthorizedOperations = true
	for _, name := range slices.Concat(cfg.Inputs, cfg.Outputs) {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		metadata.Topics = append(metadata.Topics, topic)
	}
	res, err := metadata.RequestWith(ctx, client)
	if err != nil {
		return []error{fmt.Errorf("ask what is allowed: %w", err)}
	}
	for _, t := range res.Topics {
		if t.Topic == nil {
			continue
		}
		operation, code := "Write", kmsg.ACLOperationWrite
		if slices.Contains(cfg.Inputs, *t.Topic) {
			operation, code = "Read", kmsg.ACLOperationRead
		}
		denied := errors.Is(kerr.ErrorForCode(t.ErrorCode), kerr.TopicAuthorizationFailed)
		told := t.ErrorCode == 0 && t.AuthorizedOperations != math.MinInt32
		if denied || told && t.AuthorizedOperations&(1<<code) == 0 {
			lacks = append(lacks, explain(cfg, kerr.TopicAuthorizationFailed, "", operation, *t.Topic))
		}
	}
	if tx != nil {
		if err := tryTransaction(ctx, client, cfg, *tx); err != nil {
			lacks = append(lacks, err)
		}
	}
	return lacks
}

// tryTransaction asks for what a transaction needs. With an id that is configured
// it cannot ask for a producer: that would take the id from the process that has it.
func tryTransaction(ctx context.Context, client *kgo.Client, cfg stream.Config, tx Transaction) error {
	id := tx.ID
	var err error
	if id == "" {
		id = cfg.Group + "-check"
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, int32(tx.Timeout.Milliseconds())
		req.ProducerID, req.ProducerEpoch = -1, -1
		var res *kmsg.InitProducerIDResponse
		if res, err = req.RequestWith(ctx, client); err == nil {
			err = kerr.ErrorForCode(res.ErrorCode)
		}
	} else {
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{id}
		var res *kmsg.DescribeTransactionsResponse
		if res, err = req.RequestWith(ctx, client); err == nil && len(res.TransactionStates) > 0 {
			err = kerr.ErrorForCode(res.TransactionStates[0].ErrorCode)
		}
		if errors.Is(err, kerr.TransactionalIDNotFound) {
			err = nil
		}
	}
	switch {
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return fmt.Errorf("%w: kafka.transaction.timeout of %v exceeds the brokers' transaction.max.timeout.ms", err, tx.Timeout)
	case err != nil:
		return explain(cfg, fmt.Errorf("transactions as %s: %w", id, err), id, "Write", cfg.Outputs...)
	}
	return nil
}
