package kafkago

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"

	"inceptor/service/stream"
)

// permanent tells whether trying again cannot help: the broker has understood
// and said no, to us or to the way we ask. Everything else may pass, however
// long it takes, and is tried again: a process that waits loses nothing, one
// that has given up has to be noticed.
func permanent(err error) bool {
	var reset *stream.ResetError
	var code kafka.Error
	return errors.As(err, &reset) || errors.As(err, &code) && slices.Contains([]kafka.Error{
		kafka.TopicAuthorizationFailed,
		kafka.GroupAuthorizationFailed,
		kafka.ClusterAuthorizationFailed,
		kafka.InvalidTopic,
		kafka.InvalidGroupId,
		kafka.InconsistentGroupProtocol,
		kafka.InvalidSessionTimeout,
		kafka.InvalidRequiredAcks,
		kafka.UnsupportedVersion,
		kafka.UnsupportedForMessageFormat,
		kafka.UnsupportedCompressionType,
		kafka.PolicyViolation,
	}, code)
}

// unauthenticated tells whether the credentials are refused. At the start that ends the driver.
// After a successful login it is tried again: the credentials were changed, at the brokers before
// their file or the other way round, and will fit again.
func unauthenticated(err error) bool {
	var refused *stream.AuthenticationError
	return errors.As(err, &refused)
}

// forbidden tells whether it is a permission for a topic that is missing. A
// process that must publish there waits for it, as for a topic that takes
// nothing: it would end again at every start, with the same record.
func forbidden(err error) bool { return errors.Is(err, kafka.TopicAuthorizationFailed) }

// misconfigured are errors that pass only when somebody changes something,
// found out at start, where somebody is looking.
func misconfigured(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return permanent(err) || unauthenticated(err) || errors.As(err, &unknown) || errors.As(err, &host)
}

// refused tells whether the broker will never take these records, though it
// takes others: too large, or against a rule of the topic.
func refused(err error) bool {
	return errors.Is(err, errRequestTooLarge) ||
		errors.Is(err, kafka.MessageSizeTooLarge) ||
		errors.Is(err, kafka.RecordListTooLarge) ||
		errors.Is(err, kafka.InvalidRecord) ||
		errors.Is(err, kafka.InvalidTimestamp)
}

// withoutKey tells whether the broker refuses a record since its topic is
// compacted. There is no code for it: the broker's words tell, from Kafka 2.5 on.
func withoutKey(err error) bool {
	return errors.Is(err, kafka.InvalidRecord) && strings.Contains(err.Error(), "without key")
}

// outOfGeneration tells whether the group has gone on without this member.
func outOfGeneration(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) ||
		errors.Is(err, kafka.UnknownMemberId) ||
		errors.Is(err, kafka.FencedInstanceID)
}

// explain adds to an error what can be done about it, if anything can. Topics
// are those that operation was tried on.
func explain(cfg stream.Config, err error, operation string, topics ...string) error {
	refusals := map[kafka.Error]stream.Refusal{
		kafka.GroupAuthorizationFailed:   stream.GroupDenied,
		kafka.TopicAuthorizationFailed:   stream.TopicDenied,
		kafka.ClusterAuthorizationFailed: stream.ClusterDenied,
		kafka.InvalidSessionTimeout:      stream.SessionRefused,
		kafka.FencedInstanceID:           stream.InstanceFenced,
	}
	for code, refusal := range refusals {
		if errors.Is(err, code) {
			return cfg.Explain(err, refusal, stream.Access{Operation: operation, Topics: topics})
		}
	}
	return err
}
