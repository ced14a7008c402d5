package stream

import (
	"context"
	"net"
	"sync"
	"time"
)

const dialTimeout = 5 * time.Second

// Connections are those that a driver has open. Closing them breaks off
// whatever its client waits for, and may wait for very long. Safe for
// concurrent use; the zero value is ready.
type Connections struct {
	mu    sync.Mutex
	open  map[*connection]struct{}
	shut  bool
	dials map[int]context.CancelFunc // under way
	dial  int                        // number of the next one
}

type connection struct {
	net.Conn
	set *Connections
}

// Dial makes a connection.
func (s *Connections) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		return nil, net.ErrClosed
	}
	if s.open == nil {
		s.open, s.dials = map[*connection]struct{}{}, map[int]context.CancelFunc{}
	}
	number := s.dial
	s.dial++
	s.dials[number] = cancel
	s.mu.Unlock()

	nc, err := new(net.Dialer).DialContext(ctx, network, address)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dials, number)
	switch {
	case err != nil:
		return nil, err
	case s.shut:
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	c := &connection{nc, s}
	s.open[c] = struct{}{}
	return c, nil
}

func (c *connection) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

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
		_ = c.Conn.Close()
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
