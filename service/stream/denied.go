package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Refusal is the reason that a broker gives for refusing a request.
type Refusal int

// The reasons that an administrator can remove.
const (
	GroupDenied    Refusal = iota // Read on the group
	TopicDenied                   // an operation on one of the topics
	IDDenied                      // Write on the transactional id
	ClusterDenied                 // IdempotentWrite on the cluster
	SessionRefused                // the session is not within the brokers' bounds
	InstanceFenced                // somebody else has our instance id
)

// An Access is what was asked for.
type Access struct {
	Operation string   // on the topics
	Topics    []string // one of them, where it is not known which
	ID        string   // transactional
}

// An explainedError is an error that says what to do about it.
type explainedError struct {
	error
	why Refusal
}

// Unwrap returns the error with its explanation.
func (e *explainedError) Unwrap() error { return e.error }

// Refused tells whether an error that was explained is of a kind.
func Refused(err error, why Refusal) bool {
	var e *explainedError
	return errors.As(err, &e) && e.why == why
}

// Explain adds to an error what can be done about it, once.
func (c Config) Explain(err error, why Refusal, a Access) error {
	if errors.As(err, new(*explainedError)) {
		return err
	}
	return &explainedError{c.explain(err, why, a), why}
}

func (c Config) explain(err error, why Refusal, a Access) error {
	switch why {
	case GroupDenied:
		return c.denied(err, "Read", "group", c.Group)
	case TopicDenied:
		return c.denied(err, a.Operation, "topic", a.Topics...)
	case IDDenied:
		return c.denied(err, "Write", "transactional-id", a.ID)
	case ClusterDenied:
		return c.denied(err, "IdempotentWrite", "cluster")
	case SessionRefused:
		return fmt.Errorf("%w: kafka.session-timeout of %v is not within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms", err, c.Session)
	case InstanceFenced:
		return fmt.Errorf("%w: another process has kafka.instance-id %s: give each process of the group one of its own", err, c.Instance)
	}
	return err
}

// denied names a permission that is missing, and the command that gives it.
func (c Config) denied(err error, operation, resource string, names ...string) error {
	principal := "NAME"
	if c.SASL.Login != nil && c.SASL.Mechanism != "OAUTHBEARER" { // whose token says it
		if login, loginErr := c.SASL.Login(context.Background()); loginErr == nil {
			principal = login.User
		}
	}
	what, option := resource, "--"+resource
	if len(names) > 0 {
		what += " " + strings.Join(names, " or ")
		option += " " + strings.Join(names, " "+option+" ")
	}
	return fmt.Errorf("%w: %s on %s is not allowed to user %s; to allow it: kafka-acls.sh --bootstrap-server %s --add --allow-principal User:%s --operation %s %s",
		err, operation, what, principal, strings.Join(c.Brokers, ","), principal, operation, option)
}
