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
	"inceptor/service/stream/franz"
)

// headerReplays counts how often a record was sent back to its topic. It is
// the only header that a replay adds, and dead letters keep it: so a loop is
// seen. Any producer can write it, so a replay believes it only as far as the
// dead-letter topic bears it out.
const headerReplays = "inceptor-replays"

// maxContents bounds what a replay remembers of dead letters: some 100 MB.
const maxContents = 4 << 20

// contents are hashes of the records whose dead letters were read, each with
// how often. Of records beyond maxContents nothing is known.
type contents struct {
	seed maphash.Seed
	n    map[uint64]int32
}

// add takes a record in, and returns how many dead letters of the same key and
// value it had taken before. What was sent back n times has left n behind, in
// the same partition: what claims more was not sent back that often.
func (c *contents) add(r stream.Record) (before int) {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(strconv.Itoa(len(r.Key)) + " ") // never fails, as all that follows
	_, _ = h.Write(r.Key)
	_, _ = h.Write(r.Value)
	n, ok := c.n[h.Sum64()]
	if ok || len(c.n) < maxContents {
		c.n[h.Sum64()] = n + 1
	}
	return int(n)
}

// A ReplayFilter chooses dead letters; an empty field chooses all.
type ReplayFilter struct {
	Reasons      []string
	Keys         []string
	Partitions   []int // of origin
	Since, Until time.Time
	Limit        int // of records to send; 0: none
	MaxReplays   int // a record that was sent back that often is not chosen again
}

// A Replayed is what became of one chosen dead letter.
type Replayed struct {
	Letter Letter
	Skip   string // why it is not sent back; empty: it is
}

// A Letter is what a dead letter tells of the record that it is about.
type Letter struct {
	ID, Reason string
	Replays    int           // before, as its header says
	Truncated  bool          // the value is not in it, nor perhaps the whole key
	Original   stream.Record // as it was, with topic, partition and offset of its origin
}

// Replay reads the dead letters of the input topics and sends the chosen ones
// back to theirs, with their own key, value and headers, to the partition that they came
// from. It calls each for all of them, before they are sent, unless dry is set: then
// none is. It returns how many were sent, or would be.
func Replay(ctx context.Context, c Config, log *slog.Logger, f ReplayFilter, dry bool, each func(Replayed)) (sent int, err error) {
	config, err := c.streamConfig(log, nil, &handler{})
	if err != nil {
		return 0, err
	}
	sender, err := franz.NewSender(config)
	if err != nil {
		return 0, err
	}
	defer sender.Close()
	errLimit := errors.New("enough")
	seen := contents{maphash.MakeSeed(), make(map[uint64]int32)}
	err = franz.Scan(ctx, config, c.Kafka.DeadLetter, func(r stream.Record) error {
		l, err := ParseLetter(r)
		if err != nil {
			log.Warn("not a dead letter", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
			return nil
		}
		if !slices.Contains(c.Kafka.Input, l.Original.Topic) {
			return nil
		}
		l.Replays = min(l.Replays, seen.add(l.Original))
		if !f.chooses(l) {
			return nil
		}
		skip := ""
		switch {
		case l.Truncated:
			skip = fmt.Sprintf("its value is not in the dead letter; it may still be in %s, partition %d, offset %d",
				l.Original.Topic, l.Original.Partition, l.Original.Offset)
		case l.Replays >= f.MaxReplays:
			skip = fmt.Sprintf("sent back %d times before", l.Replays)
		}
		each(Replayed{Letter: l, Skip: skip})
		if skip != "" {
			return nil
		}
		if !dry {
			if err := sender.Send(ctx, l.again()); err != nil {
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

func (f ReplayFilter) chooses(l Letter) bool {
	return (len(f.Reasons) == 0 || slices.Contains(f.Reasons, l.Reason)) &&
		(len(f.Keys) == 0 || l.Original.Key != nil && slices.Contains(f.Keys, string(l.Original.Key))) &&
		(len(f.Partitions) == 0 || slices.Contains(f.Partitions, l.Original.Partition)) &&
		(f.Since.IsZero() || !l.Original.Time.Before(f.Since)) &&
		(f.Until.IsZero() || l.Original.Time.Before(f.Until))
}

// again is the record to send, with the count of replays.
func (l Letter) again() stream.Record {
	r := l.Original
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h stream.Header) bool { return h.Key == headerReplays })
	r.Headers = append(r.Headers, header(headerReplays, strconv.Itoa(l.Replays+1)))
	return r
}

// ParseLetter takes a dead letter apart. Its own headers are the last ones;
// those of the same name before them belong to the record.
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
