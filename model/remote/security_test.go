package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"inceptor/model/remote/remotetest"
)

// An authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	der, a.key = a.sign(template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(name+".pem", "CERTIFICATE", der)
	return a
}

// sign signs a template with the authority's key, or with its own before there is one.
func (a *authority) sign(template *x509.Certificate, parent *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// issue writes a certificate that is valid until a time, and its key.
func (a *authority) issue(name string, until time.Time, host string) (cert, key string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, private := a.sign(template, a.cert)
	b, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", b)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// serveTLS starts a fake server with a certificate. If clients is not nil, it must have signed
// the clients' certificates.
func serveTLS(t *testing.T, cert, key string, clients *authority, options ...grpc.ServerOption) *remotetest.Server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(clients.cert)
	}
	return remotetest.Serve(t, remotetest.NewFake("inception"), append(options, grpc.Creds(credentials.NewTLS(config)))...)
}

func TestTLS(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	later, yesterday := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	cert, key := ours.issue("server", later, "127.0.0.1")
	good := serveTLS(t, cert, key, nil)
	named := func() *remotetest.Server {
		cert, key := ours.issue("named", later, "models.example")
		return serveTLS(t, cert, key, nil)
	}()
	expired := func() *remotetest.Server {
		cert, key := ours.issue("expired", yesterday, "127.0.0.1")
		return serveTLS(t, cert, key, nil)
	}()
	mutual := serveTLS(t, cert, key, ours)
	clientCert, clientKey := ours.issue("client", later, "client")
	otherCert, otherKey := other.issue("client", later, "client")
	oldCert, oldKey := ours.issue("client", yesterday, "client")
	plain := remotetest.Serve(t, remotetest.NewFake("inception"))

	for _, test := range []struct {
		name   string
		server *remotetest.Server
		tls    TLS
		want   string // empty: it is answered
	}{
		{"own authority", good, TLS{CA: ours.file}, ""},
		{"server's name", named, TLS{CA: ours.file, ServerName: "models.example"}, ""},
		{"client's certificate", mutual, TLS{CA: ours.file, Cert: clientCert, Key: clientKey}, ""},
		{"wrong authority", good, TLS{CA: other.file}, "certificate signed by unknown authority"},
		{"system's authorities", good, TLS{}, "certificate signed by unknown authority"},
		{"expired", expired, TLS{CA: ours.file}, "certificate has expired"},
		{"wrong address", named, TLS{CA: ours.file}, "127.0.0.1"},
		{"wrong name", named, TLS{CA: ours.file, ServerName: "other.example"}, "certificate is valid for models.example, not other.example"},
		{"no client certificate", mutual, TLS{CA: ours.file}, "certificate required"},
		{"client of another authority", mutual, TLS{CA: ours.file, Cert: otherCert, Key: otherKey}, "certificate"},
		{"expired client", mutual, TLS{CA: ours.file, Cert: oldCert, Key: oldKey}, "certificate"},
		{"server without TLS", plain, TLS{CA: ours.file}, "first record does not look like a TLS handshake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := testConfig(test.server.Addr())
			if test.want != "" {
				config = hasty(config)
			}
			config.TLS = test.tls
			config.TLS.Enabled = true
			c, _ := newClient(t, config)
			if test.want != "" {
				failsWith(t, c, test.want)
				return
			}
			if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A renewed client certificate is used for the next connection.
func TestCertificateIsReadAgain(t *testing.T) {
	ours := newAuthority(t, "ours")
	cert, key := ours.issue("server", time.Now().Add(time.Hour), "127.0.0.1")
	server := serveTLS(t, cert, key, ours)
	clientCert, clientKey := ours.issue("client", time.Now().Add(-time.Hour), "client")
	config := hasty(testConfig(server.Addr()))
	config.TLS = TLS{Enabled: true, CA: ours.file, Cert: clientCert, Key: clientKey}
	c, _ := newClient(t, config)
	failsWith(t, c, "certificate")

	newCert, newKey := ours.issue("client", time.Now().Add(time.Hour), "client")
	for from, to := range map[string]string{newCert: clientCert, newKey: clientKey} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if !soon(func() bool {
		_, err = c.Predict(t.Context(), batchOf(1))
		return err == nil
	}) {
		t.Error(err)
	}
}

// Changed authorities are used for the next connection. A broken file is ignored meanwhile.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	cert, key := other.issue("server", time.Now().Add(time.Hour), "127.0.0.1")
	server := serveTLS(t, cert, key, nil)
	config := hasty(testConfig(server.Addr()))
	config.TLS = TLS{Enabled: true, CA: ours.file}
	c, _ := newClient(t, config)
	failsWith(t, c, "certificate signed by unknown authority")

	if err := os.WriteFile(ours.file, []byte("-----BEGIN CERT"), 0o600); err != nil {
		t.Fatal(err)
	}
	failsWith(t, c, "certificate signed by unknown authority")
	if err := os.Rename(other.file, ours.file); err != nil {
		t.Fatal(err)
	}
	var err error
	if !soon(func() bool {
		_, err = c.Predict(t.Context(), batchOf(1))
		return err == nil
	}) {
		t.Error(err)
	}
}

func TestToken(t *testing.T) {
	ours := newAuthority(t, "ours")
	cert, key := ours.issue("server", time.Now().Add(time.Hour), "127.0.0.1")
	valid := "first"
	server := serveTLS(t, cert, key, nil, grpc.UnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+valid {
				return nil, status.Errorf(codes.Unauthenticated, "%d authorizations", len(got))
			}
			return handle(ctx, request)
		}))
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	config := testConfig(server.Addr())
	config.TLS, config.TokenFile = TLS{Enabled: true, CA: ours.file}, file
	c, _ := newClient(t, config)
	predict := func() error {
		_, err := c.Predict(t.Context(), batchOf(1))
		return err
	}
	if err := predict(); err != nil {
		t.Fatal(err)
	}
	valid = "again"
	wantKind(t, predict(), KindRefused, "Unauthenticated")
	write("again\n") // as long as the first
	if err := predict(); err != nil {
		t.Errorf("token was renewed: %v", err)
	}
	for content, want := range map[string]string{
		"":                              "is empty",
		" \n":                           "is empty",
		"two\nlines":                    "not one line",
		"gr\u00fcn":                     "not one line",
		strings.Repeat("x", 10_000):     "larger than",
		"evil\r\nx-role: admin\r\n\x00": "not one line",
	} {
		write(content)
		wantKind(t, predict(), KindRefused, "fallback.token-file", want)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	wantKind(t, predict(), KindRefused, "fallback.token-file", "no such file")

	// It is not sent without TLS.
	config.TLS = TLS{}
	write("again\n")
	if _, err := New(config, c.log, Unobserved{}); err == nil || !strings.Contains(err.Error(), "fallback.token-file: needs fallback.tls.enabled") {
		t.Errorf("got %v", err)
	}
}
