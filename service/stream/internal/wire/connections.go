package wire

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"inceptor/service/stream"
)

// dialTimeout bounds the time to open a connection, with TLS.
const dialTimeout = 5 * time.Second

// Connections opens the connections of a client, and closes them together. It remembers which
// brokers do not answer, so that a client that tries one address after the other finds one that
// does; and it keeps to the brokers' quotas. Closing the connections ends whatever the client
// waits for, which may otherwise take very long. Safe for concurrent use.
type Connections struct {
	// Set once.
	cfg   stream.Config // secure uses it
	peers *peers

	mu    sync.Mutex // guards the fields below
	open  map[*connection]struct{}
	shut  bool
	dials map[int]context.CancelFunc // under way
	dial  int                        // number of the next one
}

// NewConnections returns Connections to the brokers of cfg. None is open yet.
func NewConnections(cfg stream.Config) *Connections {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newConnections(cfg, &peers{brokers: cfg.Brokers, log: log, failures: map[string]failure{}})
}

// Again returns other Connections to the same brokers, which share what is known of the brokers.
// None is open yet.
func (s *Connections) Again() *Connections { return newConnections(s.cfg, s.peers) }

func newConnections(cfg stream.Config, p *peers) *Connections {
	return &Connections{cfg: cfg, peers: p, open: map[*connection]struct{}{}, dials: map[int]context.CancelFunc{}}
}

// Dial opens a connection, with TLS if the configuration says so. It fails at once for a broker
// that was silent a moment ago, if there is another one to ask.
func (s *Connections) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := s.peers.avoided(address, time.Now()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		return nil, net.ErrClosed
	}
	number := s.dial
	s.dial++
	s.dials[number] = cancel
	s.mu.Unlock()

	begin := time.Now()
	nc, err := s.connect(ctx, network, address)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dials, number)
	switch {
	case err != nil:
		if !errors.Is(err, context.Canceled) {
			s.peers.failed(address, err, time.Since(begin))
		}
		return nil, err
	case s.shut:
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	c := newConnection(nc, s, address)
	s.open[c] = struct{}{}
	return c, nil
}

func (s *Connections) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return secure(ctx, s.cfg, conn, address)
}

// Explain adds to err the last error of each address that has not answered since.
func (s *Connections) Explain(err error) error { return s.peers.explain(err) }

// Paused returns for how long brokers want no more requests, because of their quotas.
func (s *Connections) Paused() time.Duration { return s.peers.paused() }

// Throttled returns how many answers brokers have delayed or shortened so far, because of their
// quotas. Such an answer may be empty though there is more.
func (s *Connections) Throttled() int { return s.peers.throttledSoFar() }

// Close closes the connections that are open now. New ones may be opened.
func (s *Connections) Close() {
	s.mu.Lock()
	open := make([]*connection, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	clear(s.open)
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// Shut closes the connections, and lets none be opened any more.
func (s *Connections) Shut() {
	s.mu.Lock()
	s.shut = true
	for _, cancel := range s.dials {
		cancel()
	}
	s.mu.Unlock()
	s.Close()
}

// Heartbeat returns how often a member of a group with such a session sends a heartbeat. The
// answers tell it that other members come or go.
func Heartbeat(session time.Duration) time.Duration { return min(session/6, 3*time.Second) }
