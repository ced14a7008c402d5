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
)

const (
	clientID = "inceptor"

	// maxRequest is a little less than the socket.request.max.bytes of a
	// broker, which breaks the connection beyond it, without a word.
	maxRequest = 100<<20 - 64<<10

	// produceTimeout is how long a broker waits for the others to have a record.
	produceTimeout = 5 * time.Second

	// requestTimeout is how long an answer may take beyond the time that the
	// request itself gives the broker. Giving up is safe: what is sent again
	// is recognised.
	requestTimeout = 6 * time.Second

	// metadataAge is how long a moved leader, or a new partition, may go
	// unnoticed.
	metadataAge = 3 * time.Second
)

// connection are the options that say where to, and as whom.
func connection(cfg stream.Config, conns *stream.Connections) []kgo.Opt {
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
		opts = append(opts, kgo.SASL(cfg.SASL.Client()))
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

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (s *session) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	operation := "connect to the brokers"
	err = refusedLogin(s.cfg.SASL, err)
	if s.cfg.SASL.Mechanism != "" && (err == nil || unauthenticated(err)) {
		s.cfg.Observer.Authentication(err)
	}
	switch {
	case err == nil:
		s.trouble.Worked(operation)
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed), stream.Avoided(err):
	case permanent(err), unauthenticated(err) && s.latest.Load() == nil:
		s.end(fmt.Errorf("connect to %s: %w", net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port))), err))
	default:
		s.shaken.Store(true)
		s.trouble.Failed(operation, s.conns.Explain(err))
	}
}

// A logger hands franz-go's lines on. What matters comes back as an error, to
// be logged with measure.
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
