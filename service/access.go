package service

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// The HTTP pages have no password, so two things are checked of a request.
//
// Its Host header: the owner of a web site can let the site's name point at this
// machine (DNS rebinding). A browser then takes the service for that site, and
// lets the site's scripts read the answers; but it sends the site's name as Host.
// An IP address or localhost cannot be such a name.
//
// Its origin: only this machine may change the service. A reverse proxy on this
// machine makes all requests look local. Most proxies add headers that show it;
// some do not: see proxied.

// checkHost answers 403 unless the Host header is an IP address, localhost, or
// the host in http.listen. With anyRemote, connections from other machines may
// use any name.
func (s *Service) checkHost(anyRemote bool, next http.Handler) http.Handler {
	own, _, _ := net.SplitHostPort(s.config.HTTP.Listen)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r)
		ok := isAddress(host) || own != "" && strings.EqualFold(host, own) || anyRemote && !overLoopback(r)
		if !ok {
			http.Error(w, fmt.Sprintf("not served under the name %q: use an IP address or localhost, or give the name in http.listen", host),
				http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local tells whether a request comes from this machine, and names it as Host.
func local(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback() && isAddress(hostOf(r)) && !proxied(r)
}

// fromElsewhere tells whether a browser sends a request for a page of another origin. Such a page
// cannot read a profile, but it could have many of them made.
func fromElsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return true
}

// proxied tells whether a request shows that a reverse proxy has sent it: by a
// header or, as nginx does by default, by HTTP/1.0. Not every proxy can be
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

// hostOf returns the host in a request's Host header, without the port.
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

// overLoopback tells whether a connection comes from this machine.
func overLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ok || at.IP.IsLoopback()
}
