package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"inceptor/service/stream"
)

// handshakeTimeout bounds the TLS handshake of a connection.
const handshakeTimeout = 5 * time.Second

// secure returns conn with TLS, if the configuration asks for it. The broker's certificate must
// be for the host of address, unless Config.TLS names another. On an error it closes conn.
func secure(ctx context.Context, c stream.Config, conn net.Conn, address string) (net.Conn, error) {
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
	secured := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}
