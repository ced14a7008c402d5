package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// writeTimeout is how long a message may take to a viewer. One who is slower is disconnected, and
// connects again.
const writeTimeout = 10 * time.Second

// events sends what changes on the page, as server-sent events, until the viewer leaves. Each
// viewer has its own turn: one who is slow delays nobody else, and gets the latest page when the
// way is free again.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // a HEAD would stay, and get nothing
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "events are sent to GET only", http.StatusMethodNotAllowed)
		return
	}
	if !p.enter() {
		http.Error(w, fmt.Sprintf("%d viewers are connected already, and there may be no more: close another page first", MaxViewers),
			http.StatusServiceUnavailable)
		return
	}
	defer p.leave()
	connection, local := http.NewResponseController(w), p.local(r)
	_ = connection.SetReadDeadline(time.Time{}) // the server's is for a request, and this one lasts
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep the events back
	timer := time.NewTimer(0)
	defer timer.Stop()
	for v := (viewer{sections: map[string]string{}}); ; {
		select {
		case <-r.Context().Done():
			return
		case <-timer.C:
		}
		frame, err := p.now(local)
		if err != nil {
			p.log.Warn("the page cannot be rendered", "err", err)
			return
		}
		_ = connection.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(v.message(frame)); err != nil {
			return
		}
		if connection.Flush() != nil {
			return
		}
		timer.Reset(Period - time.Since(p.started)%Period)
	}
}

// enter counts a viewer who comes; false: there are enough.
func (p *Page) enter() bool {
	p.watching.Lock()
	defer p.watching.Unlock()
	if p.viewers == MaxViewers {
		return false
	}
	if p.viewers++; p.viewers == 1 {
		p.source.Watched(true)
	}
	return true
}

// leave counts a viewer who goes.
func (p *Page) leave() {
	p.watching.Lock()
	defer p.watching.Unlock()
	if p.viewers--; p.viewers == 0 {
		p.source.Watched(false)
	}
}

// A viewer is what one browser has been sent. Only its request's goroutine uses it.
type viewer struct {
	sections map[string]string
	charts   []byte
}

// message returns the event that makes the viewer's page the rendered one.
func (v *viewer) message(frame *rendered) []byte {
	var m struct {
		Sections map[string]string `json:"sections,omitempty"`
		Charts   json.RawMessage   `json:"charts,omitempty"`
	}
	for _, s := range frame.sections {
		if old, ok := v.sections[s.id]; ok && old == s.html {
			continue
		}
		if m.Sections == nil {
			m.Sections = map[string]string{}
		}
		m.Sections[s.id], v.sections[s.id] = s.html, s.html
	}
	if !bytes.Equal(v.charts, frame.charts) {
		m.Charts, v.charts = frame.charts, frame.charts
	}
	var b bytes.Buffer
	b.WriteString("event: page\ndata: ")
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // HTML is most of it, and it is parsed as JSON alone
	if err := e.Encode(m); err != nil {
		panic(err) // strings, and what json.Marshal has made
	}
	b.WriteString("\n") // after the one of Encode
	return b.Bytes()
}
