package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// alertCredentials report why a server has refused the client's certificate. Since
// TLS 1.3 a client's handshake ends before the server checks that certificate. The
// refusal arrives as an alert, which only a read returns. gRPC writes at that moment,
// and would report a broken pipe.
type alertCredentials struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (a alertCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return alertConn{conn}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (a alertCredentials) Clone() credentials.TransportCredentials {
	return alertCredentials{a.TransportCredentials.Clone()}
}

// An alertConn is a connection whose failed writes return the server's TLS alert.
type alertConn struct{ net.Conn }

func (c alertConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	// Each read from a closed TLS connection returns the alert again.
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, readErr := c.Read(make([]byte, 1))
	var alert *net.OpError
	if errors.As(readErr, &alert) && alert.Op == "remote error" {
		return n, fmt.Errorf("the server closed the connection: %w", alert.Err)
	}
	return n, err
}
