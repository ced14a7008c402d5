package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The values of SASL.Mechanism, besides "".
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// SASL says how to log in to the brokers. The zero value: not at all.
type SASL struct {
	Mechanism string
	// Login is asked at each handshake, for credentials change while the process runs.
	Login func(context.Context) (Login, error)
	// Source says who logs in and where the secret comes from, for messages.
	Source string
}

// A Login has the credentials for one handshake: User and Password, or Token for OAUTHBEARER.
type Login struct{ User, Password, Token string }

// String keeps secrets out of logs.
func (l Login) String() string { return "login of " + l.User }

// GoString keeps secrets out of logs.
func (l Login) GoString() string { return l.String() }

// Always is a SASL.Login of credentials that do not change.
func Always(l Login) func(context.Context) (Login, error) {
	return func(context.Context) (Login, error) { return l, nil }
}

// An AuthenticationError says that a broker, or the provider of tokens, refuses the credentials.
type AuthenticationError struct {
	Source string // SASL.Source
	Err    error
}

// Error implements error.
func (e *AuthenticationError) Error() string {
	return fmt.Sprintf("authentication failed (%s): %v", e.Source, e.Err)
}

// Unwrap returns what was answered.
func (e *AuthenticationError) Unwrap() error { return e.Err }

// Client is the client's side of the handshake.
func (s SASL) Client() sasl.Mechanism { return client{s} }

type client struct{ SASL }

// Name implements sasl.Mechanism.
func (c client) Name() string { return c.Mechanism }

// Authenticate implements sasl.Mechanism.
func (c client) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	l, err := c.Login(ctx)
	if err != nil {
		return nil, nil, err
	}
	switch c.Mechanism {
	case Plain:
		return plain.Auth{User: l.User, Pass: l.Password}.AsMechanism().Authenticate(ctx, host)
	case ScramSHA256:
		return scram.Auth{User: l.User, Pass: l.Password}.AsSha256Mechanism().Authenticate(ctx, host)
	case ScramSHA512:
		return scram.Auth{User: l.User, Pass: l.Password}.AsSha512Mechanism().Authenticate(ctx, host)
	case OAuthBearer:
		return &bearer{}, []byte("n,,\x01auth=Bearer " + l.Token + "\x01\x01"), nil // RFC 7628, 3.1
	}
	return nil, nil, fmt.Errorf("SASL mechanism %q is not known", c.Mechanism)
}

// A bearer is the OAUTHBEARER handshake after its first message. franz-go's own ends without the
// reason that the broker gives for refusing a token.
type bearer struct{ refused bool }

// Challenge implements sasl.Session.
func (b *bearer) Challenge(challenge []byte) (bool, []byte, error) {
	switch {
	case b.refused:
		return false, nil, errors.New("the broker has refused the token")
	case len(challenge) > 0:
		// RFC 7628, 3.2.3: the client answers an error with a dummy, and then the server fails the
		// handshake. A Kafka broker repeats the error there.
		b.refused = true
		return false, []byte{1}, nil
	}
	return true, nil, nil
}
