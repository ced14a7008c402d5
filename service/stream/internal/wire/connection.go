package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// headBytes is how much of a response is read before the client gets any of it: size,
	// correlation id, an empty list of tags, and the pause.
	headBytes = 4 + 4 + 1 + 4

	// maxWhole bounds a response that is read whole, because its pause is at its end.
	maxWhole = 1 << 20
)

// A connection makes the pauses that a broker asks for when a quota is exceeded
// (throttle_time_ms), and notices a broker that is silent.
//
// A broker that wants a pause answers at once, and does not read the next request of this
// connection until the pause is over. franz-go then delays all requests to the broker, heartbeats
// and commits too, and so falls out of the group. kafka-go does not wait, and uses the connection
// for its next request. So a connection removes the pause from the response, and gives the
// response to the client when the pause is over. Then only this connection waits.
//
// A broker is silent if a deadline passes while a request is unanswered, unless the deadline was
// in the past when it was set.
type connection struct {
	// Set once.
	net.Conn
	set     *Connections
	address string

	closing   sync.Once
	closed    chan struct{}
	deadlines chan struct{} // signalled when the deadline of reading changes

	mu       sync.Mutex // guards the fields below
	sent     []request  // not answered yet, in their order
	rest     int        // bytes of the last request that are still to be written
	opaque   bool       // the bytes are not understood, and pass as they are
	deadline time.Time  // of reading
	gaveUp   bool       // the deadline was in the past when it was set: the client stops reading by itself
	lastRead time.Time  // when something was last read

	// Used by the reader only.
	in   *bufio.Reader // on Conn, so that a small response takes one system call
	head []byte        // of a response; the client gets it next
	body int           // bytes of the response that follow head
}

// A request is one that waits for its answer.
type request struct {
	key, version int16
	number       int32
	at           time.Time
}

func newConnection(nc net.Conn, set *Connections, address string) *connection {
	return &connection{Conn: nc, in: bufio.NewReader(nc), set: set, address: address, closed: make(chan struct{}), deadlines: make(chan struct{}, 1)}
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.closing.Do(func() {
		close(c.closed)
		c.mu.Lock()
		defer c.mu.Unlock()
		// Clients end a login that takes too long so. Other requests may rightly wait for long.
		if len(c.sent) > 0 && isHandshake(c.sent[0].key) && time.Since(c.sent[0].at) >= silentAfter {
			c.set.peers.silent(c.address, time.Since(c.sent[0].at))
		}
	})
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// isHandshake tells whether a connection begins with requests of this kind.
func isHandshake(key int16) bool {
	return key == kmsg.ApiVersions.Int16() || key == kmsg.SASLHandshake.Int16() || key == kmsg.SASLAuthenticate.Int16()
}

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	c.noteDeadline(t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *connection) SetReadDeadline(t time.Time) error {
	c.noteDeadline(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *connection) noteDeadline(t time.Time) {
	c.mu.Lock()
	c.deadline, c.gaveUp = t, !t.IsZero() && !t.After(time.Now())
	c.mu.Unlock()
	select {
	case c.deadlines <- struct{}{}:
	default:
	}
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	c.noteRequests(p)
	return c.Conn.Write(p)
}

// noteRequests remembers the requests that begin in p.
func (c *connection) noteRequests(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.opaque && len(p) > 0 {
		if c.rest == 0 {
			if len(p) < 12 {
				c.opaque = true
				return
			}
			c.rest = 4 + int(binary.BigEndian.Uint32(p))
			c.sent = append(c.sent, request{
				int16(binary.BigEndian.Uint16(p[4:])), int16(binary.BigEndian.Uint16(p[6:])),
				int32(binary.BigEndian.Uint32(p[8:])), time.Now(),
			})
		}
		n := min(c.rest, len(p))
		c.rest -= n
		p = p[n:]
	}
}

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.head) == 0 && c.body == 0 {
		if err := c.begin(); err != nil && len(c.head) == 0 {
			return 0, c.noteSilence(err)
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.body)])
	c.body -= n
	return n, c.noteSilence(err)
}

// begin reads the head of a response, and makes the pause that it asks for.
func (c *connection) begin() error {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(c.in, head[:8])
	if err != nil {
		if c.head = head[:n]; n > 0 {
			c.body = math.MaxInt // no response begins here any more
		}
		return err
	}
	c.set.peers.answered(c.address)
	size, number := int(int32(binary.BigEndian.Uint32(head))), int32(binary.BigEndian.Uint32(head[4:]))
	r, ok := c.answered(number)
	if !ok || size < 4 {
		c.head, c.body = head[:8], math.MaxInt
		return nil
	}
	c.body = size - 4
	whole := r.key == kmsg.Produce.Int16() && c.body <= maxWhole
	if whole {
		head = append(head[:8], make([]byte, c.body)...)
	}
	n, err = io.ReadFull(c.in, head[8:8+min(len(head)-8, c.body)])
	c.head = head[:8+n]
	c.body -= n
	if err != nil {
		return err
	}
	var pause time.Duration
	if whole {
		c.head, pause = takeLastPause(r, c.head)
	} else {
		pause = takeFirstPause(r, c.head)
	}
	if pause > 0 {
		c.set.peers.throttled(c.address, kmsg.NameForKey(r.key), pause)
		return c.wait(pause)
	}
	return nil
}

// answered removes the request with this number from those that wait. If there is none, the peer
// speaks another protocol, and the connection passes all bytes as they are from then on.
func (c *connection) answered(number int32) (request, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastRead = time.Now()
	if c.opaque || len(c.sent) == 0 || c.sent[0].number != number {
		c.opaque, c.sent = true, nil
		return request{}, false
	}
	r := c.sent[0]
	c.sent = c.sent[1:]
	return r, true
}

// wait makes a pause, and moves the client's deadline by as much. A client that gives up
// meanwhile sets a deadline in the past.
func (c *connection) wait(pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.deadline.IsZero() || c.gaveUp {
				return nil
			}
			c.deadline = c.deadline.Add(pause)
			return c.Conn.SetReadDeadline(c.deadline)
		case <-c.closed:
			c.head = nil
			return net.ErrClosed
		case <-c.deadlines:
			c.mu.Lock()
			broken := c.gaveUp
			c.mu.Unlock()
			if broken {
				c.head = nil
				return os.ErrDeadlineExceeded
			}
		}
	}
}

// noteSilence remembers a broker that does not answer a request: it has closed the connection, or
// the deadline has passed, and not because the client stopped reading by itself.
func (c *connection) noteSilence(err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, io.EOF) && len(c.sent) > 0 {
		c.set.peers.failed(c.address, errors.New("closed the connection without an answer"), 0)
	}
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		return err
	}
	if c.gaveUp || len(c.sent) == 0 {
		return err
	}
	since := c.sent[0].at
	if c.lastRead.After(since) {
		since = c.lastRead
	}
	if waited := time.Since(since); waited >= silentAfter {
		c.set.peers.silent(c.address, waited)
	}
	return err
}

// takeFirstPause removes the pause from a response that begins with it.
func takeFirstPause(r request, head []byte) time.Duration {
	at, ok := firstPause(r.key, r.version)
	if !ok || len(head) < at+4 || at == 9 && head[8] != 0 { // with tags, of which there are none so far
		return 0
	}
	pause := int32(binary.BigEndian.Uint32(head[at:]))
	binary.BigEndian.PutUint32(head[at:], 0)
	return time.Duration(max(0, pause)) * time.Millisecond
}

// pausePlaces holds the results of firstPause.
var pausePlaces sync.Map

// firstPause returns where in a response the pause is, and whether there is one at the beginning
// that the client must make: some brokers make it themselves.
func firstPause(key, version int16) (at int, ok bool) {
	type kind struct{ key, version int16 }
	if known, ok := pausePlaces.Load(kind{key, version}); ok {
		return known.(int), known.(int) > 0
	}
	defer func() { pausePlaces.Store(kind{key, version}, at) }()
	response := kmsg.ResponseForKey(key)
	if response == nil || version < 0 || version > response.MaxVersion() {
		return 0, false
	}
	response.SetVersion(version)
	throttle, ok := response.(kmsg.ThrottleResponse)
	if !ok {
		return 0, false
	}
	const sample = 0x01020304
	response.(kmsg.SetThrottleResponse).SetThrottle(sample)
	if _, after := throttle.Throttle(); !after {
		return 0, false
	}
	if b := response.AppendTo(nil); len(b) < 4 || binary.BigEndian.Uint32(b) != sample {
		return 0, false
	}
	if response.IsFlexible() && key != kmsg.ApiVersions.Int16() {
		return 9, true
	}
	return 8, true
}

// takeLastPause removes the pause from the response to a produce request, which has it after
// everything else. The response may change its length.
func takeLastPause(r request, whole []byte) ([]byte, time.Duration) {
	res := kmsg.NewPtrProduceResponse()
	if r.version < 0 || r.version > res.MaxVersion() {
		return whole, 0
	}
	res.SetVersion(r.version)
	at := 8
	if res.IsFlexible() {
		at = 9
	}
	if len(whole) < at || at == 9 && whole[8] != 0 || res.ReadFrom(whole[at:]) != nil {
		return whole, 0
	}
	millis, after := res.Throttle()
	if millis <= 0 || !after {
		return whole, 0
	}
	res.ThrottleMillis = 0
	whole = res.AppendTo(whole[:at:at])
	binary.BigEndian.PutUint32(whole, uint32(len(whole)-4))
	return whole, time.Duration(millis) * time.Millisecond
}
