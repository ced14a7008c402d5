package resume

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"inceptor/service/stream"
)

func TestPositionCheck(t *testing.T) {
	old, now := TopicID{1}, TopicID{2}
	for name, test := range map[string]struct {
		position Position
		log      Log
		want     stream.Reset // From is the position's
	}{
		"nothing committed":       {Position{-1, TopicID{}}, Log{now, 5, 9}, stream.Reset{}},
		"in the log":              {Position{7, now}, Log{now, 5, 9}, stream.Reset{}},
		"at its first record":     {Position{5, now}, Log{now, 5, 9}, stream.Reset{}},
		"at its end":              {Position{9, now}, Log{now, 5, 9}, stream.Reset{}},
		"topic not known":         {Position{7, TopicID{}}, Log{now, 5, 9}, stream.Reset{}},
		"brokers know no ids":     {Position{7, old}, Log{TopicID{}, 5, 9}, stream.Reset{}},
		"retention":               {Position{2, now}, Log{now, 5, 9}, stream.Reset{Reason: stream.OutOfRange, To: 5, Skipped: 3}},
		"all removed":             {Position{2, now}, Log{now, 9, 9}, stream.Reset{Reason: stream.OutOfRange, To: 9, Skipped: 7}},
		"beyond the end":          {Position{10, now}, Log{now, 5, 9}, stream.Reset{Reason: stream.BeyondEnd, To: 5, Repeated: 4}},
		"beyond the end, empty":   {Position{10, now}, Log{now, 9, 9}, stream.Reset{Reason: stream.BeyondEnd, To: 9}},
		"changed under the look":  {Position{20, now}, Log{now, 15, 9}, stream.Reset{Reason: stream.BeyondEnd, To: 15}},
		"recreated, shorter":      {Position{10, old}, Log{now, 0, 9}, stream.Reset{Reason: stream.Recreated}},
		"recreated, longer":       {Position{7, old}, Log{now, 0, 9}, stream.Reset{Reason: stream.Recreated}},
		"recreated, at the start": {Position{0, old}, Log{now, 0, 9}, stream.Reset{Reason: stream.Recreated}},
		"recreated and overtaken": {Position{2, old}, Log{now, 5, 9}, stream.Reset{Reason: stream.Recreated, To: 5, Skipped: 5}},
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

// If the group's offset is gone, the topic's id tells whether the position that this process
// remembers still means anything.
func TestPositionExpired(t *testing.T) {
	old, now := TopicID{1}, TopicID{2}
	for name, test := range map[string]struct {
		position Position
		log      Log
		want     stream.Reset
	}{
		"same topic":          {Position{7, now}, Log{now, 5, 9}, stream.Reset{Reason: stream.Expired, From: 7, To: 7}},
		"overtaken":           {Position{2, now}, Log{now, 5, 9}, stream.Reset{Reason: stream.OutOfRange, From: 2, To: 5, Skipped: 3}},
		"recreated":           {Position{7, old}, Log{now, 0, 9}, stream.Reset{Reason: stream.Recreated, From: 7}},
		"brokers know no ids": {Position{7, TopicID{}}, Log{TopicID{}, 5, 9}, stream.Reset{Reason: stream.Expired, From: 7, To: 5, Repeated: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(test.want, test.position.Expired(test.log)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// The metadata of a committed offset names the topic; that of other clients does not.
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
	stream.Unobserved
	seen []stream.Reset
}

func (r *resets) Reset(reset stream.Reset) { r.seen = append(r.seen, reset) }

// A reset is logged and the observer is told, or it is an error that says what to do.
func TestReport(t *testing.T) {
	r := stream.Reset{
		Partition: stream.Partition{Topic: "images", ID: 3}, Reason: stream.OutOfRange,
		From: 10, To: 20, Skipped: 10,
	}
	var lines bytes.Buffer
	var seen resets
	cfg := stream.Config{Log: slog.New(slog.NewTextHandler(&lines, nil)), Observer: &seen}
	if err := Report(cfg, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level=WARN", "topic=images", "partition=3", "reason=out-of-range", "from=10", "to=20", "skipped=10", "repeated=0"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("%q is not in %s", want, lines.String())
		}
	}
	if d := cmp.Diff([]stream.Reset{r}, seen.seen); d != "" {
		t.Error(d)
	}
	cfg.StopOnReset = true
	err := Report(cfg, r)
	if err == nil || len(seen.seen) != 1 {
		t.Fatalf("reset nevertheless: %v", err)
	}
	for _, want := range []string{"images-3", "out-of-range", "offset 10", "20", "kafka.on-reset=continue", "--reset-offsets"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
