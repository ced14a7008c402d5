package franz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream/internal/diagnosis"
)

// requestPatience bounds the retries of a request that asks for a permission.
const requestPatience = 30 * time.Second

// tryJoin returns an error if the brokers would not let a process join the group with the
// configured session. It causes no rebalance: since KIP-394 brokers check everything before they
// give a new member the id with which it must join again. They forget the id when the session is
// over. To leave with the id would begin a rebalance (Kafka 4.3.1).
func (c *Client) tryJoin(ctx context.Context) error {
	cfg, err := c.cfg.Checked()
	if err != nil {
		return err
	}
	client, done, err := c.requester(kgo.RetryTimeout(requestPatience))
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
	return c.ExplainSession(ctx, explain(cfg, fmt.Errorf("join group %s: %w", cfg.Group, err), "", "Read", cfg.Inputs...))
}

// balancers are the protocols of the other driver, so that the processes of a group
// can change their guarantee one by one.
func balancers() []kgo.GroupBalancer {
	return []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer()}
}

// ExplainSession adds the broker's bounds for sessions to an error that refuses the session, if the
// broker tells them. Other errors stay as they are.
func (c *Client) ExplainSession(ctx context.Context, err error) error {
	if !diagnosis.Is(err, diagnosis.SessionRefused) {
		return err
	}
	bound := c.brokerTimes(ctx, "group.min.session.timeout.ms", "group.max.session.timeout.ms")
	least, most := bound[0], bound[1]
	if least == 0 || most == 0 {
		return err
	}
	return fmt.Errorf("%w: set it from %v to %v", err, least, most)
}

// brokerTimes returns the values of a broker's configuration that are times in milliseconds. Zero:
// the broker does not tell.
func (c *Client) brokerTimes(ctx context.Context, keys ...string) []time.Duration {
	times := make([]time.Duration, len(keys))
	client, done, err := c.requester(kgo.RetryTimeout(requestPatience))
	if err != nil {
		return times
	}
	defer done()
	admin := kadm.NewClient(client)
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return times
	}
	configs, err := admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if err != nil || len(configs) == 0 {
		return times
	}
	for i, key := range keys {
		at := slices.IndexFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == key })
		if at < 0 {
			continue
		}
		millis, _ := strconv.Atoi(configs[0].Configs[at].MaybeValue())
		times[i] = time.Duration(millis) * time.Millisecond
	}
	return times
}
