package service

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/internal/recent"
)

// A page whose name leads here reads nothing that a browser would give it, and
// Prometheus scrapes by whatever name it has.
func TestHost(t *testing.T) {
	const afar, here = "10.1.2.3", "127.0.0.1"
	everything := map[string]int{"/": 200, "/models": 200, "/metrics": 200, "/healthz": 200, "/readyz": 503}
	scraping := map[string]int{"/": 403, "/models": 403, "/metrics": 200, "/healthz": 200, "/readyz": 503}
	health := map[string]int{"/": 403, "/models": 403, "/metrics": 403, "/healthz": 200, "/readyz": 503}
	for _, test := range []struct {
		name, listen, local, host string
		want                      map[string]int
	}{
		{"localhost", "127.0.0.1:8080", here, "localhost:8080", everything},
		{"localhost, written otherwise", "127.0.0.1:8080", here, "LocalHost.", everything},
		{"loopback address", "127.0.0.1:8080", here, "127.0.0.1:8080", everything},
		{"IPv6", "[::1]:8080", "::1", "[::1]:8080", everything},
		{"rebinding to loopback", "127.0.0.1:8080", here, "evil.example:8080", health},
		{"rebinding to loopback, all addresses", "0.0.0.0:8080", here, "evil.example", health},
		{"looks like an address", "127.0.0.1:8080", here, "127.0.0.1.evil.example:8080", health},
		{"looks like localhost", "127.0.0.1:8080", here, "localhost.evil.example", health},
		{"no host", ":8080", here, "", health},
		{"published port", "0.0.0.0:8080", afar, "localhost:8080", everything},
		{"pod's address", "0.0.0.0:8080", afar, "10.1.2.3:8080", everything},
		{"service's name", "0.0.0.0:8080", afar, "inceptor.default.svc:8080", scraping},
		{"rebinding to the network's address", "0.0.0.0:8080", afar, "evil.example:8080", scraping},
		{"name in http.listen", "Edge7.factory.example:8080", afar, "edge7.factory.example:8080", everything},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			s := &Service{
				config:  Config{HTTP: HTTP{Listen: test.listen}},
				metrics: NewMetrics(registry), recent: &recent.Records{Shorten: shortAnswer}, registry: registry, classifier: fakeModel{},
			}
			for path, want := range test.want {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Host = test.host
				r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(test.local)}))
				w := httptest.NewRecorder()
				s.routes().ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("%s: status %d, want %d: %s", path, w.Code, want, w.Body)
				}
			}
		})
	}
}

// What a reverse proxy on this machine passes on is not from this machine.
func TestLocal(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		want   bool
	}{
		{"as the program asks", func(*http.Request) {}, true},
		{"Forwarded", func(r *http.Request) { r.Header.Set("Forwarded", "for=203.0.113.7") }, false},
		{"X-Forwarded-For", func(r *http.Request) { r.Header.Set("x-forwarded-for", "203.0.113.7") }, false},
		{"X-Forwarded-Proto", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }, false},
		{"empty", func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "") }, false},
		{"Via", func(r *http.Request) { r.Header.Set("Via", "1.1 proxy") }, false},
		{"X-Real-IP", func(r *http.Request) { r.Header.Set("X-Real-IP", "203.0.113.7") }, false},
		{"HTTP/1.0", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0 }, false},
		{"another header", func(r *http.Request) { r.Header.Set("X-Request-Id", "7") }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/models/rollback", nil)
			r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
			test.change(r)
			if got := local(r); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
