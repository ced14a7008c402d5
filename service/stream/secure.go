package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// handshakeTimeout bounds the TLS handshake of a connection.
const handshakeTimeout = 5 * time.Second

// Secure returns conn with TLS on it, if the configuration wants that. The broker's certificate
// must be for the host of address, unless Config.TLS names another. It closes conn if it returns
// an error.
func (c Config) Secure(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	if c.TLS == nil {
		return conn, nil
	}
	config := c.TLS.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		config.ServerName = host
	}
	if c.Roots != nil {
		config.RootCAs = c.Roots()
	}
	secure := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}
