package corpus

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"inceptor/internal/retry"
)

// A Site is a web server on 127.0.0.1 with good and bad images, and with faults of its own. To
// reach it, a test allows Host by name, and Network, which is only 127.0.0.1: all other loopback
// addresses stay forbidden.
type Site struct {
	URL     string // http://127.0.0.1:port
	Host    string // 127.0.0.1:port, for --input.fetch.hosts
	Network string // 127.0.0.1/32, for --input.fetch.private
}

// Serve starts a Site. The test ends it. The good pages are /good.jpg, /good.png, /moved, which
// redirects to the first, and /flaky?KEY, which fails once for each key.
func Serve(t testing.TB) *Site {
	t.Helper()
	mux := http.NewServeMux()
	servePages(mux)
	serveStatuses(mux)
	serveSlowly(mux)
	serveRaw(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return &Site{URL: s.URL, Host: strings.TrimPrefix(s.URL, "http://"), Network: "127.0.0.1/32"}
}

// servePages adds whole pages, and those that are whole at times.
func servePages(mux *http.ServeMux) {
	data := func(path string, b []byte) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
	}
	data("/good.jpg", jpegImage())
	data("/good.png", pngImage())
	data("/empty", nil)
	data("/text", []byte("hello, world\n"))
	data("/envelope", inEnvelope(jpegImage()))
	data("/page", []byte("<html>not an image, and secret-of-the-response</html>"))
	data("/half.png", pngImage()[:len(pngImage())/2])
	data("/huge.png", pngOf(60000, 60000, 8, 2, []byte("x")))
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good.jpg", http.StatusFound) })
	seen := make(chan map[string]bool, 1)
	seen <- map[string]bool{}
	mux.HandleFunc("/flaky", func(w http.ResponseWriter, r *http.Request) {
		keys := <-seen
		again := keys[r.URL.RawQuery]
		keys[r.URL.RawQuery] = true
		seen <- keys
		if !again {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(jpegImage())
	})
}

// serveStatuses adds responses whose status or headers are wrong.
func serveStatuses(mux *http.ServeMux) {
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
	})
	mux.HandleFunc("/later", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{r.URL.Query().Get("u")}
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/nowhere", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"))
	})
	mux.HandleFunc("/announced", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<40))
		_, _ = w.Write(jpegImage())
	})
}

// serveSlowly adds responses that do not end, or take long.
func serveSlowly(mux *http.ServeMux) {
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		b := append(jpegImage(), make([]byte, 64<<10)...)
		for r.Context().Err() == nil {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/dripping", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte{0xff}); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			retry.Sleep(r.Context(), 50*time.Millisecond)
		}
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { retry.Sleep(r.Context(), time.Hour) })
	mux.HandleFunc("/stalling", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(jpegImage()[:100])
		_ = http.NewResponseController(w).Flush()
		retry.Sleep(r.Context(), time.Hour)
	})
}

// serveRaw adds responses that are not HTTP, or end too early.
func serveRaw(mux *http.ServeMux) {
	raw := func(path, response string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(response))
			if tcp, ok := conn.(*net.TCPConn); ok && response == "" {
				_ = tcp.SetLinger(0) // reset
			}
			_ = conn.Close()
		})
	}
	raw("/reset", "")
	raw("/garbage", "secret-of-the-response\r\n\r\n")
	raw("/short", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
	raw("/chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\nabc")
	raw("/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
	raw("/lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc")
	raw("/length", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc")
	raw("/header", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\nabc")
	raw("/headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 1<<17)+"\r\nabc")
	raw("/informal", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10000))
}

// Cases returns the records that name the site's bad pages. About ten of them take the reader's
// whole timeout each, and others a few seconds.
func (s *Site) Cases() []Case {
	c := &cases{}
	add := func(path string, reasons ...string) {
		c.add("site"+path, []byte(s.URL+path), reasons...)
	}
	add("/empty", "empty")
	add("/text", "not-an-image")
	add("/envelope", "not-an-image")
	add("/page", "not-an-image")
	add("/half.png", broken...)
	add("/huge.png", bomb...)
	add("/missing", "url-not-found")
	add("/status?410", "url-not-found")
	for _, code := range []int{201, 204, 206, 300, 304, 400, 401, 403, 405, 418, 429, 451, 500, 501, 502, 503, 504, 505, 599} {
		add(fmt.Sprintf("/status?%d", code), "url-status")
	}
	add("/later", "url-status")
	add("/nowhere", "url-status")
	add("/loop", "url-bad-response")
	add("/gzip", "url-bad-response")
	add("/announced", "too-large")
	add("/endless", "too-large", "url-timeout")
	add("/dripping", "url-timeout")
	add("/silent", "url-timeout")
	add("/stalling", "url-timeout")
	add("/reset", "url-unreachable")
	add("/short", "url-unreachable")
	add("/chunks", "url-unreachable")
	for _, path := range []string{"/garbage", "/chunk", "/lengths", "/length", "/header", "/headers", "/informal"} {
		add(path, "url-bad-response", "url-unreachable")
	}
	to := func(name, target string, reasons ...string) {
		c.add("redirect/"+name, []byte(s.URL+"/to?u="+url.QueryEscape(target)), reasons...)
	}
	for _, host := range ForbiddenHosts() {
		to(host, "http://"+host+"/latest/meta-data/", guarded...)
	}
	refused := either(guarded, []string{"bad-url", "url-bad-response", "url-status"})
	for name, target := range ordered(map[string]string{
		"decimal": "http://2130706434/", "file": "file:///etc/passwd", "ftp": "ftp://127.0.0.1/", "gopher": "gopher://127.0.0.1:6379/_FLUSHALL", "data": "data:image/png;base64,AAAA",
		"javascript": "javascript:alert(1)", "localhost": "http://localhost:1/", "user": "http://user@" + s.Host + "/good.jpg", "other port": "http://127.0.0.1:1/", "no scheme": "//127.0.0.2/", "empty": "",
		"broken": "http://[::1", "blank": " ", "twice": s.URL + "/to?u=" + url.QueryEscape("http://169.254.169.254/"), "unicode": "http://exämple.invalid/",
	}) {
		to(name, target, refused...)
	}
	to("to a missing page", s.URL+"/missing", "url-not-found")
	to("to text", s.URL+"/text", "not-an-image")
	return c.list
}

// Refused returns a URL on 127.0.0.1 with a port that nobody listens on.
func Refused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}
