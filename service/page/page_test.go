package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/service/page"
	"inceptor/service/page/pagetest"
)

func handler(source page.Source, local bool) http.Handler {
	return page.New(source, func(*http.Request) bool { return local }, slog.New(slog.DiscardHandler)).Handler()
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// No other site in somebody's browser takes a viewer's place or sees a picture, and no HEAD stays.
func TestForeignRequests(t *testing.T) {
	source := pagetest.New(time.Now())
	h := handler(source, true)
	for _, test := range []struct {
		method, path, site string
		want               int
	}{
		{http.MethodGet, "/", "cross-site", 200},
		{http.MethodGet, "/thumbnails/" + source.View().Pictures[0].ID, "cross-site", 403},
		{http.MethodGet, "/thumbnails/" + source.View().Pictures[0].ID, "same-origin", 200},
		{http.MethodGet, "/static/page.js", "none", 200},
		{http.MethodGet, "/events", "cross-site", 403},
		{http.MethodHead, "/events", "", 405},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		r := httptest.NewRequestWithContext(ctx, test.method, test.path, nil)
		r.Header.Set("Sec-Fetch-Site", test.site)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != test.want || w.Header().Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s %s from %q: %d %v, want %d", test.method, test.path, test.site, w.Code, w.Header(), test.want)
		}
		cancel()
	}
	if watched, _ := source.Calls(); len(watched) > 0 {
		t.Errorf("viewers were counted: %v", watched)
	}
}

// However many partitions and versions there are, the page stays small, and says where the rest is.
func TestPageIsBounded(t *testing.T) {
	source := pagetest.New(time.Now())
	source.Change(func(v *page.View) {
		v.Partitions, v.Versions = nil, nil
		for i := range 5000 {
			stuck := ""
			switch {
			case i%3 == 0:
				stuck = "the brokers are gone"
			case i > 4000:
				stuck = fmt.Sprintf("offset %d is refused", i)
			}
			v.Partitions = append(v.Partitions, page.Partition{Topic: "in", Number: i, Lag: int64(i), Stuck: stuck})
			state := "closed"
			if i%2 == 0 {
				state = "failed"
			}
			v.Versions = append(v.Versions, page.Version{Number: int64(5000 - i), State: state})
		}
		v.Versions[4998].State, v.Versions[4998].Label = "serving", "stable"
	})
	body := get(handler(source, false), "/").Body.String()
	for _, want := range []string{
		"4800 more: see", "2450 more: see", "2449 more: see", "in-0, in-3, in-6", " and 1657 more</b> are stuck: the brokers are gone",
		"are stuck for other reasons", "Version 2 ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if len(body) > 200_000 {
		t.Errorf("the page has %d bytes", len(body))
	}
}

func TestRoutes(t *testing.T) {
	source := pagetest.New(time.Now())
	h := handler(source, true)
	id := source.View().Pictures[0].ID
	for path, want := range map[string]struct {
		status    int
		mediaType string
		contains  string
	}{
		"/":                        {200, "text/html; charset=utf-8", "ImageOutputTopic"},
		"/records/" + id:           {200, "text/html; charset=utf-8", "kcat -b"},
		"/records/none":            {404, "text/html; charset=utf-8", "Nothing is kept of this record"},
		"/thumbnails/" + id:        {200, "image/jpeg", "\xff\xd8"},
		"/thumbnails/none":         {404, "text/plain; charset=utf-8", ""},
		"/static/page.js":          {200, "text/javascript; charset=utf-8", "EventSource"},
		"/static/page.css":         {200, "text/css; charset=utf-8", ":root"},
		"/static/uplot.js":         {200, "text/javascript; charset=utf-8", "uPlot"},
		"/static/uplot.LICENSE":    {200, "text/plain; charset=utf-8", "Leon Sorokin"},
		"/static/icon.svg":         {200, "image/svg+xml", "<svg"},
		"/static/..%2fpage.go":     {404, "text/plain; charset=utf-8", ""},
		"/static/":                 {404, "text/plain; charset=utf-8", ""},
		"/nowhere":                 {404, "text/plain; charset=utf-8", ""},
		"/records/" + id + "/more": {404, "text/plain; charset=utf-8", ""},
	} {
		w := get(h, path)
		if w.Code != want.status || w.Header().Get("Content-Type") != want.mediaType || !strings.Contains(w.Body.String(), want.contains) {
			t.Errorf("%s: %d %s, want %d %s with %q", path, w.Code, w.Header().Get("Content-Type"), want.status, want.mediaType, want.contains)
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self'; ") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy is %q", path, policy)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
	}
	tag := get(h, "/static/page.js").Header().Get("ETag")
	r := httptest.NewRequest(http.MethodGet, "/static/page.js", nil)
	r.Header.Set("If-None-Match", tag)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusNotModified {
		t.Errorf("a file that the browser has is sent again: %d", w.Code)
	}
}

// The whole page is rendered by html/template; so is each section that is sent.
func TestEscapes(t *testing.T) {
	source := pagetest.New(time.Now())
	source.Change(pagetest.Hostile)
	h := handler(source, true)
	for _, path := range []string{"/", "/records/" + source.View().Records[0].ID} {
		body := get(h, path).Body.String()
		for _, raw := range []string{"<script>window", "<img src=x", "<svg onload"} {
			if strings.Contains(body, raw) {
				t.Errorf("%s has %s as it came", path, raw)
			}
		}
	}
}

// A stream is what a viewer gets of /events.
type stream struct {
	*httptest.ResponseRecorder
	mu     sync.Mutex // guards what follows
	events []event
}

type event struct {
	Sections map[string]string           `json:"sections"`
	Charts   *map[string]json.RawMessage `json:"charts"`
}

func (s *stream) Write(b []byte) (int, error) {
	text, ok := strings.CutPrefix(string(b), "event: page\ndata: ")
	text, whole := strings.CutSuffix(text, "\n\n")
	var e event
	if err := json.Unmarshal([]byte(text), &e); err != nil || !ok || !whole || strings.Contains(text, "\n") {
		return 0, fmt.Errorf("no event: %q", b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	return len(b), nil
}

// take returns the events that have come since the last call.
func (s *stream) take() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events
	s.events = nil
	return events
}

func sectionsOf(e event) []string { return slices.Sorted(maps.Keys(e.Sections)) }

// watch connects a viewer until the returned function is called.
func watch(t *testing.T, h http.Handler) (*stream, func()) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &stream{ResponseRecorder: httptest.NewRecorder()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(s, httptest.NewRequest(http.MethodGet, "/events", nil).WithContext(ctx))
	}()
	return s, func() { cancel(); <-done }
}

func TestEventsHaveWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := pagetest.New(time.Now())
		s, stop := watch(t, handler(source, true))
		defer stop()
		synctest.Wait()
		events := s.take()
		if len(events) != 1 || len(events[0].Sections) != 8 || events[0].Charts == nil {
			t.Fatalf("a viewer begins with %d events, of %v", len(events), sectionsOf(events[0]))
		}
		next := func() event {
			t.Helper()
			time.Sleep(page.Period)
			synctest.Wait()
			events := s.take()
			if len(events) != 1 {
				t.Fatalf("%d events in a period", len(events))
			}
			return events[0]
		}
		if e := next(); len(e.Sections) != 0 || e.Charts != nil {
			t.Errorf("nothing has changed, and %v was sent", sectionsOf(e))
		}
		source.Change(func(v *page.View) { v.Records[0].Key = "another key" })
		if e := next(); !slices.Equal(sectionsOf(e), []string{"records", "wall"}) || !strings.Contains(e.Sections["records"], "another key") || e.Charts != nil {
			t.Errorf("a key has changed, and %v was sent", sectionsOf(e))
		}
		source.AddSample(page.Sample{At: time.Now(), Records: 7})
		if e := next(); !slices.Equal(sectionsOf(e), []string{"summary"}) || e.Charts == nil {
			t.Errorf("a sample has come, and %v was sent", sectionsOf(e))
		}
	})
}

// Whatever the number of viewers, the source is asked once a period; and it knows whether there
// are any. There are no more than fit.
func TestViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := pagetest.New(time.Now())
		h := handler(source, true)
		var stops []func()
		for range page.MaxViewers {
			_, stop := watch(t, h)
			stops = append(stops, stop)
		}
		synctest.Wait()
		if w := get(h, "/events"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "16 viewers are connected already") {
			t.Errorf("one viewer more: %d %s", w.Code, w.Body)
		}
		time.Sleep(10*page.Period - time.Millisecond)
		if w := get(h, "/"); w.Code != http.StatusOK { // the page itself is always there
			t.Errorf("the page: %d", w.Code)
		}
		watched, views := source.Calls()
		if views != 10 {
			t.Errorf("the source was asked %d times in 10 periods", views)
		}
		if !slices.Equal(watched, []bool{true}) {
			t.Errorf("while there are viewers: %v", watched)
		}
		stops[0]()
		_, stop := watch(t, h) // in the free place
		synctest.Wait()
		for _, stop := range append(stops[1:], stop) {
			stop()
		}
		if watched, _ = source.Calls(); !slices.Equal(watched, []bool{true, false}) {
			t.Errorf("when all have left: %v", watched)
		}
	})
}

// The connection outlasts the server's timeouts, and ends with the server.
func TestEventsOutlastTimeouts(t *testing.T) {
	server := httptest.NewUnstartedServer(handler(pagetest.New(time.Now()), true))
	server.Config.ReadTimeout, server.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	server.Start()
	defer server.Close()
	r, err := http.Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	lines := bufio.NewReader(r.Body)
	for range 3 * 3 { // three events of three lines: two periods
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Config.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		t.Error("the server has closed, and the events ended in peace")
	}
}

// One who takes nothing off the connection is disconnected, and delays nobody.
func TestSlowViewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := pagetest.New(time.Now())
		h := handler(source, true)
		ours, theirs := net.Pipe() // takes nothing that nobody reads
		listener := &oneConnection{make(chan net.Conn, 1), make(chan struct{})}
		listener.connections <- ours
		server := &http.Server{Handler: h} //nolint:gosec // a test's
		go server.Serve(listener)
		fmt.Fprint(theirs, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		fast, stop := watch(t, h)
		time.Sleep(5 * page.Period)
		synctest.Wait()
		if n := len(fast.take()); n != 6 {
			t.Errorf("a viewer beside a slow one got %d events in 5 periods", n)
		}
		stop()
		if watched, _ := source.Calls(); len(watched) != 1 {
			t.Errorf("the slow viewer left early: %v", watched)
		}
		time.Sleep(10 * page.Period)
		synctest.Wait()
		if watched, _ := source.Calls(); !slices.Equal(watched, []bool{true, false}) {
			t.Errorf("the slow viewer is still there: %v", watched)
		}
		server.Close()
		theirs.Close()
	})
}

// oneConnection is a net.Listener that accepts what is in the channel.
type oneConnection struct {
	connections chan net.Conn
	closed      chan struct{}
}

func (l *oneConnection) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConnection) Close() error   { close(l.closed); return nil }
func (l *oneConnection) Addr() net.Addr { return &net.TCPAddr{} }

func TestButtons(t *testing.T) {
	source := pagetest.New(time.Now())
	source.Change(pagetest.Swapped)
	for _, local := range []bool{false, true} {
		body := get(handler(source, local), "/").Body.String()
		for _, action := range []string{`action="models/use?version=2"`, `action="models/rollback?version=3"`} {
			if strings.Contains(body, action) != local {
				t.Errorf("local %v: the page has %s: %v", local, action, !local)
			}
		}
	}
}

func TestCharts(t *testing.T) {
	now := time.Unix(1000, 0)
	source := &samples{pagetest.New(now), []page.Sample{
		{At: time.Unix(990, 0), Records: 1.0 / 3, P50: 0, P99: 0, Lag: -1, Batch: 0, DeadLetters: map[string]float64{"empty": 0.2}},
		{At: time.Unix(995, 0), Records: 12345.678, P50: 41.26, P99: math.Inf(1), Lag: 0, Batch: 3.5, DeadLetters: map[string]float64{"bomb": 1}},
	}}
	source.Change(func(v *page.View) {
		v.Timeline = []page.Event{{At: time.Unix(993, 0), Version: 3, Kind: page.EventServing, Text: "x"}, {At: time.Unix(3, 0), Kind: page.EventFailed}}
	})
	synctest.Test(t, func(t *testing.T) {
		s, stop := watch(t, handler(source, true))
		synctest.Wait()
		stop()
		got, err := json.Marshal(s.take()[0].Charts)
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"at":[990,995],"batch":[null,3.5],"dead_letters":{"bomb":[0,1],"empty":[0.2,0]},"lag":[null,0],` +
			`"marks":[{"at":993,"kind":"serving","text":"x"}],"p50":[null,41.26],"p99":[null,null],"records":[0.3333,12350]}`
		if string(got) != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
	})
}

type samples struct {
	*pagetest.Source
	list []page.Sample
}

func (s *samples) Samples() []page.Sample { return s.list }
