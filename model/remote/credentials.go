package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"inceptor/internal/credential"
)

// security returns how the channel is secured and who it says it is.
func (c Config) security(log *slog.Logger) ([]grpc.DialOption, error) {
	if !c.TLS.Enabled {
		return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
	}
	h, err := c.TLS.handshake(log)
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(alertCredentials{h})}
	if c.TokenFile != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenFile(c.TokenFile)))
	}
	return options, nil
}

// A handshake secures connections with the certificates that their files hold at that moment, for
// they are short-lived and renewed while the process runs.
type handshake struct {
	credentials.TransportCredentials // for all but the handshake
	config                           *tls.Config
	authorities                      *credential.File[*x509.CertPool] // nil: the system's
}

func (t TLS) handshake(log *slog.Logger) (*handshake, error) {
	h := &handshake{config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}}
	var err error
	if t.CA != "" {
		if h.authorities, err = credential.Authorities(log, "fallback.tls.ca", t.CA); err != nil {
			return nil, err
		}
	}
	if t.Cert != "" {
		pair, err := credential.Certificate(log, "fallback.tls.cert", t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		h.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.Value(), nil }
	}
	h.TransportCredentials = credentials.NewTLS(h.config)
	return h, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (h *handshake) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := h.config.Clone()
	if h.authorities != nil {
		config.RootCAs = h.authorities.Value()
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
}

// Clone implements credentials.TransportCredentials.
func (h *handshake) Clone() credentials.TransportCredentials {
	return &handshake{h.TransportCredentials.Clone(), h.config.Clone(), h.authorities}
}

// A tokenFile sends the token that a file holds. The file is read for every
// call, which is small beside a batch of images: so a token that was renewed
// counts at once, however its file was replaced.
type tokenFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := credential.ReadToken(string(f), maxToken)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "fallback.token-file: "+err.Error())
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a token
// is never sent in the clear.
func (tokenFile) RequireTransportSecurity() bool { return true }

// maxToken is far above any token, and below what servers take as a header.
const maxToken = 8 << 10
