package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/sync/errgroup"

	"inceptor/internal/span"
)

// server runs h on 127.0.0.1 and returns a reader that may fetch from it.
func server(t *testing.T, h http.HandlerFunc, change func(*Config)) (*Reader, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return newReader(t, func(c *Config) {
		c.Fetch.Hosts, c.Fetch.Private = []string{strings.TrimPrefix(s.URL, "http://")}, []string{"127.0.0.1"}
		if change != nil {
			change(c)
		}
	}), s.URL
}

// A name that is allowed and leads to a private address, now or since a
// moment ago, is refused by the address.
func TestAddressOfAllowedName(t *testing.T) {
	called := atomic.Bool{}
	r, url := server(t, func(http.ResponseWriter, *http.Request) { called.Store(true) }, func(c *Config) {
		c.Fetch.Private = nil
		c.Fetch.Hosts = append(c.Fetch.Hosts, strings.Replace(c.Fetch.Hosts[0], "127.0.0.1", "localhost", 1))
	})
	for _, u := range []string{url, strings.Replace(url, "127.0.0.1", "localhost", 1)} {
		if _, err := r.Read(t.Context(), []byte(u)); reasonOf(t, err) != URLForbidden {
			t.Errorf("%s: %v", u, err)
		}
	}
	if called.Load() {
		t.Error("the server was reached")
	}
}

// What is sent is a plain request: nothing of one record gets to the server
// of another, and no proxy from the environment is asked.
func TestRequest(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("http_proxy", "http://192.0.2.1:1")
	r, url := server(t, func(w http.ResponseWriter, r *http.Request) {
		for header, want := range map[string]string{
			"User-Agent": userAgent, "Accept": "image/*", "Accept-Encoding": "identity", "Cookie": "", "Referer": "", "Authorization": "",
		} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", r.URL, header, got, want)
			}
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b", Path: "/"})
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/next", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("x"))
	}, nil)
	for range 2 {
		if _, err := r.Read(t.Context(), []byte(url+"/?secret=1")); err != nil {
			t.Error(err)
		}
	}
}

func TestRedirects(t *testing.T) {
	r, url := server(t, func(w http.ResponseWriter, r *http.Request) {
		n := 0
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &n); err != nil || n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("x"))
	}, nil)
	if _, err := r.Read(t.Context(), []byte(url+"/5")); err != nil {
		t.Errorf("5 redirects: %v", err)
	}
	if _, err := r.Read(t.Context(), []byte(url+"/6")); reasonOf(t, err) != URLBadResponse || !strings.Contains(err.Error(), "5 redirects") {
		t.Errorf("6 redirects: %v", err)
	}
}

// A redirect to a server that answers but is not listed does not reach it.
func TestRedirectElsewhere(t *testing.T) {
	reached := atomic.Bool{}
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	r, url := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, nil)
	if _, err := r.Read(t.Context(), []byte(url)); reasonOf(t, err) != URLNotAllowed || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("%v", err)
	}
	if reached.Load() {
		t.Error("the other server was reached")
	}
}

func TestRetry(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		header  string
		fails   int64
		calls   int64
		reason  Reason
		atLeast time.Duration
	}{
		{name: "once", status: 503, fails: 1, calls: 2},
		{name: "always", status: 500, fails: 99, calls: maxTries, reason: URLStatus},
		{name: "never again", status: 403, fails: 99, calls: 1, reason: URLStatus},
		{name: "gone", status: 410, fails: 99, calls: 1, reason: URLNotFound},
		{name: "at once", status: 429, header: "0", fails: 1, calls: 2},
		{name: "after a second", status: 429, header: "1", fails: 1, calls: 2, atLeast: time.Second},
		{name: "after a date", status: 503, header: "Mon, 02 Jan 2006 15:04:05 GMT", fails: 1, calls: 2},
		{name: "after too long", status: 429, header: "3600", fails: 1, calls: 1, reason: URLStatus},
		{name: "after nonsense", status: 429, header: "-5", fails: 1, calls: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			r, url := server(t, func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) > c.fails {
					_, _ = w.Write([]byte("x"))
					return
				}
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(c.status)
			}, func(c *Config) { c.Fetch.Timeout = time.Minute })
			start := time.Now()
			_, err := r.Read(t.Context(), []byte(url))
			if reason := reasonOf(t, err); reason != c.reason || calls.Load() != c.calls {
				t.Errorf("%d calls, %v; want %d calls, %q", calls.Load(), err, c.calls, c.reason)
			}
			if took := time.Since(start); took < c.atLeast {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	r, url := server(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(c *Config) {
		c.Fetch.Timeout = 100 * time.Millisecond
	})
	if _, err := r.Read(t.Context(), []byte(url)); reasonOf(t, err) != URLTimeout || !strings.Contains(err.Error(), "100ms") {
		t.Errorf("%v", err)
	}
	// The caller's own deadline is not the record's fault.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Read(ctx, []byte(url)); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*Error)) {
		t.Errorf("%v", err)
	}
}

// An attempt that time cuts off does not hide what was wrong before.
func TestTimeoutAfterFault(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	r, url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		<-r.Context().Done()
	}, func(c *Config) { c.Fetch.Timeout = 5 * time.Second })
	_, err := r.Read(t.Context(), []byte(url))
	if reasonOf(t, err) != URLStatus || calls.Load() != 2 || !strings.Contains(err.Error(), "status 502, and then not done within input.fetch.timeout of 5s (tried 2 times)") {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

func TestConcurrency(t *testing.T) {
	const most = 3
	var now, peak atomic.Int64
	r, url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		_, _ = w.Write([]byte("x"))
	}, func(c *Config) { c.Fetch.Concurrency = most })
	var g errgroup.Group
	for range 30 {
		g.Go(func() error {
			image, err := r.Read(t.Context(), []byte(url))
			image.Release()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if p := peak.Load(); p < 2 || p > most {
		t.Errorf("%d at once", p)
	}
}

// A name that nobody has gets no second chance; one that cannot be looked up
// now does.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		err       error
		permanent bool
	}{
		{&net.DNSError{Err: "no such host", Name: "a.invalid", IsNotFound: true}, true},
		{&net.DNSError{Err: "server misbehaving", Name: "a.invalid", IsTemporary: true}, false},
	} {
		err := classify(t.Context(), &url.Error{Op: "Get", URL: "http://a.invalid/?secret", Err: &net.OpError{Op: "dial", Err: c.err}})
		if permanent := errors.As(err, new(*backoff.PermanentError)); reasonOf(t, err) != URLUnreachable || permanent != c.permanent || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v, permanent: %v", c.err, err, permanent)
		}
	}
}

// A server without a certificate that is trusted gets no second chance.
func TestUntrusted(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	r := newReader(t, func(c *Config) {
		c.Fetch.Hosts, c.Fetch.Private = []string{strings.TrimPrefix(s.URL, "https://")}, []string{"127.0.0.1"}
	})
	if _, err := r.Read(t.Context(), []byte(s.URL)); reasonOf(t, err) != URLUnreachable || !strings.Contains(err.Error(), "TLS") || strings.Contains(err.Error(), "tried") {
		t.Errorf("%v", err)
	}
	plain := strings.Replace(s.URL, "https:", "http:", 1)
	if _, err := r.Read(t.Context(), []byte(plain)); reasonOf(t, err) != URLStatus {
		t.Errorf("%v", err)
	}
	r, url := server(t, func(http.ResponseWriter, *http.Request) {}, nil)
	if _, err := r.Read(t.Context(), []byte(strings.Replace(url, "http:", "https:", 1))); reasonOf(t, err) != URLBadResponse {
		t.Errorf("%v", err)
	}
}

// panicking is a transport that panics.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("a fault") }

// A panic holds no room for ever: whoever recovers from it goes on.
func TestPanic(t *testing.T) {
	r, url := server(t, func(http.ResponseWriter, *http.Request) {}, nil)
	r.client.Transport = panicking{}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it does not panic")
			}
		}()
		_, _ = r.Read(t.Context(), []byte(url))
	}()
	if !r.memory.TryAcquire(imagesPerFetch * int64(r.config.Fetch.Concurrency) * int64(r.config.MaxBytes)) {
		t.Error("not all room was given back")
	}
	if len(r.slots) != 0 {
		t.Error("a fetch is still under way")
	}
}

// A fetch is a span of the record's trace, without the query of the URL, which may be secret. The
// server learns nothing of the trace.
func TestTracedFetch(t *testing.T) {
	span.Enable()
	r, url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("traceparent") != "" {
			t.Error("the server gets the trace")
		}
		_, _ = w.Write([]byte("\x89PNG\r\n\x1a\n"))
	}, nil)
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans), sdk.WithSampler(sdk.AlwaysSample()))
	ctx, read := provider.Tracer("").Start(t.Context(), "read")
	if _, err := r.Read(ctx, []byte(url+"/a.png?token=secret")); err != nil {
		t.Fatal(err)
	}
	got := spans.GetSpans()
	if len(got) != 1 || got[0].Name != "GET" || got[0].Parent.SpanID() != read.SpanContext().SpanID() {
		t.Fatalf("got %v", got)
	}
	attributes := fmt.Sprint(got[0].Attributes)
	if !strings.Contains(attributes, url+"/a.png") || !strings.Contains(attributes, "200") || strings.Contains(attributes, "secret") {
		t.Errorf("got %s", attributes)
	}
}
