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
	mu   sync.Mutex
	open map[*connection]struct{}
	shut bool
}

type connection struct {
	net.Conn
	set *Connections
}

// Dial makes a connection.
func (s *Connections) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &connection{nc, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	if s.open == nil {
		s.open = map[*connection]struct{}{}
	}
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
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close()
	}
}

// Shut closes what is open, and whatever is dialled from now on.
func (s *Connections) Shut() {
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	s.Close()
}
