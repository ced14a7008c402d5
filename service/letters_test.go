package service

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

func valueOf(r stream.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Records are counted by outcome. One whose answer the broker refuses
// has been counted as answered before.
func TestOutcomesAreCounted(t *testing.T) {
	h := newHandler(t, fakeModel{})
	counted := func(outcome, reason string) float64 {
		return testutil.ToFloat64(h.metrics.records.WithLabelValues(outcome, reason))
	}
	if _, err := h.handle(t.Context(), record([]byte("\x00\x01"))); err != nil {
		t.Fatal(err)
	}
	in := record(png)
	out, err := h.handle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := h.replaceRefused(in, out[0], errors.New("too large for the topic"))
	if err != nil {
		t.Fatal(err)
	}
	if reason, text := valueOf(letter, headerReason), valueOf(letter, headerError); reason != ReasonRefused || text != fmt.Sprintf("a record of %d bytes: too large for the topic", out[0].Size()) {
		t.Errorf("the dead letter has reason %q, error %q", reason, text)
	}
	if a, u, r := counted("answered", ""), counted("dead_letter", "unknown-format"), counted("dead_letter", ReasonRefused); a != 1 || u != 1 || r != 1 {
		t.Errorf("%v answered, %v of unknown format, %v refused by the broker; want one of each", a, u, r)
	}
}

// A dead letter's error is cut after 1 KiB.
func TestErrorIsCut(t *testing.T) {
	letter := deadLetter(record(nil), "dead", "x", errors.New(strings.Repeat("x", 5000)))
	if got := valueOf(letter, headerError); got != strings.Repeat("x", 1024)+"…" {
		t.Errorf("%d bytes: %.20s", len(got), got)
	}
}

// Dead letters stay where they are: a second replay sends the same records
// again.
func TestReplayAgain(t *testing.T) {
	broker, err := embedded.Start(0, 1, "in", "dead")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := goodConfig()
	c.Kafka.Brokers = []string{broker.Addr()}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	letter := deadLetter(origin(0, 7), "dead", "not-an-image", errors.New("no"))
	r := &kgo.Record{Topic: "dead", Key: letter.Key, Value: letter.Value}
	for _, h := range letter.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		sent, err := Replay(t.Context(), c, slog.New(slog.DiscardHandler), ReplayFilter{MaxReplays: 1}, false, func(Replayed) {})
		if err != nil || sent != 1 {
			t.Errorf("%d sent, %v", sent, err)
		}
	}
	var got []string
	if err := broker.Follow(t.Context(), func(r stream.Record) bool {
		got = append(got, string(r.Key)+" "+valueOf(r, headerReplays))
		return len(got) < 2
	}, "in"); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != "k7 1" || got[1] != "k7 1" {
		t.Errorf("the input holds %q", got)
	}
}
