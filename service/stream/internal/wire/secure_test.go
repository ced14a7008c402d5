package wire

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"

	"inceptor/service/stream"
	"inceptor/testenv"
)

// Config.Roots is called at each handshake, and the broker's name and authority are checked.
func TestSecure(t *testing.T) {
	own, other := testenv.NewAuthority(t, "own"), testenv.NewAuthority(t, "other")
	cert, err := tls.X509KeyPair(own.Issue(t, "broker")) // for 127.0.0.1
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	pool := func(pem []byte) *x509.CertPool {
		p := x509.NewCertPool()
		p.AppendCertsFromPEM(pem)
		return p
	}
	var roots *x509.CertPool
	cfg := stream.Config{TLS: &tls.Config{}, Roots: func() *x509.CertPool { return roots }}
	for _, test := range []struct {
		name    string
		roots   []byte
		address string // that is said to be dialled
		want    string // in the error
	}{
		{"wrong authority", other.PEM, "127.0.0.1:9093", "unknown authority"},
		{"changed to the right one", own.PEM, "127.0.0.1:9093", ""},
		{"wrong IP address", own.PEM, "127.0.0.2:9093", "certificate is valid for 127.0.0.1, not 127.0.0.2"},
		{"wrong host", own.PEM, "broker.example:9093", "broker.example"},
		{"no authority", nil, "127.0.0.1:9093", "unknown authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			roots = pool(test.roots)
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			secured, err := secure(t.Context(), cfg, conn, test.address)
			if err == nil {
				secured.Close()
			}
			if test.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
