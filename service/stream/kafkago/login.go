package kafkago

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

const (
	// loginTimeout bounds a login, including the time to get a token.
	loginTimeout = 5 * time.Second

	// maxLoginResponse bounds a response that a broker may send during a login.
	maxLoginResponse = 1 << 20

	// maxLifetime is longer than any connection lasts.
	maxLifetime = 365 * 24 * time.Hour
)

// A login is a connection that is authenticated, and authenticated again before its session
// expires (KIP-368): a broker with connections.max.reauth.ms closes a connection otherwise.
// kafka-go authenticates once, and would lose the connection of its heartbeats, and with it the
// generation.
//
// It relies on how kafka-go uses a connection: one goroutine writes a request and reads the
// answer, and none reads while no answer is due.
type login struct {
	// Set once.
	net.Conn
	sasl    stream.SASL
	report  func(error) // of each handshake, nil if it went well
	version int16       // of SaslAuthenticate, as the broker knows it; set by the first handshake

	mu             sync.Mutex // guards the fields below
	renew          time.Time  // when the session must be renewed; zero: never
	sent, received frames
	reads, writes  time.Time // kafka-go's deadlines, which a handshake replaces for its time
}

// logIn authenticates a connection. It closes it if it returns an error.
func logIn(ctx context.Context, conn net.Conn, s stream.SASL, report func(error)) (net.Conn, error) {
	l := &login{Conn: conn, sasl: s, report: report}
	if err := l.authenticate(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return l, nil
}

// Write implements net.Conn.
func (l *login) Write(p []byte) (int, error) {
	l.mu.Lock()
	due := !l.renew.IsZero() && time.Now().After(l.renew) && l.sent.between() && l.sent.count == l.received.count
	l.mu.Unlock()
	if due {
		if err := l.authenticate(context.Background()); err != nil {
			return 0, errors.Join(err, l.Close())
		}
	}
	n, err := l.Conn.Write(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent.pass(p[:n])
	return n, err
}

// Read implements net.Conn.
func (l *login) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received.pass(p[:n])
	return n, err
}

// SetDeadline implements net.Conn.
func (l *login) SetDeadline(t time.Time) error {
	return errors.Join(l.SetReadDeadline(t), l.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (l *login) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads = t
	return l.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (l *login) SetWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = t
	return l.Conn.SetWriteDeadline(t)
}

// authenticate goes through one handshake, within loginTimeout.
func (l *login) authenticate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			_ = l.Close()
		}
	})()
	// With a deadline, and not only a close, it is seen that the broker is silent.
	deadline, _ := ctx.Deadline()
	err := l.Conn.SetDeadline(deadline)
	var lifetime time.Duration
	if err == nil {
		lifetime, err = l.handshake(ctx)
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, _ = l.Conn.SetReadDeadline(l.reads), l.Conn.SetWriteDeadline(l.writes) // an error shows at the next use
	}()
	var refused *stream.AuthenticationError
	if err == nil || errors.As(err, &refused) {
		l.report(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renew = renewal(time.Now(), lifetime, rand.Float64())
	return err
}

// renewal returns when to renew a session that lasts for lifetime: after 85 to 95 % of it, as in
// Kafka's own client, so that connections do not all log in at once. A broker accepts no second
// handshake within a second.
func renewal(now time.Time, lifetime time.Duration, random float64) time.Time {
	if lifetime <= 0 {
		return time.Time{}
	}
	share := time.Duration(float64(min(lifetime, maxLifetime)) * (0.85 + 0.1*random))
	return now.Add(max(share, 1100*time.Millisecond))
}

// handshake logs in as KIP-152 says, and returns how long the session lasts; zero means for ever.
func (l *login) handshake(ctx context.Context) (time.Duration, error) {
	if l.version == 0 && l.renew.IsZero() {
		var err error
		if l.version, err = l.authenticateVersion(); err != nil {
			return 0, err
		}
	}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Version, hello.Mechanism = 1, l.sasl.Mechanism
	res, err := l.exchange(hello)
	if err != nil {
		return 0, err
	}
	if answer := res.(*kmsg.SASLHandshakeResponse); answer.ErrorCode != 0 {
		return 0, l.refused(fmt.Errorf("%w: the broker offers %q", kafka.Error(answer.ErrorCode), answer.SupportedMechanisms))
	}
	session, message, err := wire.SASL(l.sasl).Authenticate(ctx, l.RemoteAddr().String())
	if err != nil {
		return 0, err
	}
	for {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version, req.SASLAuthBytes = l.version, message
		res, err := l.exchange(req)
		if err != nil {
			return 0, err
		}
		answer := res.(*kmsg.SASLAuthenticateResponse)
		if answer.ErrorCode != 0 {
			err := error(kafka.Error(answer.ErrorCode))
			if answer.ErrorMessage != nil {
				err = fmt.Errorf("%w: %s", err, *answer.ErrorMessage)
			}
			return 0, l.refused(err)
		}
		done, next, err := session.Challenge(answer.SASLAuthBytes)
		if err != nil {
			return 0, l.refused(err)
		}
		if done {
			return time.Duration(min(answer.SessionLifetimeMillis, maxLifetime.Milliseconds())) * time.Millisecond, nil
		}
		message = next
	}
}

func (l *login) refused(err error) error {
	return &stream.AuthenticationError{Source: l.sasl.Source, Err: err}
}

// authenticateVersion returns 1 if the broker tells how long a session lasts, as since Kafka 2.2,
// else 0.
func (l *login) authenticateVersion() (int16, error) {
	res, err := l.exchange(kmsg.NewPtrApiVersionsRequest()) // version 0, which every broker knows
	if err != nil {
		return 0, err
	}
	for _, k := range res.(*kmsg.ApiVersionsResponse).ApiKeys {
		if k.ApiKey == kmsg.SASLAuthenticate.Int16() {
			return min(k.MaxVersion, 1), nil
		}
	}
	return 0, nil
}

// exchange sends one request and reads the answer.
func (l *login) exchange(req kmsg.Request) (kmsg.Response, error) {
	res, err := roundTrip(l.Conn, req, maxLoginResponse, nil)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	return res, nil
}

// frames counts the messages in one direction. A message is four bytes of length, and as many
// bytes as these say.
type frames struct {
	count int
	head  [4]byte
	n     int   // bytes of head that have passed
	left  int64 // bytes of the body that have not
}

// between tells whether the last message is complete.
func (f *frames) between() bool { return f.n == 0 && f.left == 0 }

func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.left == 0 {
			n := copy(f.head[f.n:], p)
			f.n, p = f.n+n, p[n:]
			if f.n < len(f.head) {
				return
			}
			f.n, f.left = 0, int64(binary.BigEndian.Uint32(f.head[:]))
		} else {
			n := min(f.left, int64(len(p)))
			f.left, p = f.left-n, p[n:]
		}
		if f.left == 0 {
			f.count++
		}
	}
}
