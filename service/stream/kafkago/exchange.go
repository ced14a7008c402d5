package kafkago

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxResponse bounds a response. A batch is never larger than the request that
// a broker has taken it in, at most 100 MiB by default.
const maxResponse = 512 << 20

// An exchanger sends requests that kafka-go does not know, or not in the
// version that is wanted, over kafka-go's connections. Safe for concurrent use.
type exchanger struct {
	mu     sync.Mutex
	newest map[string]map[int16]int16 // the newest version of each request, by the broker's address
}

// version is the newest one of a request that both the broker and we know, and
// most at most.
func (e *exchanger) version(rw io.ReadWriter, key, most int16) (int16, error) {
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
	return min(known[key], most), nil
}

// send sends a request whose version is set, and returns its response, which is
// read into room, if that is not nil.
func (e *exchanger) send(rw io.ReadWriter, req kmsg.Request, room *room) (kmsg.Response, error) {
	res, err := roundTrip(rw, req, maxResponse, room)
	if err != nil { // perhaps the broker was changed for an older one
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

// roundTrip sends a request whose version is set, and returns its response, of at
// most so many bytes. It is read into room, if that is not nil.
func roundTrip(rw io.ReadWriter, req kmsg.Request, most int64, room *room) (kmsg.Response, error) {
	name := kmsg.NameForKey(req.Key())
	const correlation = 1 // one request at a time is on a connection
	if _, err := rw.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, correlation)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	if got := binary.BigEndian.Uint32(head[4:]); got != correlation || size < 0 || size > most {
		return nil, fmt.Errorf("%s: a response of %d bytes to request %d; does the broker speak Kafka's protocol?", name, size, got)
	}
	if room != nil {
		if err := room.await(size); err != nil {
			return nil, err
		}
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(rw, body); err != nil {
		return nil, err
	}
	res := req.ResponseKind()
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 { // a header with tags, of which there are none
			return nil, fmt.Errorf("%s: a response whose header cannot be read", name)
		}
		body = body[1:]
	}
	if err := res.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return res, nil
}
