package franz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"inceptor/service/stream"
)

// permanent tells whether trying again cannot help: the broker has understood
// and said no, to us or to the way we ask.
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

// unauthenticated tells whether the credentials are refused. At the start that ends the driver.
// After a successful login it is tried again: the credentials were changed, at the brokers before
// their file or the other way round, and will fit again.
func unauthenticated(err error) bool {
	var refused *stream.AuthenticationError
	return errors.As(err, &refused) || errors.Is(err, kerr.SaslAuthenticationFailed) ||
		errors.Is(err, kerr.UnsupportedSaslMechanism) || errors.Is(err, kerr.IllegalSaslState)
}

// refusedLogin adds to an error whose credentials are refused, if that is what it says.
func refusedLogin(s stream.SASL, err error) error {
	var known *stream.AuthenticationError
	if !unauthenticated(err) || errors.As(err, &known) {
		return err
	}
	return &stream.AuthenticationError{Source: s.Source, Err: err}
}

// newTopicFor is for how long brokers may not know a topic's id yet, when it was
// just created.
const newTopicFor = 5 * time.Second

// endsSession tells whether an error in reading is none of one partition: it is
// forbidden, or the topic is another one now, which takes a new client. since is
// when reading began to fail, if it did before.
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

// refused tells whether the broker will never take a record, though it takes
// others: too large, or against a rule of the topic.
func refused(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) ||
		errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) ||
		errors.Is(err, kerr.InvalidTimestamp)
}

// forbidden tells whether it is a permission for a topic that is missing. A
// partition that must publish there waits for it, as for a topic that takes
// nothing: the process would end again at every start, with the same record.
func forbidden(err error) bool { return errors.Is(err, kerr.TopicAuthorizationFailed) }

// refusal is why a record is refused, as Config.Refused is told.
func refusal(err error) error {
	switch {
	case errors.Is(err, kerr.InvalidTimestamp):
		return errors.Join(stream.ErrInvalidTime, err)
	case errors.Is(err, kerr.InvalidRecord) && strings.Contains(err.Error(), "without key"): // the broker's words, where we have them
		return fmt.Errorf("%w: %w", stream.ErrKeyless, err)
	}
	return err
}

// fenced tells whether somebody else may have taken the transactional id.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// explain adds to an error what can be done about it, if anything can. Topics
// are those that operation was tried on.
func explain(cfg stream.Config, err error, id, operation string, topics ...string) error {
	refusals := map[*kerr.Error]stream.Refusal{
		kerr.GroupAuthorizationFailed:           stream.GroupDenied,
		kerr.TopicAuthorizationFailed:           stream.TopicDenied,
		kerr.ClusterAuthorizationFailed:         stream.ClusterDenied,
		kerr.InvalidSessionTimeout:              stream.SessionRefused,
		kerr.FencedInstanceID:                   stream.InstanceFenced,
		kerr.TransactionalIDAuthorizationFailed: stream.IDDenied,
	}
	for code, refusal := range refusals {
		if errors.Is(err, code) {
			return cfg.Explain(err, refusal, stream.Access{Operation: operation, Topics: topics, ID: id})
		}
	}
	return err
}
