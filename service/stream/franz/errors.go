package franz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/diagnosis"
)

// permanent reports whether another attempt cannot help: the broker has understood the
// request and refused it.
func permanent(err error) bool {
	var forever *foreverError
	var reset *stream.ResetError
	var code *kerr.Error
	return errors.As(err, &forever) || errors.As(err, &reset) || errors.As(err, &code) && slices.Contains([]*kerr.Error{
		kerr.TopicAuthorizationFailed,
		kerr.GroupAuthorizationFailed,
		kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed,
		kerr.InvalidTopicException,
		kerr.InvalidGroupID,
		kerr.InconsistentGroupProtocol,
		kerr.InvalidSessionTimeout,
		kerr.FencedInstanceID,
		kerr.InvalidTransactionTimeout,
		kerr.InvalidRequiredAcks,
		kerr.UnsupportedVersion,
		kerr.UnsupportedForMessageFormat,
		kerr.UnsupportedCompressionType,
		kerr.PolicyViolation,
	}, code)
}

// unauthenticated reports whether the credentials are refused. Before the first login that
// ends the driver. Later it is tried again: somebody is changing the credentials, at the
// brokers and in the file, and they will match again.
func unauthenticated(err error) bool {
	var refused *stream.AuthenticationError
	return errors.As(err, &refused) || errors.Is(err, kerr.SaslAuthenticationFailed) ||
		errors.Is(err, kerr.UnsupportedSaslMechanism) || errors.Is(err, kerr.IllegalSaslState)
}

// refusedLogin adds whose credentials are refused to an error that says so.
func refusedLogin(s stream.SASL, err error) error {
	var known *stream.AuthenticationError
	if !unauthenticated(err) || errors.As(err, &known) {
		return err
	}
	return &stream.AuthenticationError{Source: s.Source, Err: err}
}

// newTopicFor is for how long brokers may not know the id of a new topic yet.
const newTopicFor = 5 * time.Second

// endsSession reports whether an error in reading concerns more than one partition: reading
// is forbidden, or the topic is another one now, which takes a new client. since is when
// reading began to fail; zero: it has not failed before.
func endsSession(err error, since time.Time) bool {
	switch {
	case errors.Is(err, kerr.UnsupportedCompressionType), errors.Is(err, kerr.UnsupportedForMessageFormat):
		return false
	case errors.Is(err, kerr.UnknownTopicID):
		return !since.IsZero() && time.Since(since) > newTopicFor
	}
	return permanent(err)
}

// A foreverError does not pass, whatever it wraps.
type foreverError struct{ error }

func (e *foreverError) Unwrap() error { return e.error }

// refused reports whether the broker never takes a record, though it takes others: it is
// too large, or against a rule of the topic.
func refused(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) ||
		errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) ||
		errors.Is(err, kerr.InvalidTimestamp)
}

// forbidden reports whether a permission for a topic is missing. A partition that must
// publish there waits for it, as for a topic that takes nothing: otherwise the process
// would end after every start, at the same record.
func forbidden(err error) bool { return errors.Is(err, kerr.TopicAuthorizationFailed) }

// refusal returns the error that Config.ReplaceRefused gets.
func refusal(err error) error {
	switch {
	case errors.Is(err, kerr.InvalidTimestamp):
		return errors.Join(stream.ErrInvalidTime, err)
	case errors.Is(err, kerr.InvalidRecord) && strings.Contains(err.Error(), "without key"): // the broker's message, if there is one
		return fmt.Errorf("%w: %w", stream.ErrKeyless, err)
	}
	return err
}

// fenced reports whether another process may have taken the transactional id.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// explain adds to an error what can be done about it, if anything can. topics are those
// that operation was tried on, id is the transactional id.
func explain(cfg stream.Config, err error, id, operation string, topics ...string) error {
	refusals := map[*kerr.Error]diagnosis.Refusal{
		kerr.GroupAuthorizationFailed:           diagnosis.GroupDenied,
		kerr.TopicAuthorizationFailed:           diagnosis.TopicDenied,
		kerr.ClusterAuthorizationFailed:         diagnosis.ClusterDenied,
		kerr.InvalidSessionTimeout:              diagnosis.SessionRefused,
		kerr.FencedInstanceID:                   diagnosis.InstanceFenced,
		kerr.TransactionalIDAuthorizationFailed: diagnosis.IDDenied,
	}
	for code, refusal := range refusals {
		if errors.Is(err, code) {
			return diagnosis.Explain(cfg, err, refusal, diagnosis.Access{Operation: operation, Topics: topics, ID: id})
		}
	}
	return err
}
