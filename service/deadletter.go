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

// ReasonUnreadBatch is the reason of a dead letter for all records of a batch
// that takes too much memory when it is decompressed, or is broken.
const ReasonUnreadBatch = "unread-batch"

// ReasonGivenUp is the reason of a dead letter for a record that could not be
// answered for as long as kafka.on-error-after, by no fault of its own.
const ReasonGivenUp = "given-up"

// maxErrorBytes bounds the error in a dead letter's header.
const maxErrorBytes = 1024

// What the smallest dead letter holds of the key and of the error, at most.
const (
	minKeyBytes   = 256
	minErrorBytes = 256
)

// deadLetter is the record whole, but for the sender's headers that only the
// service sets, with reason and origin in its headers.
func deadLetter(r stream.Record, topic, reason string, err error) stream.Record {
	return stream.Record{
		Topic: topic, Key: r.Key, Value: r.Value, Time: r.Time,
		Headers: append(slices.Clone(sendersHeaders(r.Headers)),
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

// unread makes one dead letter for all records of a batch, as
// stream.Config.Unread.
func (h *handler) unread(limit int64) func(stream.Batch) []stream.Record {
	return func(b stream.Batch) []stream.Record {
		first := stream.Record{Topic: b.Topic, Partition: b.Partition, Offset: b.First}
		err := fmt.Errorf("the records from offset %d to %d were compressed together, and are not read: decompressed they need more than %d bytes "+
			"(the largest of 32 MiB, kafka.window.bytes and twice input.max-bytes), or cannot be decompressed; they are still in %s, partition %d",
			b.First, b.Last, limit, b.Topic, b.Partition)
		h.metrics.deadLetter(ReasonUnreadBatch)
		h.recent.deadLetter(first, ReasonUnreadBatch, err)
		letter := deadLetter(first, h.deadLetter, ReasonUnreadBatch, err)
		letter.Headers = append(letter.Headers, header(headerLastOffset, strconv.FormatInt(b.Last, 10)))
		return []stream.Record{letter}
	}
}

// refused makes the dead letter for a record whose output the broker does not
// take. If that was the dead letter itself, it gets the time of now where its
// own is not taken, and its id as the key where it has none and needs one; else
// it is shortened. An error means that not even the smallest one is taken.
func (h *handler) refused(source, output stream.Record, reason error) (stream.Record, error) {
	source.Headers = sendersHeaders(source.Headers) // as in output
	if output.Topic != h.deadLetter {
		h.metrics.deadLetter(ReasonRefused)
		if !errors.Is(reason, stream.ErrInvalidTime) && !errors.Is(reason, stream.ErrKeyless) {
			reason = fmt.Errorf("a record of %d bytes: %w", output.Size(), reason) // which mostly is too large
		}
		return deadLetter(source, h.deadLetter, ReasonRefused, reason), nil
	}
	if errors.Is(reason, stream.ErrInvalidTime) && output.Time.Equal(source.Time) {
		output.Time = time.Now()
		return output, nil
	}
	if errors.Is(reason, stream.ErrKeyless) && output.Key == nil {
		output.Key = appendRecordID(nil, source)
		output.Headers = append(slices.Clone(output.Headers), header(headerAddedKey, "true"))
		return output, nil
	}
	if letter, ok := shorten(source, output); ok {
		return letter, nil
	}
	return stream.Record{}, fmt.Errorf("%w: %s takes not even a dead letter of %d bytes without value, headers and most of the key; "+
		"the partition waits: check the topic's max.message.bytes and permissions", errNothingTaken, h.deadLetter, output.Size())
}

// shorten leaves out of a dead letter what the sender may have made too large,
// or says that there is nothing left of that: first the value and the sender's
// headers, then most of the key, which partitions and compaction go by, and of
// the error. A topic that is compacted takes no letter without a key, so there
// the id becomes one. Headers tell what is left out; the origin in them tells
// where it still lies.
func shorten(source, letter stream.Record) (stream.Record, bool) {
	switch letter.Headers[len(letter.Headers)-1].Key {
	case headerTruncatedKey:
		return letter, false
	case headerTruncated, headerTruncatedHeaders:
		letter.Headers = slices.Clone(letter.Headers)
		for i, h := range letter.Headers {
			if h.Key == headerError {
				letter.Headers[i] = header(headerError, clip(string(h.Value), minErrorBytes))
			}
		}
		letter.Key = slices.Clone(source.Key[:min(len(source.Key), minKeyBytes)])
		if len(letter.Key) == 0 {
			letter.Key = appendRecordID(nil, source)
		}
		letter.Headers = append(letter.Headers, header(headerTruncatedKey, strconv.Itoa(len(source.Key))))
	default:
		letter.Value = nil
		letter.Headers = append(slices.Clone(letter.Headers[len(source.Headers):]), header(headerTruncated, strconv.Itoa(len(source.Value))))
		if len(source.Headers) > 0 {
			n := 0
			for _, h := range source.Headers {
				n += len(h.Key) + len(h.Value)
			}
			letter.Headers = append(letter.Headers, header(headerTruncatedHeaders, strconv.Itoa(n)))
		}
	}
	return letter, true
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
