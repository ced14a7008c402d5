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

// security returns the options that secure the channel and authenticate the client.
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

// A handshake secures each new connection with the certificates that the files hold at
// that moment: certificates are short-lived, and renewed while the process runs.
type handshake struct {
	credentials.TransportCredentials // for all but the handshake
	config                           *tls.Config
	authorities                      func() *x509.CertPool // nil: those of the system
}

func (t TLS) handshake(log *slog.Logger) (*handshake, error) {
	config, authorities, err := credential.ClientTLS(log, "fallback.tls", t.CA, t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	config.ServerName = t.ServerName
	return &handshake{credentials.NewTLS(config), config, authorities}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (h *handshake) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := h.config.Clone()
	if h.authorities != nil {
		config.RootCAs = h.authorities()
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
}

// Clone implements credentials.TransportCredentials.
func (h *handshake) Clone() credentials.TransportCredentials {
	return &handshake{h.TransportCredentials.Clone(), h.config.Clone(), h.authorities}
}

// A tokenFile sends the token that a file holds. It reads the file for each call, so
// that a renewed token is used at once, however the file was replaced. That takes little
// time compared with a batch of images.
type tokenFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := credential.ReadToken(string(f), maxToken)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "fallback.token-file: "+err.Error())
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a token is never
// sent without TLS.
func (tokenFile) RequireTransportSecurity() bool { return true }

// maxToken is far above the size of any token, and below what servers accept as a header.
const maxToken = 8 << 10
