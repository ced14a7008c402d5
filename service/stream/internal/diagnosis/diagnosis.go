// Package diagnosis adds to a broker's refusal what an administrator can do about it, and tells
// what a group that takes long to join waits for.
package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"inceptor/service/stream"
)

// A Refusal is a broker's reason for refusing a request.
type Refusal int

// The reasons that an administrator can do something about.
const (
	GroupDenied    Refusal = iota // Read on the group
	TopicDenied                   // an operation on one of the topics
	IDDenied                      // Write on the transactional id
	ClusterDenied                 // IdempotentWrite on the cluster
	SessionRefused                // the session is not within the brokers' bounds
	InstanceFenced                // another process has our instance id
)

// An Access is what a refused request was about.
type Access struct {
	Operation string   // on the topics
	Topics    []string // one of them, if it is not known which
	ID        string   // transactional
}

// An explainedError is an error that says what to do about it, and why the request was refused.
type explainedError struct {
	error
	why Refusal
}

// Unwrap returns the error with its explanation.
func (e *explainedError) Unwrap() error { return e.error }

// Is tells whether an error was explained by this refusal.
func Is(err error, why Refusal) bool {
	var e *explainedError
	return errors.As(err, &e) && e.why == why
}

// Explain adds to an error what an administrator can do about it. An error that is explained
// already stays as it is.
func Explain(c stream.Config, err error, why Refusal, a Access) error {
	if errors.As(err, new(*explainedError)) {
		return err
	}
	return &explainedError{explain(c, err, why, a), why}
}

func explain(c stream.Config, err error, why Refusal, a Access) error {
	switch why {
	case GroupDenied:
		return denied(c, err, "Read", "group", c.Group)
	case TopicDenied:
		return denied(c, err, a.Operation, "topic", a.Topics...)
	case IDDenied:
		return denied(c, err, "Write", "transactional-id", a.ID)
	case ClusterDenied:
		return denied(c, err, "IdempotentWrite", "cluster")
	case SessionRefused:
		return fmt.Errorf("%w: kafka.session-timeout of %v is not within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms", err, c.Session)
	case InstanceFenced:
		return fmt.Errorf("%w: another process has kafka.instance-id %s: give each process of the group one of its own", err, c.Instance)
	}
	return err
}

// denied adds to an error the permission that is missing.
func denied(c stream.Config, err error, operation, resource string, names ...string) error {
	return fmt.Errorf("%w: %s", err, Permission(c, operation, resource, names...))
}

// Permission says that a permission is missing, and which command gives it.
func Permission(c stream.Config, operation, resource string, names ...string) string {
	principal := "NAME"
	if c.SASL.Login != nil && c.SASL.Mechanism != stream.OAuthBearer { // whose token says it
		if login, loginErr := c.SASL.Login(context.Background()); loginErr == nil {
			principal = login.User
		}
	}
	what, option := resource, "--"+resource
	if len(names) > 0 {
		what += " " + strings.Join(names, " or ")
		option += " " + strings.Join(names, " "+option+" ")
	}
	return fmt.Sprintf("%s on %s is not allowed to user %s; to allow it: kafka-acls.sh --bootstrap-server %s --add --allow-principal User:%s --operation %s %s",
		operation, what, principal, strings.Join(c.Brokers, ","), principal, operation, option)
}
