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
)

// A Site is a web server on 127.0.0.1 with good and bad images, and bad
// manners. To reach it a test allows Host by name and Network, which is
// 127.0.0.1 alone: all other loopback addresses stay forbidden.
type Site struct {
	URL     string // http://127.0.0.1:port
	Host    string // 127.0.0.1:port, for --input.fetch.hosts
	Network string // 127.0.0.1/32, for --input.fetch.private
}

// Serve starts a Site that ends with the test. Good are /good.jpg, /good.png,
// /moved, which redirects to the first, and /flaky?KEY, which fails once for
// each key.
func Serve(t testing.TB) *Site {
	t.Helper()
	mux := http.NewServeMux()
	respond := func(path string, h http.HandlerFunc) { mux.HandleFunc(path, h) }
	data := func(path string, b []byte) {
		respond(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
	}
	data("/good.jpg", jpegImage())
	data("/good.png", pngImage())
	data("/empty", nil)
	data("/text", []byte("hello, world\n"))
	data("/envelope", inEnvelope(jpegImage()))
	data("/page", []byte("<html>not an image, and secret-of-the-response</html>"))
	data("/half.png", pngImage()[:len(pngImage())/2])
	data("/huge.png", pngOf(60000, 60000, 8, 2, []byte("x")))
	respond("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good.jpg", http.StatusFound) })
	seen := make(chan map[string]bool, 1)
	seen <- map[string]bool{}
	respond("/flaky", func(w http.ResponseWriter, r *http.Request) {
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
	respond("/status", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
	})
	respond("/later", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	respond("/to", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{r.URL.Query().Get("u")}
		w.WriteHeader(http.StatusFound)
	})
	respond("/nowhere", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) })
	respond("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	respond("/gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"))
	})
	respond("/announced", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<40))
		_, _ = w.Write(jpegImage())
	})
	respond("/endless", func(w http.ResponseWriter, r *http.Request) {
		b := append(jpegImage(), make([]byte, 64<<10)...)
		for r.Context().Err() == nil {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	respond("/dripping", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte{0xff}); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			sleep(r, 50*time.Millisecond)
		}
	})
	respond("/silent", func(_ http.ResponseWriter, r *http.Request) { sleep(r, time.Hour) })
	respond("/stalling", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(jpegImage()[:100])
		_ = http.NewResponseController(w).Flush()
		sleep(r, time.Hour)
	})
	raw := func(path, response string) {
		respond(path, func(w http.ResponseWriter, _ *http.Request) {
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

	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return &Site{URL: s.URL, Host: strings.TrimPrefix(s.URL, "http://"), Network: "127.0.0.1/32"}
}

func sleep(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// Cases are the records that name what is bad at the site. Those that wait,
// about ten, take the reader's whole time each, and others a few seconds.
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

// Refused is a URL on 127.0.0.1 at whose port nobody listens.
func Refused(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}
