package outage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An operation that fails again and again does not flood the log, and a new error is logged at
// once. Each case fails ten times a second.
func TestLog(t *testing.T) {
	for name, test := range map[string]struct {
		lasts time.Duration
		err   func(try int) string
		most  int               // lines, and at least one
		at    map[string]string // error to the time of its first line
	}{
		"one error": {
			100 * time.Second, func(int) string { return "gone" }, 4, map[string]string{"gone": "0s"},
		},
		"a changed error": {
			20 * time.Second,
			func(try int) string {
				if try < 50 {
					return "connection refused"
				}
				return "not authorized"
			},
			2, map[string]string{"connection refused": "0s", "not authorized": "5s"},
		},
		"changed, and as it was": {
			20 * time.Second,
			func(try int) string {
				if 50 <= try && try < 60 {
					return "not authorized"
				}
				return "connection refused"
			},
			2, map[string]string{"connection refused": "0s", "not authorized": "5s"},
		},
		"two that alternate": {
			100 * time.Second, func(try int) string { return []string{"refused", "reset"}[try%2] }, 5,
			map[string]string{"refused": "0s", "reset": "100ms"},
		},
		"more kinds than are told apart, in turn": {
			100 * time.Second, func(try int) string { return "kind " + strings.Repeat("x", try%50) }, 14, nil,
		},
		"ports": {
			100 * time.Second, func(try int) string { return fmt.Sprintf("read 127.0.0.1:%d: reset", 40000+try) }, 4, nil,
		},
		"durations and offsets": {
			100 * time.Second,
			func(try int) string {
				return fmt.Sprintf("no answer for %v at offset %d", time.Duration(try)*time.Second, try)
			},
			4, nil,
		},
		"addresses in memory": {
			100 * time.Second, func(try int) string { return fmt.Sprintf("bad state %#x", try*0xabc) }, 4, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				tr := NewLog(slog.New(slog.NewTextHandler(&log, nil)))
				begin := time.Now()
				first := map[string]string{}
				for try := 0; time.Since(begin) < test.lasts; try++ {
					err, before := test.err(try), log.Len()
					tr.Failed("read", errors.New(err))
					if _, told := first[err]; !told && log.Len() > before {
						first[err] = time.Since(begin).String()
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := strings.Count(log.String(), "\n"); n < 1 || n > test.most {
					t.Errorf("%d lines, want at most %d:\n%s", n, test.most, &log)
				}
				for err, want := range test.at {
					if first[err] != want {
						t.Errorf("%q is logged after %q, want %s", err, first[err], want)
					}
				}
				log.Reset()
				tr.Recovered("read")
				tr.Recovered("read")
				if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "recovered") {
					t.Errorf("at the end: %q", got)
				}
			})
		})
	}
}
