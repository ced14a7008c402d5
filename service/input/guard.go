package input

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

const maxURL = 8192 // bytes

// A hostRule allows one host, or all hosts below a suffix, on one port or on ports
// 80 and 443.
type hostRule struct {
	host   string // "*" for any; ".suffix" for those below it
	port   string // "": 80 and 443
	suffix bool
}

func parseHostRule(s string) (hostRule, error) {
	rule := hostRule{host: strings.ToLower(s)}
	if host, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return rule, fmt.Errorf("%q: %q is not a port", s, port)
		}
		rule.host, rule.port = strings.ToLower(host), port
	}
	if rule.host == "*" {
		return rule, nil
	}
	name := rule.host
	if rest, ok := strings.CutPrefix(name, "*"); ok && strings.HasPrefix(rest, ".") {
		rule.suffix, rule.host, name = true, rest, rest[1:]
	}
	canonical, err := canonicalHost(name)
	if err != nil {
		return rule, fmt.Errorf("%q is none of host, host:port, *.suffix and *: %w", s, err)
	}
	if !rule.suffix {
		rule.host = canonical
	}
	return rule, nil
}

func (h hostRule) allows(host, port string) bool {
	switch {
	case h.port != "" && h.port != port, h.port == "" && port != "80" && port != "443":
		return false
	case h.suffix:
		return strings.HasSuffix(host, h.host) && len(host) > len(h.host)
	}
	return h.host == "*" || h.host == host
}

// canonicalHost checks the host of a URL and returns its canonical form. It accepts
// names of ASCII letters, digits, "-", "_" and ".", and addresses in their usual
// form. It refuses other forms that a resolver may take for an address (2130706433,
// 0x7f.1, 0177.0.0.1).
func canonicalHost(host string) (string, error) {
	host = strings.ToLower(strings.Trim(host, "[]"))
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return "", errors.New("an address with a zone")
		}
		return a.String(), nil
	}
	host = strings.TrimSuffix(host, ".")
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return "", errors.New("a part of the host is empty or too long")
		}
		if strings.ContainsFunc(l, func(c rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", c)
		}) {
			return "", errors.New("the host has other characters than letters, digits, - and _ (write it in punycode)")
		}
	}
	last := labels[len(labels)-1]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil || strings.Trim(last, "0123456789") == "" {
		return "", errors.New("the host looks like an address, but not in its usual form")
	}
	if len(host) > 253 {
		return "", errors.New("the host is too long")
	}
	return host, nil
}

// checkURL returns why a URL may not be fetched, and makes its host canonical.
func (r *Reader) checkURL(u *url.URL) *Error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse(URLNotAllowed, "scheme %s: only http and https are fetched", quote(u.Scheme))
	case u.User != nil:
		return refuse(URLNotAllowed, "a URL with a user or password")
	case u.Opaque != "" || u.Hostname() == "":
		return refuse(BadURL, "a URL without a host")
	}
	host, err := canonicalHost(u.Hostname())
	if err != nil {
		return refuse(BadURL, "%s: %w", quote(u.Hostname()), err)
	}
	usual := "80"
	if u.Scheme == "https" {
		usual = "443"
	}
	port := cmp.Or(u.Port(), usual)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return refuse(BadURL, "%s is not a port", quote(port))
	}
	for _, rule := range r.hosts {
		if rule.allows(host, port) {
			u.Host = net.JoinHostPort(host, port)
			if port == usual {
				u.Host = strings.TrimSuffix(u.Host, ":"+port)
			}
			return nil
		}
	}
	if len(r.hosts) == 0 {
		return refuse(URLNotAllowed, "%s: input.fetch.hosts is not set, so nothing is fetched", quote(host))
	}
	return refuse(URLNotAllowed, "%s is not in input.fetch.hosts", quote(net.JoinHostPort(host, port)))
}

// control checks the address that is about to be dialled, so that it does not matter
// what the name resolved to before.
func (r *Reader) control(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return refuse(URLForbidden, "%s %s cannot be dialled", network, address)
	}
	a := ap.Addr().Unmap()
	if isPublic(a) {
		return nil
	}
	for _, p := range r.private {
		if p.Contains(a.WithZone("")) {
			return nil
		}
	}
	return refuse(URLForbidden, "address %s is not public and not in input.fetch.private", a)
}

// nonPublic are the networks of IANA's special-purpose registries, and those that
// embed IPv4 addresses (6to4, Teredo).
var nonPublic = func() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// publicIPv6 has all public IPv6 addresses. NAT64, unique local, link-local,
// multicast, mapped and compatible addresses lie outside it.
var publicIPv6 = netip.MustParsePrefix("2000::/3")

func isPublic(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !publicIPv6.Contains(a) {
		return false
	}
	for _, p := range nonPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
