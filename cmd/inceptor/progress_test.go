package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	type step struct {
		after       time.Duration
		what        string
		done, total int
	}
	for _, test := range []struct {
		name  string
		width int
		steps []step
		want  string
	}{
		{"a line for each text", 0, []step{{0, "one", 0, 4}, {2 * time.Second, "two", 1, 4}},
			"0 of 4: one\n1 of 4, about 6 s left: two\n"},
		{"the same text again after ten seconds", 0, []step{{0, "one", 0, 100}, {9 * time.Second, "one", 1, 100}, {time.Second, "one", 2, 100}},
			"0 of 100: one\n2 of 100, about 8 min left: one\n"},
		{"a bar", 80, []step{{0, "one", 0, 2}, {time.Second, "two", 1, 2}},
			"\r\x1b[K[                    ] 0 of 2: one\r\x1b[K[##########          ] 1 of 2, about 1 s left: two\r\x1b[K"},
		{"a bar is not drawn too often, except the last one", 80,
			[]step{{0, "one", 0, 3}, {time.Millisecond, "two", 1, 3}, {time.Millisecond, "three", 3, 3}},
			"\r\x1b[K[                    ] 0 of 3: one\r\x1b[K[####################] 3 of 3: three\r\x1b[K"},
		{"a narrow terminal", 30, []step{{0, "é is one column", 0, 2}}, "\r\x1b[K[                    ] 0 of 2\r\x1b[K"},
		{"more steps than were expected", 80, []step{{0, "one", 5, 4}}, "\r\x1b[K[####################] 5 of 4: one\r\x1b[K"},
		{"nothing to do", 80, []step{{0, "one", 0, 0}}, "\r\x1b[K[                    ] 0 of 0: one\r\x1b[K"},
		{"control characters in a file's name", 0, []step{{0, "a\r\x1b[2Jb\n", 0, 1}}, "0 of 1: a\\u000d\\u001b[2Jb\\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			clock := time.Unix(1000, 0)
			p := &progress{w: &out, width: test.width, now: func() time.Time { return clock }}
			for _, s := range test.steps {
				clock = clock.Add(s.after)
				p.show(s.what, s.done, s.total)
			}
			p.close()
			p.close()
			if out.String() != test.want {
				t.Errorf("got  %q\nwant %q", out.String(), test.want)
			}
		})
	}
}

// Nothing is drawn into a file, and nothing is written if the log is quiet.
func TestProgressOutput(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for level, shown := range map[slog.Level]bool{slog.LevelInfo: true, slog.LevelWarn: false} {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: level}))
		p := (&app{log: log, stderr: terminal{&out}}).progress()
		p.show("one", 0, 2)
		p.close()
		if want := "0 of 2: one\n"; (out.String() == want) != shown || !shown && out.Len() > 0 {
			t.Errorf("level %v: %q", level, out.String())
		}
		if p := (&app{log: log, stderr: terminal{null}}).progress(); p.width != 0 {
			t.Errorf("the null device counts as a terminal with %d columns", p.width)
		}
	}
}
