package stream

import (
	"context"
	"fmt"
)

// The values of SASL.Mechanism, besides "".
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// SASL says how to log in to the brokers. The zero value means without a login.
type SASL struct {
	Mechanism string
	// Login is called at each handshake, because credentials change while the process runs.
	Login func(context.Context) (Login, error)
	// Source names who logs in and where the secret comes from, for messages.
	Source string
}

// A Login holds the credentials for one handshake: User and Password, or Token for OAUTHBEARER.
type Login struct{ User, Password, Token string }

// String keeps secrets out of logs.
func (l Login) String() string { return "login of " + l.User }

// GoString keeps secrets out of logs.
func (l Login) GoString() string { return l.String() }

// Always returns a SASL.Login for credentials that do not change.
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

// Unwrap returns the broker's answer.
func (e *AuthenticationError) Unwrap() error { return e.Err }
