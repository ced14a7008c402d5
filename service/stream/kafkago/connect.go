package kafkago

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

const (
	clientID    = "inceptor"
	dialTimeout = 5 * time.Second

	// requestTimeout is how long an answer may take. It is long, because a produce request that
	// is given up and sent again may be stored twice. A broker that is gone is noticed at once,
	// and one that is frozen by the heartbeat.
	requestTimeout = 30 * time.Second

	// pauseMargin is how long an answer may take after a pause.
	pauseMargin = time.Second

	// metadataTTL is how long a change of leaders may go unnoticed.
	metadataTTL = 4 * time.Second
)

// A cluster holds the clients and connections of one driver to one Kafka cluster.
type cluster struct {
	// Set once.
	cfg       stream.Config
	client    *kafka.Client
	producer  *kafka.Client // its requests end with their contexts only
	transport *kafka.Transport
	dialer    *kafka.Dialer
	conns     *wire.Connections
	end       context.CancelFunc // ends what kafka-go does in the background
	exchanger exchanger

	id       string      // of the Kafka cluster; set before the partitions of a generation start
	compares atomic.Bool // brokers compare topics' ids, as far as is known
}

// connect returns a cluster; connections are opened when they are needed. With topics it asks
// only for these, and the broker says what is wrong with each. Without, the broker leaves out the
// topics that are forbidden to us, as if they did not exist.
func connect(cfg stream.Config, topics ...string) *cluster {
	if cfg.Observer == nil {
		cfg.Observer = stream.Unobserved{}
	}
	c := &cluster{cfg: cfg, conns: wire.NewConnections(cfg)}
	c.dialer = &kafka.Dialer{
		ClientID: clientID,
		Timeout:  dialTimeout,
		DialFunc: c.dial,
	}
	ctx, end := context.WithCancel(context.Background())
	c.end = end
	c.transport = &kafka.Transport{
		Context:        ctx,
		ClientID:       clientID,
		DialTimeout:    dialTimeout,
		Dial:           c.dial,
		MetadataTTL:    metadataTTL,
		MetadataTopics: topics,
	}
	c.client = &kafka.Client{
		Addr:      kafka.TCP(cfg.Brokers...),
		Timeout:   requestTimeout,
		Transport: c.transport,
	}
	c.producer = &kafka.Client{Addr: c.client.Addr, Timeout: math.MaxInt64, Transport: c.transport}
	return c
}

// requestContext returns a context for one request. It ends after the client's timeout, or later
// if brokers ask for a pause because of their quotas: the answer comes after the pause, and a
// request that is given up would be sent again, and get the same pause. Its deadline does not
// include pauses, for a connection adds its own.
func (c *cluster) requestContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	deadline := time.Now().Add(c.client.Timeout)
	timeout := time.AfterFunc(c.client.Timeout, func() {
		for pause := c.conns.Paused(); pause > 0; pause = c.conns.Paused() {
			if !retry.Sleep(ctx, pause+pauseMargin) {
				return
			}
		}
		cancel(context.DeadlineExceeded)
	})
	return requestContext{ctx, deadline}, func() {
		timeout.Stop()
		cancel(nil)
	}
}

// A requestContext is a context that may last longer than its deadline.
type requestContext struct {
	context.Context //nolint:containedctx // it is one
	deadline        time.Time
}

// Deadline implements context.Context.
func (p requestContext) Deadline() (time.Time, bool) {
	if earlier, ok := p.Context.Deadline(); ok && earlier.Before(p.deadline) {
		return earlier, true
	}
	return p.deadline, true
}

// partitions returns the number of a topic's partitions, from the last metadata. A topic that
// does not exist has none.
func (c *cluster) partitions(ctx context.Context, topic string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	res, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	t := res.Topics[0]
	if t.Error != nil && !errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
		return 0, t.Error
	}
	return len(t.Partitions), nil
}

// close closes every connection, also those that wait for an answer, so that no goroutine of
// kafka-go outlives the driver. Without the end of the context, a late request would start
// kafka-go again.
func (c *cluster) close() {
	c.end()
	c.transport.CloseIdleConnections()
	c.conns.Close()
}

// dial opens a connection that is ready for requests. kafka-go's own TLS and SASL are not used:
// it cannot read credentials again, has no OAUTHBEARER, and does not renew a login.
func (c *cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.conns.Dial(ctx, network, address)
	if err != nil || c.cfg.SASL.Mechanism == "" {
		return conn, err
	}
	return logIn(ctx, conn, c.cfg.SASL, c.cfg.Observer.Authentication)
}

func compression(name string) (kafka.Compression, error) {
	switch name {
	case "", "none":
		return 0, nil
	case "gzip":
		return kafka.Gzip, nil
	case "snappy":
		return kafka.Snappy, nil
	case "lz4":
		return kafka.Lz4, nil
	case "zstd":
		return kafka.Zstd, nil
	}
	return 0, fmt.Errorf("compression %q: want none, gzip, snappy, lz4 or zstd", name)
}
