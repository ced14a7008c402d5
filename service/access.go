package service

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// The pages here have no password, so two things are checked of a request.
//
// Its Host: a web site whose name its owner lets point at this machine (DNS
// rebinding) is, for a browser, the same site as the service, and its scripts
// may read the answers. The browser then sends that name as Host. An address,
// or localhost, is nobody else's.
//
// Its way: what changes the model comes from this machine only. A reverse
// proxy here makes everybody's requests look like that. Most tell of
// themselves in the headers that they add; not all do, so see proxied.

// named lets only requests through whose Host is nobody else's: an address,
// localhost, or the host that http.listen names. Where others may scrape, it
// may be any if the connection comes from outside this machine.
func (s *Service) named(scraped bool, next http.Handler) http.Handler {
	own, _, _ := net.SplitHostPort(s.config.HTTP.Listen)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r)
		ok := isAddress(host) || own != "" && strings.EqualFold(host, own) || scraped && !overLoopback(r)
		if !ok {
			http.Error(w, fmt.Sprintf("not served under the name %q: use an IP address or localhost, or give the name in http.listen", host),
				http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local tells whether a request is from this machine, and meant for it.
func local(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback() && isAddress(hostOf(r)) && !proxied(r)
}

// proxied tells whether a reverse proxy has told that it passed a request on, by
// a header or, as nginx by default, by HTTP/1.0. One that tells nothing is not
// recognised: nginx with proxy_http_version 1.1 and no proxy_set_header sends
// Host 127.0.0.1 and no header of its own. So nothing may proxy /models/.
func proxied(r *http.Request) bool {
	for name := range r.Header {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded"):
			return true
		}
	}
	return !r.ProtoAtLeast(1, 1)
}

// hostOf is the host that a request names, without its port.
func hostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

// isAddress tells whether a host is an IP address or localhost.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// overLoopback tells whether a connection has not left this machine.
func overLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ok || at.IP.IsLoopback()
}
