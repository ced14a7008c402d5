package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// security returns how the channel is secured and who it says it is.
func (c Config) security() ([]grpc.DialOption, error) {
	if !c.TLS.Enabled {
		return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName}
	if c.TLS.CA != "" {
		pool, err := readAuthorities(c.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("fallback.tls.ca: %w", err)
		}
		config.RootCAs = pool
	}
	if t := c.TLS; t.Cert != "" {
		// Read for every connection: certificates are short-lived and renewed
		// beside a running process.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			if err != nil {
				return nil, fmt.Errorf("fallback.tls.cert: %w", err)
			}
			return &pair, nil
		}
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(alertCredentials{credentials.NewTLS(config)})}
	if c.TokenFile != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenFile(c.TokenFile)))
	}
	return options, nil
}

// A tokenFile sends the token that a file holds. The file is read for every
// call, which is small beside a batch of images: so a token that was renewed
// counts at once, however its file was replaced.
type tokenFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := readToken(string(f))
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

// readToken reads the one line of a file.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	switch {
	case len(b) > maxToken:
		return "", fmt.Errorf("%s is larger than %d bytes, no token", file, maxToken)
	case token == "":
		return "", fmt.Errorf("%s is empty", file)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New(file + " is not one line of visible ASCII characters")
	}
	return token, nil
}
