package stream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds the making of a connection, TLS included.
const dialTimeout = 5 * time.Second

// Connections are those that a driver has open. They remember which brokers do
// not answer, so that a client that tries one address after the other finds
// one that does, and keep to the brokers' quotas. Closing them breaks off whatever
// the client waits for, and may wait for very long. Safe for concurrent use.
type Connections struct {
	cfg   Config // what Secure needs of it
	peers *peers

	mu    sync.Mutex
	open  map[*connection]struct{}
	shut  bool
	dials map[int]context.CancelFunc // under way
	dial  int                        // number of the next one
}

// NewConnections returns the connections to the brokers of cfg, none so far.
func NewConnections(cfg Config) *Connections {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newConnections(cfg, &peers{brokers: cfg.Brokers, log: log, failures: map[string]failure{}})
}

// Again returns other connections to the same brokers, none so far, which
// know what these know of the brokers.
func (s *Connections) Again() *Connections { return newConnections(s.cfg, s.peers) }

func newConnections(cfg Config, p *peers) *Connections {
	return &Connections{cfg: cfg, peers: p, open: map[*connection]struct{}{}, dials: map[int]context.CancelFunc{}}
}

// Dial makes a connection, secured as the configuration says. It fails at once
// for a broker that was silent a moment ago, if there is another one to ask.
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
	return s.cfg.Secure(ctx, conn, address)
}

// Explain adds to err what each address said that has not answered since.
func (s *Connections) Explain(err error) error { return s.peers.explain(err) }

// Paused is for how long brokers want no more requests yet, by their quotas.
func (s *Connections) Paused() time.Duration { return s.peers.paused() }

// Throttled is how many answers brokers have held back or cut short so far, by
// their quotas. Such an answer may have nothing in it though there is more.
func (s *Connections) Throttled() int { return s.peers.throttledSoFar() }

// Close closes what is open now; dialling stays possible.
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

// Shut closes what is open, and ends dialling for good.
func (s *Connections) Shut() {
	s.mu.Lock()
	s.shut = true
	for _, cancel := range s.dials {
		cancel()
	}
	s.mu.Unlock()
	s.Close()
}
