package stream

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPositionCheck(t *testing.T) {
	old, now := TopicID{1}, TopicID{2}
	for name, test := range map[string]struct {
		position Position
		log      Log
		want     Reset // From is the position's
	}{
		"nothing committed":       {Position{-1, TopicID{}}, Log{now, 5, 9}, Reset{}},
		"in the log":              {Position{7, now}, Log{now, 5, 9}, Reset{}},
		"at its first record":     {Position{5, now}, Log{now, 5, 9}, Reset{}},
		"at its end":              {Position{9, now}, Log{now, 5, 9}, Reset{}},
		"topic not known":         {Position{7, TopicID{}}, Log{now, 5, 9}, Reset{}},
		"brokers know no ids":     {Position{7, old}, Log{TopicID{}, 5, 9}, Reset{}},
		"retention":               {Position{2, now}, Log{now, 5, 9}, Reset{Reason: OutOfRange, To: 5, Skipped: 3}},
		"all removed":             {Position{2, now}, Log{now, 9, 9}, Reset{Reason: OutOfRange, To: 9, Skipped: 7}},
		"beyond the end":          {Position{10, now}, Log{now, 5, 9}, Reset{Reason: BeyondEnd, To: 5, Repeated: 4}},
		"beyond the end, empty":   {Position{10, now}, Log{now, 9, 9}, Reset{Reason: BeyondEnd, To: 9}},
		"changed under the look":  {Position{20, now}, Log{now, 15, 9}, Reset{Reason: BeyondEnd, To: 15}},
		"recreated, shorter":      {Position{10, old}, Log{now, 0, 9}, Reset{Reason: Recreated}},
		"recreated, longer":       {Position{7, old}, Log{now, 0, 9}, Reset{Reason: Recreated}},
		"recreated, at the start": {Position{0, old}, Log{now, 0, 9}, Reset{Reason: Recreated}},
		"recreated and overtaken": {Position{2, old}, Log{now, 5, 9}, Reset{Reason: Recreated, To: 5, Skipped: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			want := test.want
			if want.Reason != "" {
				want.From = test.position.Offset
			}
			got, lost := test.position.Check(test.log)
			if d := cmp.Diff(want, got); d != "" || lost != (want.Reason != "") {
				t.Errorf("lost: %v (-want +got):\n%s", lost, d)
			}
		})
	}
}

// Where the group's offset is gone, the topic's id tells whether what this
// process remembers still has a meaning.
func TestPositionExpired(t *testing.T) {
	old, now := TopicID{1}, TopicID{2}
	for name, test := range map[string]struct {
		position Position
		log      Log
		want     Reset
	}{
		"same topic":          {Position{7, now}, Log{now, 5, 9}, Reset{Reason: Expired, From: 7, To: 7}},
		"overtaken":           {Position{2, now}, Log{now, 5, 9}, Reset{Reason: OutOfRange, From: 2, To: 5, Skipped: 3}},
		"recreated":           {Position{7, old}, Log{now, 0, 9}, Reset{Reason: Recreated, From: 7}},
		"brokers know no ids": {Position{7, TopicID{}}, Log{TopicID{}, 5, 9}, Reset{Reason: Expired, From: 7, To: 5, Repeated: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(test.want, test.position.Expired(test.log)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// The metadata of a committed offset brings the topic's id back; that of other
// clients brings none.
func TestPositionMetadata(t *testing.T) {
	p := Position{7, TopicID{1, 2, 3, 255}}
	for _, of := range []struct{ writer, reader string }{{"c1", "c1"}, {"", "c1"}, {"c1", ""}, {"", ""}} {
		if d := cmp.Diff(p, Committed(7, p.Metadata(of.writer), of.reader)); d != "" {
			t.Errorf("%q: %s", of, d)
		}
	}
	for _, other := range []string{
		"", "member-1", "topic-id=", "topic-id=short", p.Metadata("") + "A", "x " + p.Metadata(""), Position{Offset: 7}.Metadata("c1"),
		p.Metadata("c2"), // copied from another cluster
	} {
		if got := Committed(7, other, "c1"); got != (Position{Offset: 7}) {
			t.Errorf("%q is read as %v", other, got)
		}
	}
}

type resets struct {
	Unobserved
	seen []Reset
}

func (r *resets) Reset(reset Reset) { r.seen = append(r.seen, reset) }

// A reset is told to the log and the observer, or is an error that says what to
// do.
func TestReset(t *testing.T) {
	r := Reset{Partition{"images", 3}, OutOfRange, 10, 20, 10, 0}
	var lines bytes.Buffer
	var seen resets
	cfg := Config{Log: slog.New(slog.NewTextHandler(&lines, nil)), Observer: &seen}
	if err := cfg.Reset(r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level=WARN", "topic=images", "partition=3", "reason=out-of-range", "from=10", "to=20", "skipped=10", "repeated=0"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("%q is not in %s", want, lines.String())
		}
	}
	if d := cmp.Diff([]Reset{r}, seen.seen); d != "" {
		t.Error(d)
	}
	cfg.StopOnReset = true
	err := cfg.Reset(r)
	if err == nil || len(seen.seen) != 1 {
		t.Fatalf("reset nevertheless: %v", err)
	}
	for _, want := range []string{"images-3", "out-of-range", "offset 10", "20", "kafka.on-reset=continue", "--reset-offsets"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestStartText(t *testing.T) {
	at := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]Start{
		"earliest": {}, "latest": {Latest: true}, "2026-11-29T08:00:00Z": {Time: at},
	} {
		var s Start
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %v, %v", text, s, err)
		}
		if back, _ := s.MarshalText(); string(back) != text {
			t.Errorf("%q comes back as %q", text, back)
		}
	}
	for _, text := range []string{"yesterday", "2026-11-29", "-1"} {
		if err := new(Start).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "latest") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
