package stream

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
	// headBytes is how much of a response is read before any of it is given to
	// the client: size, correlation id, an empty list of tags, and the pause.
	headBytes = 4 + 4 + 1 + 4

	// maxWhole bounds a response that is read whole, because its pause is at its end.
	maxWhole = 1 << 20
)

// A connection waits for the pauses that a broker asks for when a quota is
// exceeded (throttle_time_ms), and notices a broker that is silent.
//
// Such a broker answers at once, and does not read the next request of this
// connection until the pause is over. franz-go then delays all requests to the
// broker, heartbeats and commits too, and so falls out of the group. kafka-go
// does not wait, and uses the connection for its next request. So a connection
// removes the pause from the response, and hands the response to the client when
// the pause is over. Then only this connection waits.
//
// A broker is silent if a deadline passes while a request is unanswered, unless
// the deadline was past already when it was set.
type connection struct {
	net.Conn
	set     *Connections
	address string

	closing   sync.Once
	closed    chan struct{}
	deadlines chan struct{} // signalled when the deadline of reading changes

	mu       sync.Mutex
	sent     []request // not answered yet, in their order
	rest     int       // bytes of the last request that are still to be written
	blind    bool      // what passes is not understood
	deadline time.Time // of reading
	broken   bool      // that deadline was past when it was set: the client gives up by itself
	heard    time.Time // when something was last read

	// Of the reader alone.
	in   *bufio.Reader // of Conn: a small response takes one system call
	head []byte        // of a response, still to be given to the client
	body int           // bytes of it that follow
}

// A request is one that was sent.
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
		// A login that takes too long ends so; other requests may rightly wait for long.
		if len(c.sent) > 0 && isHandshake(c.sent[0].key) && time.Since(c.sent[0].at) >= silentAfter {
			c.set.peers.silent(c.address, time.Since(c.sent[0].at))
		}
	})
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// isHandshake tells whether a request is one of those with which a connection begins.
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
	c.deadline, c.broken = t, !t.IsZero() && !t.After(time.Now())
	c.mu.Unlock()
	select {
	case c.deadlines <- struct{}{}:
	default:
	}
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	c.note(p)
	return c.Conn.Write(p)
}

// note remembers the requests that begin in p.
func (c *connection) note(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.blind && len(p) > 0 {
		if c.rest == 0 {
			if len(p) < 12 {
				c.blind = true
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
			return 0, c.judge(err)
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.body)])
	c.body -= n
	return n, c.judge(err)
}

// begin reads the beginning of a response, and waits for as long as it says.
func (c *connection) begin() error {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(c.in, head[:8])
	if err != nil {
		if c.head = head[:n]; n > 0 {
			c.body = math.MaxInt // it is no beginning any more
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

// answered takes the request with this number from those that wait. Without one the
// connection speaks something else, and is left alone from then on.
func (c *connection) answered(number int32) (request, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = time.Now()
	if c.blind || len(c.sent) == 0 || c.sent[0].number != number {
		c.blind, c.sent = true, nil
		return request{}, false
	}
	r := c.sent[0]
	c.sent = c.sent[1:]
	return r, true
}

// wait waits, and gives the client's deadline as much more time. A client that
// gives up meanwhile sets one that is past.
func (c *connection) wait(pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.deadline.IsZero() || c.broken {
				return nil
			}
			c.deadline = c.deadline.Add(pause)
			return c.Conn.SetReadDeadline(c.deadline)
		case <-c.closed:
			c.head = nil
			return net.ErrClosed
		case <-c.deadlines:
			c.mu.Lock()
			broken := c.broken
			c.mu.Unlock()
			if broken {
				c.head = nil
				return os.ErrDeadlineExceeded
			}
		}
	}
}

// judge notes a broker that leaves a request without an answer: it closes the
// connection, or it is silent: the deadline has passed, and not because the client
// has broken the reading off.
func (c *connection) judge(err error) error {
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
	if c.broken || len(c.sent) == 0 {
		return err
	}
	since := c.sent[0].at
	if c.heard.After(since) {
		since = c.heard
	}
	if waited := time.Since(since); waited >= silentAfter {
		c.set.peers.silent(c.address, waited)
	}
	return err
}

// takeFirstPause takes the pause out of a response that begins with it.
func takeFirstPause(r request, head []byte) time.Duration {
	at, ok := firstPause(r.key, r.version)
	if !ok || len(head) < at+4 || at == 9 && head[8] != 0 { // with tags, of which there are none so far
		return 0
	}
	pause := int32(binary.BigEndian.Uint32(head[at:]))
	binary.BigEndian.PutUint32(head[at:], 0)
	return time.Duration(max(0, pause)) * time.Millisecond
}

// pausePlaces are the results of firstPause.
var pausePlaces sync.Map

// firstPause tells where in a response the pause is that a client must make, if it
// stands at the beginning and the broker has not made it by itself.
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

// takeLastPause takes the pause out of the response to a produce request, which
// has it behind everything else. It may be another length then.
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
