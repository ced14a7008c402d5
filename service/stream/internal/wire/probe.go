package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// ProbeTimeout bounds a Probe.
const ProbeTimeout = 5 * time.Second

// maxProbeResponse bounds an answer to a Probe.
const maxProbeResponse = 1 << 20

// Probe connects to an address as cfg says, and returns nil if a broker answers there which asks
// for the configured kind of login. It does not log in. Otherwise the error says what is wrong and
// what to do about it, above all where one side speaks TLS or SASL and the other one does not: then
// a client only sees that its connection is closed.
func Probe(ctx context.Context, cfg stream.Config, address string) error {
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return unreachable(err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // an error shows at the next use
	secured, err := secure(ctx, cfg, conn, address)
	if err != nil {
		return handshakeFailed(ctx, cfg, address, err)
	}
	if cfg.SASL.Mechanism != "" {
		offered, err := askLogin(secured, cfg.SASL.Mechanism)
		if err != nil {
			return unanswered(ctx, cfg, address, err)
		}
		return loginMisfit(cfg.SASL.Mechanism, offered)
	}
	if err := askCluster(secured); err != nil {
		return withoutLogin(ctx, cfg, address, err)
	}
	return nil
}

// unreachable explains why no connection could be opened.
func unreachable(err error) error {
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup):
		return fmt.Errorf("its name %s cannot be resolved (%s): check kafka.brokers and the DNS", lookup.Name, lookup.Err)
	case isTimeout(err):
		return fmt.Errorf("no answer within %v: check the address in kafka.brokers, and that no firewall is in between", ProbeTimeout)
	}
	return fmt.Errorf("%s: start the broker, or name another address in kafka.brokers", causeOf(err))
}

// causeOf returns the innermost text of a network error, such as "connection refused".
func causeOf(err error) string {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err.Error()
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// handshakeFailed explains why the TLS handshake has failed.
func handshakeFailed(ctx context.Context, cfg stream.Config, address string, err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unknown):
		issuer := "its certificate"
		if unknown.Cert != nil {
			issuer += fmt.Sprintf(", issued by %q,", unknown.Cert.Issuer.CommonName)
		}
		return fmt.Errorf("%s comes from no authority that is trusted: set kafka.tls.ca to the PEM file of that authority", issuer)
	case errors.As(err, &host):
		return fmt.Errorf("%s: name the broker in kafka.brokers as its certificate does", strings.TrimPrefix(host.Error(), "x509: "))
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid: %s: renew it", strings.TrimPrefix(invalid.Error(), "x509: "))
	case errors.As(err, &alert) || isAlert(err):
		return clientCertificate(cfg, err)
	case isTimeout(err):
		return fmt.Errorf("no answer to the TLS handshake within %v: is this the port of a broker with TLS?", ProbeTimeout)
	case speaksPlain(ctx, address):
		return errors.New("the broker speaks no TLS on this port: set kafka.tls.enabled=false, or name its port with TLS in kafka.brokers")
	}
	return fmt.Errorf("the TLS handshake fails (%w): is this the port of a broker with TLS?", err)
}

// isAlert tells whether the other side has ended a connection with a TLS alert.
func isAlert(err error) bool { return strings.Contains(err.Error(), "remote error: tls:") }

// clientCertificate explains an alert of the broker: most are about the client's certificate.
func clientCertificate(cfg stream.Config, err error) error {
	if cfg.TLS == nil || cfg.TLS.GetClientCertificate == nil && len(cfg.TLS.Certificates) == 0 {
		return errors.New("the broker asks for a client's certificate: set kafka.tls.cert and kafka.tls.key")
	}
	return fmt.Errorf("the broker refuses the client's certificate (%w): set kafka.tls.cert and kafka.tls.key to one that it trusts", err)
}

// speaksPlain tells whether a Kafka broker without TLS answers at an address.
func speaksPlain(ctx context.Context, address string) bool {
	conn, err := dialUntil(ctx, address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_, err = probeRequest(conn, kmsg.NewPtrApiVersionsRequest())
	return err == nil
}

// speaksTLS tells whether a server with TLS answers at an address, with whatever certificate.
func speaksTLS(ctx context.Context, address string) bool {
	conn, err := dialUntil(ctx, address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // nothing is sent
	return err == nil || isAlert(err)
}

func dialUntil(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if deadline, ok := ctx.Deadline(); ok && err == nil {
		err = conn.SetDeadline(deadline)
	}
	return conn, err
}

// unanswered explains why a broker does not answer the first request.
func unanswered(ctx context.Context, cfg stream.Config, address string, err error) error {
	switch {
	case isAlert(err):
		return clientCertificate(cfg, err)
	case isTimeout(err):
		return fmt.Errorf("it accepts connections and does not answer within %v: is the broker frozen, or is this another server's port?", ProbeTimeout)
	case cfg.TLS == nil && speaksTLS(ctx, address):
		return errors.New("the broker speaks TLS: set kafka.tls.enabled, and kafka.tls.ca if its certificate comes from an authority of your own")
	}
	return fmt.Errorf("it answers no request of Kafka's (%w): is this the port of a broker?", err)
}

// withoutLogin explains why a broker does not answer a client that does not log in: it may want
// that. Then it closes the connection, but tells its mechanisms to whoever asks for one.
func withoutLogin(ctx context.Context, cfg stream.Config, address string, reason error) error {
	if conn, err := dialUntil(ctx, address); err == nil {
		defer func() { _ = conn.Close() }()
		if secured, err := secure(ctx, cfg, conn, address); err == nil {
			if offered, err := askLogin(secured, ""); err == nil && len(offered) > 0 {
				return fmt.Errorf("the broker wants a login with SASL: set kafka.sasl.mechanism to one of %s, with user and password or a token", listed(offered))
			}
		}
	}
	return unanswered(ctx, cfg, address, reason)
}

// loginMisfit tells why a mechanism is not among those that a broker offers.
func loginMisfit(mechanism string, offered []string) error {
	switch {
	case len(offered) == 0:
		return errors.New("the broker takes no login on this port: set kafka.sasl.mechanism=none, or name its port with SASL in kafka.brokers")
	case !slices.Contains(offered, mechanism):
		return fmt.Errorf("the broker does not offer %s: set kafka.sasl.mechanism to one of %s", mechanism, listed(offered))
	}
	return nil
}

func listed(words []string) string { return strings.Join(slices.Sorted(slices.Values(words)), ", ") }

// askCluster asks for a cluster's brokers, as a client does that need not log in.
func askCluster(conn net.Conn) error {
	if _, err := probeRequest(conn, kmsg.NewPtrApiVersionsRequest()); err != nil { // version 0, which every broker knows
		return err
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 4, []kmsg.MetadataRequestTopic{} // none
	_, err := probeRequest(conn, req)
	return err
}

// askLogin returns the mechanisms with which a broker lets clients log in; none: it takes no login.
// If it offers the given one, only that is known.
func askLogin(conn net.Conn, mechanism string) (offered []string, err error) {
	if _, err := probeRequest(conn, kmsg.NewPtrApiVersionsRequest()); err != nil {
		return nil, err
	}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Version, hello.Mechanism = 1, mechanism
	res, err := probeRequest(conn, hello)
	if err != nil {
		return nil, err
	}
	answer := res.(*kmsg.SASLHandshakeResponse)
	switch err := kerr.ErrorForCode(answer.ErrorCode); {
	case err == nil:
		return append(answer.SupportedMechanisms, mechanism), nil
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return answer.SupportedMechanisms, nil
	case errors.Is(err, kerr.IllegalSaslState):
		return nil, nil
	default:
		return nil, err
	}
}

// probeRequest sends a request and reads the answer.
func probeRequest(conn net.Conn, req kmsg.Request) (kmsg.Response, error) {
	const number = 1
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("inceptor")).AppendRequest(nil, req, number)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > maxProbeResponse || binary.BigEndian.Uint32(head[4:]) != number {
		return nil, fmt.Errorf("the answer begins with %q", head[:])
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, err
	}
	res := req.ResponseKind()
	return res, res.ReadFrom(body)
}
