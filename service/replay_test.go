package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

var replayTime = time.UnixMilli(1_700_000_000_000)

// origin is a record of the input.
func origin(partition int, offset int64, more ...stream.Header) stream.Record {
	return stream.Record{
		Topic: "in", Partition: partition, Offset: offset, Key: fmt.Appendf(nil, "k%d", offset), Value: fmt.Appendf(nil, "v%d", offset),
		Time:    replayTime.Add(time.Duration(offset) * time.Minute),
		Headers: append([]stream.Header{header("a", "1"), header("id", "x"), header("a", "2")}, more...),
	}
}

func TestParseLetter(t *testing.T) {
	r := origin(3, 7, header(headerReplays, "2"))
	l, err := ParseLetter(deadLetter(r, "dead", "not-an-image", errors.New("no")))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Letter{ID: "in-3-7", Reason: "not-an-image", Replays: 2, Original: r}, l); d != "" {
		t.Error(d)
	}
	older := deadLetter(origin(3, 7), "dead", "not-an-image", errors.New("no"))
	older.Headers = append([]stream.Header{header(headerID, "of another")}, older.Headers...) // of a sender, as they once were kept
	if l, err := ParseLetter(older); err != nil || l.ID != "in-3-7" || len(l.Original.Headers) != 4 {
		t.Errorf("older: %+v, %v", l, err)
	}
	truncated := deadLetter(stream.Record{Topic: "in"}, "dead", "x", errors.New("no"))
	truncated.Headers = append(truncated.Headers, header(headerTruncated, "5"))
	if l, err := ParseLetter(truncated); err != nil || !l.Truncated {
		t.Errorf("truncated: %+v, %v", l, err)
	}
	for name, bad := range map[string]func(h []stream.Header) []stream.Header{
		"none":          func([]stream.Header) []stream.Header { return nil },
		"one missing":   func(h []stream.Header) []stream.Header { return h[:len(h)-1] },
		"one more":      func(h []stream.Header) []stream.Header { return append(h, header("x", "")) },
		"bad partition": func(h []stream.Header) []stream.Header { h[len(h)-2].Value = []byte("-1"); return h },
		"bad offset":    func(h []stream.Header) []stream.Header { h[len(h)-1].Value = []byte("x"); return h },
	} {
		letter := deadLetter(r, "dead", "x", errors.New("no"))
		letter.Headers = bad(letter.Headers)
		if l, err := ParseLetter(letter); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestReplay(t *testing.T) {
	broker, err := embedded.Start(0, 3, "in", "in2", "dead")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := goodConfig()
	c.Kafka.Brokers, c.Kafka.Input = []string{broker.Addr()}, []string{"in", "in2"}
	truncated := deadLetter(origin(0, 4), "dead", ReasonRefused, errors.New("no"))
	truncated.Headers = append(truncated.Headers[3:], header(headerTruncated, "5"))
	other := origin(0, 5)
	other.Topic = "elsewhere"
	second := origin(0, 6)
	second.Topic = "in2"
	// The record at offset 3 has come back twice from the input topic.
	again := func(offset int64, replays string) stream.Record {
		r := origin(2, 3, header(headerReplays, replays))
		r.Offset = offset
		return deadLetter(r, "dead", "back", errors.New("no"))
	}
	letters := []stream.Record{
		deadLetter(origin(0, 0), "dead", "not-an-image", errors.New("no")),
		deadLetter(origin(1, 1), "dead", "empty", errors.New("no")),
		deadLetter(origin(2, 2, header(headerReplays, "9")), "dead", "not-an-image", errors.New("no")), // says the sender
		deadLetter(origin(2, 3), "dead", "back", errors.New("no")), again(7, "1"), again(8, "2"),
		truncated,
		deadLetter(other, "dead", "not-an-image", errors.New("no")),
		deadLetter(second, "dead", "second", errors.New("no")),
		{Topic: "dead", Value: []byte("whatever")},
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, l := range letters {
		r := &kgo.Record{Topic: "dead", Key: l.Key, Value: l.Value, Timestamp: l.Time}
		for _, h := range l.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader(h))
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	replay := func(f ReplayFilter, dry bool) (told []string, sent int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		f.MaxReplays = 2
		sent, err := Replay(ctx, c, slog.New(slog.DiscardHandler), f, dry, func(r Replayed) {
			told = append(told, strings.TrimSpace(r.Letter.ID+" "+r.Skip))
		})
		if err != nil {
			t.Fatal(err)
		}
		return told, sent
	}
	for name, test := range map[string]struct {
		filter ReplayFilter
		want   []string
	}{
		"all": {ReplayFilter{}, []string{"in-0-0", "in-1-1", "in-2-2", "in-2-3", "in-2-7", "in-2-8 sent back 2 times before",
			"in-0-4 its value was left out of the dead letter; it may still be in in, partition 0, offset 4", "in2-0-6"}},
		"reason":    {ReplayFilter{Reasons: []string{"empty", "x"}}, []string{"in-1-1"}},
		"topic":     {ReplayFilter{Reasons: []string{"second"}}, []string{"in2-0-6"}},
		"key":       {ReplayFilter{Keys: []string{"k2"}}, []string{"in-2-2"}},
		"partition": {ReplayFilter{Partitions: []int{1, 2}, Limit: 2}, []string{"in-1-1", "in-2-2"}},
		"time":      {ReplayFilter{Since: replayTime.Add(time.Minute), Until: replayTime.Add(2 * time.Minute)}, []string{"in-1-1"}},
		"limit":     {ReplayFilter{Limit: 1}, []string{"in-0-0"}},
	} {
		if told, _ := replay(test.filter, true); cmp.Diff(test.want, told) != "" {
			t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(test.want, told))
		}
	}
	if _, sent := replay(ReplayFilter{}, false); sent != 6 {
		t.Errorf("sent %d, want 6", sent)
	}
	var got []stream.Record
	if err := broker.Follow(t.Context(), func(r stream.Record) bool {
		got = append(got, r)
		return len(got) < 6
	}, "in", "in2"); err != nil {
		t.Fatal(err)
	}
	second = origin(0, 6, header(headerReplays, "1"))
	second.Topic = "in2"
	want := map[string]stream.Record{ // by where it lies now
		"in-0-0":  origin(0, 0, header(headerReplays, "1")),
		"in-1-0":  origin(1, 1, header(headerReplays, "1")),
		"in-2-0":  origin(2, 2, header(headerReplays, "1")),
		"in-2-1":  origin(2, 3, header(headerReplays, "1")),
		"in-2-2":  origin(2, 3, header(headerReplays, "2")),
		"in2-0-0": second,
	}
	for _, r := range got {
		w := want[r.ID()]
		w.Offset = r.Offset
		if d := cmp.Diff(w, r); d != "" {
			t.Errorf("partition %d, offset %d (-want +got):\n%s", r.Partition, r.Offset, d)
		}
	}
}
