package wire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// exchange writes a request to a broker that answers with response. It returns what the client
// reads, and how long that took.
func exchange(t *testing.T, c *connection, broker net.Conn, req kmsg.Request, response kmsg.Response) (kmsg.Response, time.Duration) {
	t.Helper()
	const number = 7
	go func() {
		b := make([]byte, 1<<20)
		if _, err := broker.Read(b); err != nil {
			return
		}
		res := binary.BigEndian.AppendUint32(nil, number)
		if response.IsFlexible() && response.Key() != kmsg.ApiVersions.Int16() {
			res = append(res, 0)
		}
		res = response.AppendTo(res)
		broker.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(res))), res...))
	}()
	begin := time.Now()
	if _, err := c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, number)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	body = body[4:]
	if response.IsFlexible() && response.Key() != kmsg.ApiVersions.Int16() {
		body = body[1:]
	}
	got := req.ResponseKind()
	if err := got.ReadFrom(body); err != nil {
		t.Fatalf("read the response: %v", err)
	}
	return got, time.Since(begin)
}

func TestThrottled(t *testing.T) {
	tests := map[string]struct {
		request kmsg.Request
		version int16
		waits   bool
	}{
		"Fetch":                     {kmsg.NewPtrFetchRequest(), 17, true},
		"Fetch/NotFlexible":         {kmsg.NewPtrFetchRequest(), 11, true},
		"Fetch/WaitedByTheBroker":   {kmsg.NewPtrFetchRequest(), 7, false},
		"Produce":                   {kmsg.NewPtrProduceRequest(), 11, true},
		"Produce/NotFlexible":       {kmsg.NewPtrProduceRequest(), 8, true},
		"Heartbeat":                 {kmsg.NewPtrHeartbeatRequest(), 4, true},
		"Metadata":                  {kmsg.NewPtrMetadataRequest(), 8, true},
		"OffsetCommit":              {kmsg.NewPtrOffsetCommitRequest(), 7, true},
		"AddPartitionsToTxn":        {kmsg.NewPtrAddPartitionsToTxnRequest(), 3, true},
		"ApiVersions/LeftToTheUser": {kmsg.NewPtrApiVersionsRequest(), 3, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, broker := net.Pipe()
				defer broker.Close()
				s := NewConnections(stream.Config{})
				c := newConnection(client, s, "a:9092")
				defer c.Close()
				test.request.SetVersion(test.version)
				for _, pause := range []time.Duration{0, 9 * time.Second, 30 * time.Second} {
					if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
						t.Fatal(err)
					}
					response := test.request.ResponseKind()
					response.(kmsg.SetThrottleResponse).SetThrottle(int32(pause.Milliseconds()))
					got, took := exchange(t, c, broker, test.request, response)
					left, _ := got.(kmsg.ThrottleResponse).Throttle()
					switch {
					case test.waits && (took != pause || left != 0):
						t.Errorf("pause %v: the client has its answer after %v, with a pause of %d ms", pause, took, left)
					case !test.waits && (took != 0 || int64(left) != pause.Milliseconds()):
						t.Errorf("pause %v: the client has its answer after %v, with a pause of %d ms: want it as it was", pause, took, left)
					}
				}
			})
		})
	}
}

// A client that gives up does not wait for the end of a pause.
func TestThrottledGivenUp(t *testing.T) {
	tests := map[string]struct {
		giveUp func(*connection)
		want   error
	}{
		"Deadline": {func(c *connection) { c.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		"Close":    {func(c *connection) { c.Close() }, net.ErrClosed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, broker := net.Pipe()
				defer broker.Close()
				c := newConnection(client, NewConnections(stream.Config{}), "a:9092")
				defer c.Close()
				req := kmsg.NewPtrHeartbeatRequest()
				go func() {
					b := make([]byte, 1000)
					broker.Read(b)
					broker.Write([]byte{0, 0, 0, 10, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0}) // a pause of 65 s
				}()
				req.SetVersion(3)
				c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 7))
				time.AfterFunc(time.Second, func() { test.giveUp(c) })
				begin := time.Now()
				_, err := c.Read(make([]byte, 100))
				if took := time.Since(begin); !errors.Is(err, test.want) || took != time.Second {
					t.Errorf("%v after %v, want %v after 1s", err, took, test.want)
				}
				if err := c.set.peers.avoided("a:9092", time.Now()); err != nil {
					t.Errorf("it counts as silent: %v", err)
				}
			})
		})
	}
}

// Bytes that are no requests and responses pass unchanged.
func TestNotUnderstood(t *testing.T) {
	client, broker := net.Pipe()
	defer broker.Close()
	c := newConnection(client, NewConnections(stream.Config{}), "a:9092")
	defer c.Close()
	go func() {
		io.ReadFull(broker, make([]byte, 24))
		broker.Write([]byte("and this is the answer to it"))
	}()
	if _, err := c.Write([]byte("a token of a login, 24 b")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 28)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "and this is the answer to it" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestSilent(t *testing.T) {
	const silent, live = "a:9092", "b:9092"
	timeOut := func(c *connection, after time.Duration) {
		c.SetReadDeadline(time.Now().Add(after))
		c.Read(make([]byte, 1))
	}
	tests := map[string]struct {
		brokers []string
		then    func(*connection)
		avoided bool
	}{
		"TimedOut":       {[]string{silent, live}, func(c *connection) { timeOut(c, 5*time.Second) }, true},
		"SoonTimedOut":   {[]string{silent, live}, func(c *connection) { timeOut(c, time.Second) }, false},
		"ClosedLater":    {[]string{silent, live}, func(c *connection) { time.Sleep(5 * time.Second); c.Close() }, false},
		"NoOtherToAsk":   {[]string{silent}, func(c *connection) { timeOut(c, 5*time.Second) }, false},
		"LeaderElsewise": {[]string{live}, func(c *connection) { timeOut(c, 5*time.Second) }, true},
		"BrokenOff": {[]string{silent, live}, func(c *connection) {
			time.AfterFunc(5*time.Second, func() { c.SetReadDeadline(time.Now()) })
			timeOut(c, time.Minute)
		}, false},
		"LongAgo": {[]string{silent, live}, func(c *connection) {
			timeOut(c, 5*time.Second)
			time.Sleep(silentFor)
		}, false},
		"AnsweredElsewhere": {[]string{silent, live}, func(c *connection) {
			timeOut(c, 5*time.Second)
			c.set.peers.answered(silent)
		}, false},
		"AllSilent": {[]string{silent, live}, func(c *connection) {
			timeOut(c, 5*time.Second)
			c.set.peers.silent(live, 5*time.Second)
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, broker := net.Pipe()
				defer broker.Close()
				go io.Copy(io.Discard, broker)
				s := NewConnections(stream.Config{Brokers: test.brokers})
				c := newConnection(client, s, silent)
				defer c.Close()
				req := kmsg.NewPtrHeartbeatRequest()
				c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 7))
				test.then(c)
				if err := s.peers.avoided(silent, time.Now()); (err != nil) != test.avoided {
					t.Errorf("avoided: %v, want %v", err, test.avoided)
				}
			})
		})
	}
}

func TestExplain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := l.Addr().String()
	l.Close()
	s := NewConnections(stream.Config{Brokers: []string{refused, "b:9092"}})
	if err := s.Explain(errors.New("no coordinator")); err.Error() != "no coordinator" {
		t.Errorf("%v, though nothing has failed", err)
	}
	if _, err := s.Dial(context.Background(), "tcp", refused); err == nil {
		t.Fatal("connected")
	}
	s.peers.silent("b:9092", 5*time.Second)
	got := s.Explain(errors.New("no coordinator")).Error()
	for _, want := range []string{"no coordinator (", refused + ": ", "refused", "b:9092: silent for 5s"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q: want %q in it", got, want)
		}
	}
	s.peers.answered("b:9092")
	if got := s.Explain(errors.New("no coordinator")).Error(); strings.Contains(got, "b:9092") {
		t.Errorf("%q, though b:9092 has answered", got)
	}
}

// Brokers come and go under new addresses. Old addresses never answer again, and are forgotten.
func TestExplainForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewConnections(stream.Config{}).peers
		p.silent("gone:9092", 5*time.Second)
		time.Sleep(time.Hour)
		p.failed("here:9092", io.EOF, 0)
		if got, want := p.explain(errors.New("no coordinator")).Error(), "no coordinator (here:9092: EOF)"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if n := len(p.failures); n != 1 {
			t.Errorf("%d failures are kept, want 1", n)
		}
	})
}

// A client without time left for a connection learns nothing about the broker.
func TestDialGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // it never shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	slow := l.Addr().String()
	s := NewConnections(stream.Config{Brokers: []string{slow, "b:9092"}, TLS: &tls.Config{MinVersion: tls.VersionTLS13}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Dial(ctx, "tcp", slow); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dialled: %v", err)
	}
	if err := s.peers.avoided(slow, time.Now()); err != nil {
		t.Errorf("it counts as silent: %v", err)
	}
}

// If the client gives a login up by closing the connection, the broker counts as silent.
func TestSilentLogin(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			client, broker := net.Pipe()
			defer broker.Close()
			go io.Copy(io.Discard, broker)
			c := newConnection(client, NewConnections(stream.Config{Brokers: []string{"a:9092", "b:9092"}}), "a:9092")
			c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrSASLHandshakeRequest(), 7))
			time.Sleep(after)
			c.Close()
			if err := c.set.peers.avoided("a:9092", time.Now()); (err != nil) != (after > silentAfter) {
				t.Errorf("closed after %v: avoided: %v", after, err)
			}
		})
	}
}
