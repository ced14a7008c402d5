package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// Since TLS 1.3 a client is done with its handshake before the server has
// looked at the client's certificate. Why that was refused comes as an alert
// to read, while gRPC is writing already and meets a connection that is
// closed: a broken pipe would be all that anybody hears of it.
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

// An alertConn tells, when it cannot write, what the server has said last.
type alertConn struct{ net.Conn }

func (c alertConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	// Whoever reads from a TLS connection that has ended gets the reason,
	// however often it was read.
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, readErr := c.Read(make([]byte, 1))
	var alert *net.OpError
	if errors.As(readErr, &alert) && alert.Op == "remote error" {
		return n, fmt.Errorf("the server has ended the connection: %w", alert.Err)
	}
	return n, err
}
