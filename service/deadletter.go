package service

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"inceptor/service/stream"
)

// ReasonRefused is the reason of a dead letter for a record whose answer the
// broker refuses, as larger than its topic takes or against a rule of the
// topic. The other reasons come from packages input and model.
const ReasonRefused = "refused-by-broker"

// ReasonGivenUp is the reason of a dead letter for a record that could not be
// answered for as long as kafka.on-error-after, by no fault of its own.
const ReasonGivenUp = "given-up"

// maxErrorBytes bounds the error in a dead letter's header.
const maxErrorBytes = 1024

// deadLetter is the record whole, with reason and origin in its headers.
func deadLetter(r stream.Record, topic, reason string, err error) stream.Record {
	return stream.Record{
		Topic: topic, Key: r.Key, Value: r.Value, Time: r.Time,
		Headers: append(slices.Clone(r.Headers),
			header(headerReason, reason),
			header(headerError, clip(err.Error(), maxErrorBytes)),
			header(headerID, recordID(r)),
			header(headerTopic, r.Topic),
			header(headerPartition, strconv.Itoa(r.Partition)),
			header(headerOffset, strconv.FormatInt(r.Offset, 10)),
		),
	}
}

// givenUp is what kafka.on-error asks for, as stream.Config.GivenUp.
func (h *handler) givenUp(k Kafka) func(stream.Record, time.Duration, error) ([]stream.Record, bool) {
	if k.OnError != onErrorDeadLetter && k.OnError != onErrorStop {
		return nil
	}
	return func(r stream.Record, since time.Duration, err error) ([]stream.Record, bool) {
		if since < k.OnErrorAfter {
			return nil, false
		}
		err = fmt.Errorf("not answered within %v: %w", k.OnErrorAfter, err)
		if k.OnError == onErrorStop {
			h.stop(fmt.Errorf("kafka.on-error: record %s was %w", recordID(r), err))
			return nil, false
		}
		h.metrics.deadLetter(ReasonGivenUp)
		h.recent.deadLetter(r, ReasonGivenUp, err)
		return []stream.Record{deadLetter(r, h.deadLetter, ReasonGivenUp, err)}, true
	}
}

// refused makes the dead letter for a record whose output the broker does not
// take. If that was the dead letter itself, it gets the time of now where its
// own is not taken; else the value and the sender's headers are left out: the
// origin tells where they still lie.
func (h *handler) refused(source, output stream.Record, reason error) (stream.Record, error) {
	if output.Topic != h.deadLetter {
		h.metrics.deadLetter(ReasonRefused)
		return deadLetter(source, h.deadLetter, ReasonRefused, reason), nil
	}
	if errors.Is(reason, stream.ErrInvalidTime) {
		output.Time = time.Now()
		return output, nil
	}
	if last := output.Headers[len(output.Headers)-1]; last.Key == headerTruncated {
		return stream.Record{}, fmt.Errorf("%s takes not even a dead letter without its value: %w", h.deadLetter, reason)
	}
	letter := output
	letter.Value = nil
	letter.Headers = append(slices.Clone(output.Headers[len(source.Headers):]),
		header(headerTruncated, strconv.Itoa(len(source.Value))))
	return letter, nil
}

// clip cuts s to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.ToValidUTF8(s[:n], "\uFFFD") + "…"
}
