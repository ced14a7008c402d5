package remotetest

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

// A Server serves a Service on a free port of 127.0.0.1, over connections that can be frozen
// and cut.
type Server struct {
	tb      testing.TB
	service Service
	options []grpc.ServerOption
	addr    string
	memory  atomic.Pointer[bufconn.Listener] // of ServeInMemory; nil: it listens on addr

	server *grpc.Server
	line   *line
	ended  chan struct{}
}

// Serve starts a server, and stops it when the test ends.
func Serve(tb testing.TB, s Service, options ...grpc.ServerOption) *Server {
	tb.Helper()
	server := &Server{tb: tb, service: s, options: options, addr: "127.0.0.1:0"}
	server.Start()
	tb.Cleanup(server.Kill)
	return server
}

// ServeInMemory is Serve without a network: the server is reached by Dial alone. So it can run in a
// bubble of package synctest, where time passes only while everything waits.
func ServeInMemory(tb testing.TB, s Service, options ...grpc.ServerOption) *Server {
	tb.Helper()
	server := &Server{tb: tb, service: s, options: options, addr: "127.0.0.1:1"}
	server.memory.Store(bufconn.Listen(0))
	server.Start()
	tb.Cleanup(server.Kill)
	return server
}

// Dial connects to a server of ServeInMemory. A killed one refuses that.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	c, err := s.memory.Load().DialContext(ctx)
	if err != nil && ctx.Err() == nil {
		err = &net.OpError{Op: "dial", Net: "memory", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return c, err
}

func (s *Server) listen() net.Listener {
	s.tb.Helper()
	if s.memory.Load() != nil {
		l := bufconn.Listen(64 << 10)
		s.memory.Store(l)
		return l
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.addr = l.Addr().String()
	return l
}

// AtMost limits the messages that a server accepts to n bytes.
func AtMost(n int) grpc.ServerOption { return grpc.MaxRecvMsgSize(n) }

// Addr returns the address of the server, host:port.
func (s *Server) Addr() string { return s.addr }

// Start starts a killed server again, at its old address.
func (s *Server) Start() {
	s.tb.Helper()
	s.line = &line{Listener: s.listen(), conns: map[net.Conn]bool{}}
	s.server = NewServer(s.service, s.options...)
	s.ended = make(chan struct{})
	go func(server *grpc.Server, l net.Listener, ended chan struct{}) {
		defer close(ended)
		_ = server.Serve(l) // it ends when it is killed
	}(s.server, s.line, s.ended)
}

// Kill stops the server and cuts its connections at once.
func (s *Server) Kill() {
	s.line.thaw()
	s.line.cut() // otherwise Stop waits for handlers that wait for their client
	s.server.Stop()
	<-s.ended
}

// Freeze makes the server behave like a stopped process: it accepts connections and data, and
// sends nothing back.
func (s *Server) Freeze() { s.line.freeze() }

// Thaw ends a Freeze.
func (s *Server) Thaw() { s.line.thaw() }

// Cut cuts all connections.
func (s *Server) Cut() { s.line.cut() }

// CutAfter cuts each connection after n more bytes from the server, wherever that is in a
// message; a negative n stops it.
func (s *Server) CutAfter(n int) { s.line.cutAfter(n) }

// A line is a listener whose connections have faults.
type line struct {
	net.Listener

	mu     sync.Mutex
	frozen chan struct{} // closed by thaw; nil: not frozen
	limit  int           // bytes left of each connection, if limited
	limits bool
	conns  map[net.Conn]bool
}

func (l *line) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return &conn{Conn: c, line: l}, nil
}

func (l *line) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

func (l *line) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *line) cutAfter(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit, l.limits = n, n >= 0
}

// pass waits while the line is frozen. It returns how many of n bytes to write, and whether to
// cut the connection after them.
func (l *line) pass(n int) (int, bool) {
	l.mu.Lock()
	for l.frozen != nil {
		frozen := l.frozen
		l.mu.Unlock()
		<-frozen
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if !l.limits || n <= l.limit {
		if l.limits {
			l.limit -= n
		}
		return n, false
	}
	n = l.limit
	l.limit = 0
	return n, true
}

type conn struct {
	net.Conn
	line *line
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.line.pass(0)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, cut := c.line.pass(len(b))
	if !cut {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:n])
	_ = c.Close()
	if err == nil {
		err = net.ErrClosed
	}
	return n, err
}

func (c *conn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c.Conn)
	c.line.mu.Unlock()
	return c.Conn.Close()
}
