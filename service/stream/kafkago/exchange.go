package kafkago

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxResponse bounds a response. A batch is never larger than the request in which a broker has
// accepted it, at most 100 MiB by default.
const maxResponse = 512 << 20

// An exchanger sends requests over kafka-go's connections that kafka-go does not know, or not in
// the needed version. Safe for concurrent use.
type exchanger struct {
	mu     sync.Mutex
	newest map[string]map[int16]int16 // newest version of each request, by the broker's address; guarded by mu
}

// version returns the newest version of a request that the broker knows, but newest at most.
func (e *exchanger) version(rw io.ReadWriter, key, newest int16) (int16, error) {
	address := addressOf(rw)
	e.mu.Lock()
	known, ok := e.newest[address]
	e.mu.Unlock()
	if !ok {
		res, err := roundTrip(rw, kmsg.NewPtrApiVersionsRequest(), maxResponse, nil) // version 0, which every broker knows
		if err != nil {
			return 0, err
		}
		known = map[int16]int16{}
		for _, k := range res.(*kmsg.ApiVersionsResponse).ApiKeys {
			known[k.ApiKey] = k.MaxVersion
		}
		e.mu.Lock()
		if e.newest == nil {
			e.newest = map[string]map[int16]int16{}
		}
		e.newest[address] = known
		e.mu.Unlock()
	}
	return min(known[key], newest), nil
}

// send sends a request whose version is set, and returns its response. If reserved is not nil, the
// response is charged to it before it is read.
func (e *exchanger) send(rw io.ReadWriter, req kmsg.Request, reserved *reservation) (kmsg.Response, error) {
	res, err := roundTrip(rw, req, maxResponse, reserved)
	if err != nil { // perhaps an older broker has replaced this one
		e.mu.Lock()
		delete(e.newest, addressOf(rw))
		e.mu.Unlock()
	}
	return res, err
}

func addressOf(rw io.ReadWriter) string {
	if c, ok := rw.(interface{ RemoteAddr() net.Addr }); ok {
		return c.RemoteAddr().String()
	}
	return ""
}

// roundTrip sends a request whose version is set, and returns its response, of maxBytes at most. If
// reserved is not nil, the response is charged to it before it is read.
func roundTrip(rw io.ReadWriter, req kmsg.Request, maxBytes int64, reserved *reservation) (kmsg.Response, error) {
	name := kmsg.NameForKey(req.Key())
	const correlation = 1 // a connection has one request at a time
	if _, err := rw.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, correlation)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	if got := binary.BigEndian.Uint32(head[4:]); got != correlation || size < 0 || size > maxBytes {
		return nil, fmt.Errorf("%s: a response of %d bytes to request %d; does the broker speak Kafka's protocol?", name, size, got)
	}
	if reserved != nil {
		if err := reserved.await(size); err != nil {
			return nil, err
		}
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(rw, body); err != nil {
		return nil, err
	}
	res := req.ResponseKind()
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 { // a header with tags, which Kafka does not use
			return nil, fmt.Errorf("%s: the header of the response cannot be read", name)
		}
		body = body[1:]
	}
	if err := res.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return res, nil
}
