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

// A SecuredBroker has, beside the listener that admits everybody to
// everything, one with TLS and SCRAM, where only what was allowed is.
type SecuredBroker struct {
	*Broker
	Secure         string         // its address, host:port
	Authorities    *x509.CertPool // its certificate's
	AuthoritiesPEM string         // a file with the same
	User, Password string         // for SCRAM-SHA-256 and SCRAM-SHA-512
}

// StartSecuredBroker starts a broker and waits until it answers; the test
// stops it.
func StartSecuredBroker(tb testing.TB) *SecuredBroker {
	tb.Helper()
	dir := tb.TempDir()
	ports, err := freePorts(1)
	if err != nil {
		tb.Fatal(err)
	}
	b := &SecuredBroker{Secure: ports[0], User: "me", Password: "secret-of-me", AuthoritiesPEM: filepath.Join(dir, "ca.pem")}
	keystore := filepath.Join(dir, "keystore.pem")
	cert, key := certificate(tb)
	b.Authorities = x509.NewCertPool()
	b.Authorities.AppendCertsFromPEM(cert)
	for file, content := range map[string][]byte{b.AuthoritiesPEM: cert, keystore: append(key, cert...)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	properties := []string{
		"group.min.session.timeout.ms=1000",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
		"listener.name.secure.ssl.keystore.type=PEM",
		"listener.name.secure.ssl.keystore.location=" + keystore,
		"listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512",
	}
	var format []string
	for _, m := range []string{"256", "512"} {
		properties = append(properties, "listener.name.secure.scram-sha-"+m+".sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;")
		format = append(format, "--add-scram", fmt.Sprintf("SCRAM-SHA-%s=[name=%s,password=%s]", m, b.User, b.Password))
	}
	k, err := startKafka(tb.Context(), KafkaLib(tb), tb.TempDir(), []string{"SECURE:SASL_SSL://" + b.Secure}, format, properties)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Kill)
	b.Broker = &Broker{k, tb}
	return b
}

// certificate makes one for 127.0.0.1, which is its own authority, as PEM.
func certificate(tb testing.TB) (cert, key []byte) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
