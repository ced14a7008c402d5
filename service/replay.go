package service

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"inceptor/service/stream"
)

// headerReplays counts how often a record was sent back to its topic. It is the
// only header that a replay adds. Dead letters keep it, so that a loop shows. Any
// producer can write it, so Replay does not trust it alone: see seenRecords.
const headerReplays = "inceptor-replays"

// maxSeen bounds the memory of seenRecords, to some 100 MB.
const maxSeen = 4 << 20

// A seenRecords counts the dead letters of each record that a replay has read, by a
// hash of key and value. Records beyond maxSeen are not counted.
type seenRecords struct {
	seed maphash.Seed
	n    map[uint64]int32
}

// add counts a dead letter, and returns how many of the same key and value came
// before. A record that was sent back n times has left n dead letters behind, in
// the same partition; so a header that claims more is wrong.
func (c *seenRecords) add(r stream.Record) (before int) {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(strconv.Itoa(len(r.Key)) + " ") // these writes never fail
	_, _ = h.Write(r.Key)
	_, _ = h.Write(r.Value)
	n, ok := c.n[h.Sum64()]
	if ok || len(c.n) < maxSeen {
		c.n[h.Sum64()] = n + 1
	}
	return int(n)
}

// A ReplayFilter selects dead letters. An empty field selects all.
type ReplayFilter struct {
	Reasons      []string
	Keys         []string
	Partitions   []int // of origin
	Since, Until time.Time
	Limit        int // how many records are sent at most; 0: no limit
	MaxReplays   int // records that were sent back so often are skipped
}

// A Replayed is one selected dead letter, and whether it is sent back.
type Replayed struct {
	Letter Letter
	Skip   string // why it is not sent back; empty: it is sent
}

// A Letter is a dead letter, taken apart.
type Letter struct {
	ID, Reason string
	Replays    int           // how often the record was sent back before, as its header says
	Truncated  bool          // the value is left out, and perhaps a part of the key
	Original   stream.Record // the record, with the topic, partition and offset it came from
}

// Replay sends the records of selected dead letters back to the input topics they
// came from, with their own key, value and headers, to the same partition. It
// calls each for every selected letter, before the record is sent. With dry it
// sends nothing. It returns how many records were sent, or would have been.
func Replay(ctx context.Context, c Config, log *slog.Logger, f ReplayFilter, dry bool, each func(Replayed)) (sent int, err error) {
	kafka, err := c.openCluster(log)
	if err != nil {
		return 0, err
	}
	defer kafka.Close()
	errLimit := errors.New("enough")
	seen := seenRecords{maphash.MakeSeed(), make(map[uint64]int32)}
	err = kafka.Scan(ctx, c.Kafka.DeadLetter, func(r stream.Record) error {
		l, err := ParseLetter(r)
		if err != nil {
			log.Warn("skipped a record that is no dead letter", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
			return nil
		}
		if !slices.Contains(c.Kafka.Input, l.Original.Topic) {
			return nil
		}
		l.Replays = min(l.Replays, seen.add(l.Original))
		if !f.matches(l) {
			return nil
		}
		skip := ""
		switch {
		case l.Truncated:
			skip = fmt.Sprintf("its value was left out of the dead letter; it may still be in %s, partition %d, offset %d",
				l.Original.Topic, l.Original.Partition, l.Original.Offset)
		case l.Replays >= f.MaxReplays:
			skip = fmt.Sprintf("sent back %d times before", l.Replays)
		}
		each(Replayed{Letter: l, Skip: skip})
		if skip != "" {
			return nil
		}
		if !dry {
			if err := kafka.Publish(ctx, l.replayed()); err != nil {
				return fmt.Errorf("%s: %w", l.ID, err)
			}
		}
		if sent++; sent == f.Limit {
			return errLimit
		}
		return nil
	})
	if errors.Is(err, errLimit) {
		err = nil
	}
	return sent, err
}

func (f ReplayFilter) matches(l Letter) bool {
	return (len(f.Reasons) == 0 || slices.Contains(f.Reasons, l.Reason)) &&
		(len(f.Keys) == 0 || l.Original.Key != nil && slices.Contains(f.Keys, string(l.Original.Key))) &&
		(len(f.Partitions) == 0 || slices.Contains(f.Partitions, l.Original.Partition)) &&
		(f.Since.IsZero() || !l.Original.Time.Before(f.Since)) &&
		(f.Until.IsZero() || l.Original.Time.Before(f.Until))
}

// replayed returns the record to send, with its count of replays.
func (l Letter) replayed() stream.Record {
	r := l.Original
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h stream.Header) bool { return h.Key == headerReplays })
	r.Headers = append(r.Headers, header(headerReplays, strconv.Itoa(l.Replays+1)))
	return r
}

// ParseLetter reads a dead letter. The letter's own headers come last; those
// before them belong to the record, whatever their names are.
func ParseLetter(r stream.Record) (Letter, error) {
	own := []string{headerReason, headerError, headerID, headerTopic, headerPartition, headerOffset}
	l := Letter{Original: r}
	headers := r.Headers
	for _, key := range []string{headerTruncatedKey, headerTruncatedHeaders, headerTruncated, headerAddedKey, headerLastOffset} {
		n := len(headers)
		switch {
		case n == 0 || headers[n-1].Key != key:
			continue
		case key == headerAddedKey:
			l.Original.Key = nil
		default:
			l.Truncated = true
		}
		headers = headers[:n-1]
	}
	begin := len(headers) - len(own)
	if begin < 0 {
		return Letter{}, fmt.Errorf("it has %d headers, too few", len(headers))
	}
	value := map[string]string{}
	for i, key := range own {
		h := headers[begin+i]
		if h.Key != key {
			return Letter{}, fmt.Errorf("header %d is %s, want %s", begin+i, h.Key, key)
		}
		value[key] = string(h.Value)
	}
	partition, err := strconv.ParseInt(value[headerPartition], 10, 32)
	if err != nil || partition < 0 {
		return Letter{}, fmt.Errorf("%s is %q", headerPartition, value[headerPartition])
	}
	offset, err := strconv.ParseInt(value[headerOffset], 10, 64)
	if err != nil {
		return Letter{}, fmt.Errorf("%s is %q", headerOffset, value[headerOffset])
	}
	l.ID, l.Reason = value[headerID], value[headerReason]
	l.Original.Topic, l.Original.Partition, l.Original.Offset = value[headerTopic], int(partition), offset
	l.Original.Headers = headers[:begin:begin]
	for _, h := range l.Original.Headers {
		if n, err := strconv.ParseUint(string(h.Value), 10, 31); h.Key == headerReplays && err == nil {
			l.Replays = int(n)
		}
	}
	return l, nil
}
