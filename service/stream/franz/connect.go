package franz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

const (
	clientID = "inceptor"

	// maxRequest is a little less than the default socket.request.max.bytes. A
	// broker closes the connection after a larger request, without an answer.
	maxRequest = 100<<20 - 64<<10

	// produceTimeout is how long a broker waits for the other replicas.
	produceTimeout = 5 * time.Second

	// requestTimeout is how long an answer may take beyond the time that the
	// request itself gives the broker. Giving up is safe: brokers recognise what
	// is sent again.
	requestTimeout = 6 * time.Second

	// metadataAge is how long a moved leader or a new partition may go unnoticed.
	metadataAge = 3 * time.Second
)

// connection returns the options for the brokers' addresses and the login.
func connection(cfg stream.Config, conns *wire.Connections) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(clientID),
		kgo.SoftwareNameAndVersion(clientID, "1"),
		kgo.Dialer(conns.Dial),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MetadataMaxAge(metadataAge),
		kgo.DisableClientMetrics(),
	}
	if cfg.SASL.Mechanism != "" {
		opts = append(opts, kgo.SASL(wire.SASL(cfg.SASL)))
	}
	return opts
}

func compression(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

// A connectHook reports connections to brokers, and ends the session if one can
// never be made.
type connectHook struct{ *sessionContext }

var _ kgo.HookBrokerConnect = connectHook{}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h connectHook) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	operation := "connect to the brokers"
	err = refusedLogin(h.cfg.SASL, err)
	if h.cfg.SASL.Mechanism != "" && (err == nil || unauthenticated(err)) {
		h.cfg.Observer.Authentication(err)
	}
	switch {
	case err == nil:
		h.outages.Recovered(operation)
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed), wire.Avoided(err):
	case permanent(err), unauthenticated(err) && h.latest.Load() == nil:
		h.endSession(fmt.Errorf("connect to %s: %w", net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port))), err))
	default:
		h.brokerLost.Store(true)
		h.outages.Failed(operation, h.conns.Explain(err))
	}
}

// A logger passes franz-go's lines on, at level debug. What matters comes back as
// an error, and the driver logs that.
type logger struct{ log *slog.Logger }

// Level implements kgo.Logger.
func (l logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

// Log implements kgo.Logger.
func (l logger) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug("franz-go", append([]any{"message", msg}, keyvals...)...)
}
