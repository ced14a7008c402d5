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

// origin is a record of the input, with headers that look like ours.
func origin(partition int, offset int64, more ...stream.Header) stream.Record {
	return stream.Record{
		Topic: "in", Partition: partition, Offset: offset, Key: fmt.Appendf(nil, "k%d", offset), Value: fmt.Appendf(nil, "v%d", offset),
		Time:    replayTime.Add(time.Duration(offset) * time.Minute),
		Headers: append([]stream.Header{header("a", "1"), header(headerID, "of another"), header("a", "2")}, more...),
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
	broker, err := embedded.Start(0, 3, "in", "dead")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := goodConfig()
	c.Kafka.Brokers = []string{broker.Addr()}
	truncated := deadLetter(origin(0, 4), "dead", ReasonRefused, errors.New("no"))
	truncated.Headers = append(truncated.Headers[3:], header(headerTruncated, "5"))
	other := origin(0, 5)
	other.Topic = "elsewhere"
	letters := []stream.Record{
		deadLetter(origin(0, 0), "dead", "not-an-image", errors.New("no")),
		deadLetter(origin(1, 1), "dead", "empty", errors.New("no")),
		deadLetter(origin(2, 2, header(headerReplays, "1")), "dead", "not-an-image", errors.New("no")),
		deadLetter(origin(2, 3, header(headerReplays, "3")), "dead", "not-an-image", errors.New("no")),
		truncated,
		deadLetter(other, "dead", "not-an-image", errors.New("no")),
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
		f.MaxReplays = 3
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
		"all": {ReplayFilter{}, []string{"in-0-0", "in-1-1", "in-2-2", "in-2-3 sent back 3 times before",
			"in-0-4 its value is not in the dead letter; it may still be in in, partition 0, offset 4"}},
		"reason":    {ReplayFilter{Reasons: []string{"empty", "x"}}, []string{"in-1-1"}},
		"key":       {ReplayFilter{Keys: []string{"k2"}}, []string{"in-2-2"}},
		"partition": {ReplayFilter{Partitions: []int{1, 2}, Limit: 2}, []string{"in-1-1", "in-2-2"}},
		"time":      {ReplayFilter{Since: replayTime.Add(time.Minute), Until: replayTime.Add(2 * time.Minute)}, []string{"in-1-1"}},
		"limit":     {ReplayFilter{Limit: 1}, []string{"in-0-0"}},
	} {
		if told, _ := replay(test.filter, true); cmp.Diff(test.want, told) != "" {
			t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(test.want, told))
		}
	}
	if _, sent := replay(ReplayFilter{}, false); sent != 3 {
		t.Errorf("sent %d, want 3", sent)
	}
	var got []stream.Record
	if err := broker.Follow(t.Context(), func(r stream.Record) bool {
		r.Offset = 0
		got = append(got, r)
		return len(got) < 3
	}, "in"); err != nil {
		t.Fatal(err)
	}
	want := map[int]stream.Record{
		0: origin(0, 0, header(headerReplays, "1")),
		1: origin(1, 1, header(headerReplays, "1")),
		2: origin(2, 2, header(headerReplays, "2")),
	}
	for _, r := range got {
		w := want[r.Partition]
		w.Offset = 0
		if d := cmp.Diff(w, r); d != "" {
			t.Errorf("partition %d (-want +got):\n%s", r.Partition, d)
		}
	}
}
