package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"inceptor/service/stream"
)

// SASL returns the client's side of the handshake.
func SASL(s stream.SASL) sasl.Mechanism { return client{s} }

type client struct{ stream.SASL }

// Name implements sasl.Mechanism.
func (c client) Name() string { return c.Mechanism }

// Authenticate implements sasl.Mechanism.
func (c client) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	l, err := c.Login(ctx)
	if err != nil {
		return nil, nil, err
	}
	switch c.Mechanism {
	case stream.Plain:
		return plain.Auth{User: l.User, Pass: l.Password}.AsMechanism().Authenticate(ctx, host)
	case stream.ScramSHA256:
		return scram.Auth{User: l.User, Pass: l.Password}.AsSha256Mechanism().Authenticate(ctx, host)
	case stream.ScramSHA512:
		return scram.Auth{User: l.User, Pass: l.Password}.AsSha512Mechanism().Authenticate(ctx, host)
	case stream.OAuthBearer:
		return &bearer{}, []byte("n,,\x01auth=Bearer " + l.Token + "\x01\x01"), nil // RFC 7628, 3.1
	}
	return nil, nil, fmt.Errorf("SASL mechanism %q is not known", c.Mechanism)
}

// A bearer is the OAUTHBEARER handshake after its first message. franz-go's own does not return the
// broker's reason for refusing a token.
type bearer struct{ refused bool }

// Challenge implements sasl.Session.
func (b *bearer) Challenge(challenge []byte) (bool, []byte, error) {
	switch {
	case b.refused:
		return false, nil, errors.New("the broker has refused the token")
	case len(challenge) > 0:
		// RFC 7628, 3.2.3: the client answers an error with a dummy message, and then the server
		// fails the handshake. A Kafka broker repeats the error there.
		b.refused = true
		return false, []byte{1}, nil
	}
	return true, nil, nil
}
