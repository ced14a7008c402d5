package service

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inceptor/internal/settings"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
	"inceptor/testenv/corpus"
)

// textLog returns a log without times.
func textLog(out *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// With log.records each answer and each dead letter has a line; without it none has.
func TestRecordsAreLogged(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cat.png"), corpus.Good()["png"], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		on   bool
		want string
	}{
		"off": {},
		"on": {true, `msg=answered record=cat.png label="Neutral <&>" score=0.9997
msg=answered record=in-0-1 label="Neutral <&>" score=0.9997
msg="dead letter" record=in-0-2 reason=path-not-found err="path-not-found: \"dog.png\": no such file or directory"
`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			config := settings.Default[input.Config]()
			config.Files.Root = root
			reader, err := input.New(config)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			h := newHandler(t, fakeModel{})
			h.input = reader
			h.lines = newRecordLog(test.on, textLog(&out))
			for i, value := range [][]byte{[]byte("cat.png"), corpus.Good()["png"], []byte("dog.png")} {
				r := stream.Record{Topic: "in", Offset: int64(i), Value: value}
				if _, err := h.handle(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			if out.String() != test.want {
				t.Errorf("got\n%s\nwant\n%s", &out, test.want)
			}
		})
	}
}

// The dead letters that are made apart from the handler have a line too.
func TestAllLettersAreLogged(t *testing.T) {
	var out bytes.Buffer
	h := newHandler(t, fakeModel{})
	h.deadLetter, h.lines = "dead", newRecordLog(true, textLog(&out))
	r := stream.Record{Topic: "in"}
	if _, err := h.replaceRefused(r, stream.Record{Topic: "out"}, stream.ErrKeyless); err != nil {
		t.Fatal(err)
	}
	h.replaceUnread(1000)(stream.Batch{Topic: "in", First: 1, Last: 2})
	h.onFailure(Kafka{OnError: onErrorDeadLetter})(t.Context(), stream.Record{Topic: "in", Offset: 3}, time.Second, errors.New("no model"))
	for i, reason := range []string{ReasonRefused, ReasonUnreadBatch, "", ReasonGivenUp} {
		line := fmt.Sprintf(`msg="dead letter" record=in-0-%d reason=%s `, i, reason)
		if reason != "" && strings.Count(out.String(), line) != 1 {
			t.Errorf("no line, or two: %s; got\n%s", line, &out)
		}
	}
}

// What comes from outside is clipped, and cannot forge a line.
func TestRecordLine(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for name, test := range map[string]struct {
		source string
		p      infer.Prediction
		want   string
	}{
		"URL": {"url:https://host/cat.png", infer.Prediction{Classes: []infer.Class{{Label: "cat", Score: 0.123456}}},
			"msg=answered record=https://host/cat.png label=cat score=0.1235\n"},
		"no label": {"record", infer.Prediction{Classes: []infer.Class{{Index: 285, Score: 1}}},
			"msg=answered record=in-1-7 label=\"class 285\" score=1\n"},
		"one value": {"record", infer.Prediction{Scores: []float32{105.5}}, "msg=answered record=in-1-7 score=105.5\n"},
		"values":    {"record", infer.Prediction{Scores: []float32{1, 2}}, "msg=answered record=in-1-7\n"},
		"forged": {"path:a\nmsg=answered", infer.Prediction{Classes: []infer.Class{{Label: "\x1b[2J\"\xff", Score: 1}}},
			`msg=answered record="a\nmsg=answered" label="\x1b[2J\"` + "\uFFFD" + `" score=1` + "\n"},
		"long": {"path:" + long, infer.Prediction{Classes: []infer.Class{{Label: long, Score: 1}}},
			"msg=answered record=" + long[:200] + "… label=" + long[:200] + "… score=1\n"},
	} {
		var out bytes.Buffer
		newRecordLog(true, textLog(&out)).answered(stream.Record{Topic: "in", Partition: 1, Offset: 7}, input.Image{Source: test.source}, test.p)
		if out.String() != test.want {
			t.Errorf("%s:\ngot  %q\nwant %q", name, &out, test.want)
		}
	}
	var out bytes.Buffer
	newRecordLog(true, textLog(&out)).deadLetter(stream.Record{Topic: "in"}, "bad", errors.New(long))
	if want := "msg=\"dead letter\" record=in-0-0 reason=bad err=" + long[:200] + "…\n"; out.String() != want {
		t.Errorf("got  %q\nwant %q", &out, want)
	}
}

// A second has at most 100 lines, and the next line after it says how many there would have been.
func TestRecordLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	l := newRecordLog(true, textLog(&out))
	l.now = func() time.Time { return now }
	for range 250 {
		l.answered(stream.Record{Topic: "in"}, input.Image{}, infer.Prediction{})
		now = now.Add(3 * time.Millisecond)
	}
	if got := strings.Count(out.String(), "\n"); got != 100 {
		t.Errorf("%d lines in a second, want 100", got)
	}
	out.Reset()
	now = time.Unix(1001, 0)
	for range 2 {
		l.answered(stream.Record{Topic: "in"}, input.Image{}, infer.Prediction{})
	}
	const want = `msg="records were not logged: there were too many in a second" records=150 limit=100
msg=answered record=in-0-0
msg=answered record=in-0-0
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
