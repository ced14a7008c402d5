package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"inceptor/internal/clip"
	"inceptor/service/stream"
)

// Reasons of dead letters. Those of packages input and infer come in addition.
const (
	// ReasonRefused: the broker refuses the answer, because it is larger than its
	// topic allows or breaks a rule of the topic.
	ReasonRefused = "refused-by-broker"
	// ReasonUnreadBatch: the record is one of a batch that is corrupt, or needs too
	// much memory when it is decompressed. The batch has one dead letter.
	ReasonUnreadBatch = "unread-batch"
	// ReasonGivenUp: the record could not be answered within kafka.on-error-after,
	// through no fault of its own.
	ReasonGivenUp = "given-up"
	// ReasonCrashed: the record ended the process, or hung the model, while it was
	// the only one in the model.
	ReasonCrashed = "crashed"
)

// errLetterRefused is the error for a record of which the dead-letter topic
// refuses even a shortened dead letter.
var errLetterRefused = errors.New("the dead-letter topic refuses the record's dead letter")

// maxErrorBytes bounds the error in a dead letter's header.
const maxErrorBytes = 1024

// The most bytes that a shortened dead letter keeps of the key and of the error.
const (
	minKeyBytes   = 256
	minErrorBytes = 256
)

// deadLetter returns the record with the dead letter's reason and the record's
// origin in its headers. The sender's headers that only the service may set are
// left out.
func deadLetter(r stream.Record, topic, reason string, err error) stream.Record {
	return stream.Record{
		Topic: topic, Key: r.Key, Value: r.Value, Time: r.Time,
		Headers: append(slices.Clone(sendersHeaders(r.Headers)),
			header(headerReason, reason),
			header(headerError, clip.Text(err.Error(), maxErrorBytes)),
			header(headerID, r.ID()),
			header(headerTopic, r.Topic),
			header(headerPartition, strconv.Itoa(r.Partition)),
			header(headerOffset, strconv.FormatInt(r.Offset, 10)),
		),
	}
}

// onFailure returns what stream.Config.OnFailure is set to, by kafka.on-error.
func (h *handler) onFailure(k Kafka) func(context.Context, stream.Record, time.Duration, error) ([]stream.Record, bool) {
	if k.OnError != onErrorDeadLetter && k.OnError != onErrorStop {
		return nil
	}
	return func(_ context.Context, r stream.Record, since time.Duration, err error) ([]stream.Record, bool) {
		if since < k.OnErrorAfter {
			return nil, false
		}
		err = fmt.Errorf("not answered within %v: %w", k.OnErrorAfter, err)
		if k.OnError == onErrorStop {
			h.stop(fmt.Errorf("kafka.on-error: record %s was %w", r.ID(), err))
			return nil, false
		}
		h.letterMade(r, ReasonGivenUp, err)
		letter := deadLetter(r, h.deadLetter, ReasonGivenUp, err)
		h.recent.DeadLetter(r, ReasonGivenUp, err, letter)
		return []stream.Record{letter}, true
	}
}

// replaceUnread returns what stream.Config.ReplaceUnread is set to: it makes one
// dead letter for all records of a batch.
func (h *handler) replaceUnread(limit int64) func(stream.Batch) []stream.Record {
	return func(b stream.Batch) []stream.Record {
		first := stream.Record{Topic: b.Topic, Partition: b.Partition, Offset: b.First}
		err := fmt.Errorf("the batch of records from offset %d to %d was not read: it needs more than %d bytes when decompressed "+
			"(the largest of 32 MiB, kafka.window.bytes and twice input.max-bytes), or cannot be decompressed; it is still in %s, partition %d",
			b.First, b.Last, limit, b.Topic, b.Partition)
		h.letterMade(first, ReasonUnreadBatch, err)
		letter := deadLetter(first, h.deadLetter, ReasonUnreadBatch, err)
		letter.Headers = append(letter.Headers, header(headerLastOffset, strconv.FormatInt(b.Last, 10)))
		h.recent.DeadLetter(first, ReasonUnreadBatch, err, letter)
		return []stream.Record{letter}
	}
}

// replaceRefused returns the dead letter for a record whose output the broker refuses.
// If the output is that dead letter itself, it is mended: it gets the present
// time if the broker refuses its own, its id as the key if it lacks one, or is
// shortened. An error means that the broker refuses even the shortest one.
func (h *handler) replaceRefused(source, output stream.Record, reason error) (stream.Record, error) {
	source.Headers = sendersHeaders(source.Headers) // as in output
	if output.Topic != h.deadLetter {
		if !errors.Is(reason, stream.ErrInvalidTime) && !errors.Is(reason, stream.ErrKeyless) {
			reason = fmt.Errorf("a record of %d bytes: %w", output.Size(), reason) // most are too large
		}
		h.letterMade(source, ReasonRefused, reason)
		letter := deadLetter(source, h.deadLetter, ReasonRefused, reason)
		h.recent.DeadLetter(source, ReasonRefused, reason, letter)
		return letter, nil
	}
	if errors.Is(reason, stream.ErrInvalidTime) && output.Time.Equal(source.Time) {
		output.Time = time.Now()
		return output, nil
	}
	if errors.Is(reason, stream.ErrKeyless) && output.Key == nil {
		output.Key = source.AppendID(nil)
		output.Headers = append(slices.Clone(output.Headers), header(headerAddedKey, "true"))
		return output, nil
	}
	if letter, ok := shorten(source, output); ok {
		return letter, nil
	}
	return stream.Record{}, fmt.Errorf("%w: %s refuses even a dead letter of %d bytes without value, headers and most of the key; "+
		"the partition waits: check the topic's max.message.bytes and permissions", errLetterRefused, h.deadLetter, output.Size())
}

// shorten removes from a dead letter what may be too large: at first the value
// and the sender's headers, the next time most of the key and of the error. ok is
// false if nothing is left to remove. The key goes last, because partitioning and
// compaction use it; a compacted topic takes no letter without a key, so the id
// replaces an empty one. Headers tell what was removed, and the origin tells where
// the record still is.
func shorten(source, letter stream.Record) (shorter stream.Record, ok bool) {
	switch letter.Headers[len(letter.Headers)-1].Key {
	case headerTruncatedKey:
		return letter, false
	case headerTruncated, headerTruncatedHeaders:
		letter.Headers = slices.Clone(letter.Headers)
		for i, h := range letter.Headers {
			if h.Key == headerError {
				letter.Headers[i] = header(headerError, clip.Text(string(h.Value), minErrorBytes))
			}
		}
		letter.Key = slices.Clone(source.Key[:min(len(source.Key), minKeyBytes)])
		if len(letter.Key) == 0 {
			letter.Key = source.AppendID(nil)
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
