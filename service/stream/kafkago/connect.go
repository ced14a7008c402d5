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

	"inceptor/service/stream"
)

const (
	clientID    = "inceptor"
	dialTimeout = 5 * time.Second

	// requestTimeout is how long an answer may take. Generous, for a produce
	// request that is given up and sent again may be stored twice; a broker
	// that is gone shows at once, one that is frozen by the heartbeat.
	requestTimeout = 30 * time.Second

	// pauseMargin is how long an answer may take that comes after a pause.
	pauseMargin = time.Second

	// metadataTTL is how long a moved leader may go unnoticed.
	metadataTTL = 4 * time.Second
)

// A cluster is the way to one Kafka cluster: all connections of one driver.
type cluster struct {
	cfg       stream.Config
	client    *kafka.Client
	producer  *kafka.Client // whose requests end with their contexts only
	transport *kafka.Transport
	dialer    *kafka.Dialer
	conns     *stream.Connections
	end       context.CancelFunc // of what kafka-go does by itself
	exchanger exchanger
	id        string      // of the Kafka cluster; set before a generation works
	compares  atomic.Bool // brokers compare topics' ids, as far as is known
}

// connect prepares the way; connections are made when they are needed. With
// topics it knows only these, and learns of each what is wrong with it; without,
// the broker leaves those out that are forbidden to us, as if there were none.
func connect(cfg stream.Config, topics ...string) *cluster {
	if cfg.Observer == nil {
		cfg.Observer = stream.Unobserved{}
	}
	c := &cluster{cfg: cfg, conns: stream.NewConnections(cfg)}
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

// patient returns a context for one request. It ends when the answer has taken
// the client's timeout, or later if brokers want a pause by their quotas: the answer
// comes after the pause, and a request that was given up would be sent again, for
// the same pause. Its deadline is without pauses, for a connection adds its own.
func (c *cluster) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	deadline := time.Now().Add(c.client.Timeout)
	late := time.AfterFunc(c.client.Timeout, func() {
		for pause := c.conns.Paused(); pause > 0; pause = c.conns.Paused() {
			if !sleep(ctx, pause+pauseMargin) {
				return
			}
		}
		cancel(context.DeadlineExceeded)
	})
	return patience{ctx, deadline}, func() {
		late.Stop()
		cancel(nil)
	}
}

// A patience is a context that may last longer than its deadline.
type patience struct {
	context.Context //nolint:containedctx // it is one
	deadline        time.Time
}

// Deadline implements context.Context.
func (p patience) Deadline() (time.Time, bool) {
	if earlier, ok := p.Context.Deadline(); ok && earlier.Before(p.deadline) {
		return earlier, true
	}
	return p.deadline, true
}

// partitions counts a topic's partitions as of the last metadata; a topic that
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

// close ends every connection, also those that wait for an answer, so that no
// goroutine of kafka-go outlives the driver. A request that comes late would make
// kafka-go begin anew, but for the context.
func (c *cluster) close() {
	c.end()
	c.transport.CloseIdleConnections()
	c.conns.Close()
}

// dial makes a connection on which requests can be sent. kafka-go knows nothing of TLS and SASL: it
// could not read credentials again, has no OAUTHBEARER, and does not renew a login.
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
