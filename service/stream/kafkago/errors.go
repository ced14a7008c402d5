package kafkago

import (
	"errors"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/diagnosis"
)

// permanent tells whether a retry cannot help: the broker has understood the request, and refuses
// us or the way we ask. Everything else may pass, however long it takes, and is retried: a
// process that waits loses nothing, while one that has given up must be noticed by somebody.
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
// After a successful login it is retried: the credentials were changed, at the brokers before
// their file or the other way round, and will fit again.
func unauthenticated(err error) bool {
	var refused *stream.AuthenticationError
	return errors.As(err, &refused)
}

// forbidden tells whether a permission for a topic is missing. A process that must publish there
// waits for it, as for a topic that takes nothing: otherwise it would end at every start, with
// the same record.
func forbidden(err error) bool { return errors.Is(err, kafka.TopicAuthorizationFailed) }

// refused tells whether the broker will never take these records, though it takes others: they
// are too large, or against a rule of the topic.
func refused(err error) bool {
	return errors.Is(err, errRequestTooLarge) ||
		errors.Is(err, kafka.MessageSizeTooLarge) ||
		errors.Is(err, kafka.RecordListTooLarge) ||
		errors.Is(err, kafka.InvalidRecord) ||
		errors.Is(err, kafka.InvalidTimestamp)
}

// withoutKey tells whether the broker refuses a record without a key because its topic is
// compacted. There is no code for it, but brokers say so in words, from Kafka 2.5 on.
func withoutKey(err error) bool {
	return errors.Is(err, kafka.InvalidRecord) && strings.Contains(err.Error(), "without key")
}

// outOfGeneration tells whether the group has gone on without this member.
func outOfGeneration(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) ||
		errors.Is(err, kafka.UnknownMemberId) ||
		errors.Is(err, kafka.FencedInstanceID)
}

// explain adds to an error what can be done about it, if there is something. operation was tried on
// topics.
func explain(cfg stream.Config, err error, operation string, topics ...string) error {
	refusals := map[kafka.Error]diagnosis.Refusal{
		kafka.GroupAuthorizationFailed:   diagnosis.GroupDenied,
		kafka.TopicAuthorizationFailed:   diagnosis.TopicDenied,
		kafka.ClusterAuthorizationFailed: diagnosis.ClusterDenied,
		kafka.InvalidSessionTimeout:      diagnosis.SessionRefused,
		kafka.FencedInstanceID:           diagnosis.InstanceFenced,
	}
	for code, refusal := range refusals {
		if errors.Is(err, code) {
			return diagnosis.Explain(cfg, err, refusal, diagnosis.Access{Operation: operation, Topics: topics})
		}
	}
	return err
}
