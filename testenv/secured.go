package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A SecuredBroker has a plaintext listener that allows everything, and listeners with TLS or a
// login, which allow only what was granted. Clients reach those through a proxy, which can cut
// their connections.
type SecuredBroker struct {
	*Broker
	Secure         string         // address with TLS and SCRAM, host:port
	Mutual         string         // with TLS and client certificates; "client" may do everything
	Bearer         string         // with OAUTHBEARER in plaintext, for unsecured tokens; "token-of-me" may do everything
	Issued         string         // with OAUTHBEARER in plaintext, for tokens of SecuredOptions.JWKS
	Authorities    *x509.CertPool // have signed the broker's certificate
	AuthoritiesPEM string         // a file with the same
	User, Password string         // for SCRAM-SHA-256 and SCRAM-SHA-512

	Own, Clients *Authority // have signed its own certificate, and those that it accepts

	dir     string
	proxies []*proxy
}

// SecuredOptions of a SecuredBroker.
type SecuredOptions struct {
	JWKS       string   // URL of the token issuer's keys; empty: there is no listener Issued
	Properties []string // "key=value"
}

// StartSecuredBroker starts a broker and waits until it answers. The end of the test stops it.
func StartSecuredBroker(tb testing.TB, options SecuredOptions) *SecuredBroker {
	tb.Helper()
	b := &SecuredBroker{User: "me", Password: "secret-of-me", dir: tb.TempDir()}
	b.AuthoritiesPEM = filepath.Join(b.dir, "ca.pem")
	b.Renew(tb, NewAuthority(tb, "broker's"), NewAuthority(tb, "clients'"))
	var listeners []listener
	listen := func(name, protocol string) string {
		ports, err := freePorts(1)
		if err != nil {
			tb.Fatal(err)
		}
		p := newProxy(tb, ports[0])
		b.proxies = append(b.proxies, p)
		listeners = append(listeners, listener{name, protocol, ports[0], p.Addr()})
		return p.Addr()
	}
	b.Secure, b.Mutual, b.Bearer = listen("SECURE", "SASL_SSL"), listen("MUTUAL", "SSL"), listen("BEARER", "SASL_PLAINTEXT")
	properties := append([]string{
		"group.min.session.timeout.ms=1000",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS;User:token-of-me;User:CN=client;User:rotated",
		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + filepath.Join(b.dir, "keystore.pem"),
		"ssl.truststore.type=PEM",
		"ssl.truststore.location=" + filepath.Join(b.dir, "truststore.pem"),
		"listener.name.mutual.ssl.client.auth=required",
		"listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.bearer.sasl.enabled.mechanisms=OAUTHBEARER",
		"listener.name.bearer.oauthbearer.sasl.jaas.config=" + bearerModule + " unsecuredLoginStringClaim_sub=\"broker\";",
	}, options.Properties...)
	var flags []string
	if options.JWKS != "" {
		flags = append(flags, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+options.JWKS)
		b.Issued = listen("ISSUED", "SASL_PLAINTEXT")
		properties = append(properties,
			"listener.name.issued.sasl.enabled.mechanisms=OAUTHBEARER",
			"listener.name.issued.oauthbearer.sasl.jaas.config="+bearerModule+";",
			"listener.name.issued.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
			"listener.name.issued.oauthbearer.sasl.oauthbearer.jwks.endpoint.url="+options.JWKS,
			"listener.name.issued.oauthbearer.sasl.oauthbearer.expected.audience=kafka",
		)
	}
	var format []string
	for _, m := range []string{"256", "512"} {
		properties = append(properties, "listener.name.secure.scram-sha-"+m+".sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;")
		format = append(format, "--add-scram", fmt.Sprintf("SCRAM-SHA-%s=[name=%s,password=%s]", m, b.User, b.Password))
	}
	k, err := startKafka(tb.Context(), KafkaLib(tb), tb.TempDir(), listeners, flags, format, properties)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Kill)
	b.Broker = &Broker{k, tb}
	return b
}

const bearerModule = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"

// Renew gives the broker a certificate of one authority, and makes it trust the clients of another
// one. It takes effect at the next start.
func (b *SecuredBroker) Renew(tb testing.TB, own, clients *Authority) {
	tb.Helper()
	cert, key := own.Issue(tb, "broker")
	b.Own, b.Clients, b.Authorities = own, clients, x509.NewCertPool()
	b.Authorities.AppendCertsFromPEM(own.PEM)
	for file, content := range map[string][]byte{
		"ca.pem": own.PEM, "keystore.pem": append(key, cert...), "truststore.pem": clients.PEM,
	} {
		if err := os.WriteFile(filepath.Join(b.dir, file), content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// Cut closes every connection to the secured listeners.
func (b *SecuredBroker) Cut() {
	for _, p := range b.proxies {
		p.cut()
	}
}

// An Authority signs certificates.
type Authority struct {
	PEM  []byte // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority returns an authority with a self-signed certificate.
func NewAuthority(tb testing.TB, name string) *Authority {
	tb.Helper()
	a := &Authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := sign(tb, template, nil, nil)
	a.key = key
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// Issue returns a certificate and a key for 127.0.0.1, as PEM, for servers and clients.
func (a *Authority) Issue(tb testing.TB, name string) (cert, key []byte) {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, private := sign(tb, template, a.cert, a.key)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// sign returns a new key and a certificate for it. Without a parent, the certificate is
// self-signed.
func sign(tb testing.TB, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	return der, key
}
