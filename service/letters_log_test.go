package service

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/service/input"
	"inceptor/service/stream"
)

// The first dead letter of each reason in a minute is logged with a hint, and the others are
// counted in one line.
func TestLetterLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLetterLog(Config{}, slog.New(slog.NewTextHandler(&log, nil)))
		lines := func() (all []string) {
			synctest.Wait()
			l.mu.Lock() // held by whoever writes to the log
			defer l.mu.Unlock()
			for line := range strings.Lines(log.String()) {
				all = append(all, line)
			}
			log.Reset()
			return all
		}
		made := func(reason input.Reason, n int) {
			for i := range n {
				l.made(stream.Record{Topic: "in", Offset: int64(i)}, string(reason), errors.New("bad"))
			}
		}
		made(input.PathNotAllowed, 1000)
		made(input.Empty, 1)
		if got := lines(); len(got) != 2 || !strings.Contains(got[0], `reason=path-not-allowed record=in-0-0 err=bad hint="set input.files.root to the folder with the files"`) || !strings.Contains(got[1], "reason=empty") {
			t.Errorf("at once: %q", got)
		}
		time.Sleep(letterPeriod + time.Second)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "reason=path-not-allowed records=999 within=1m0s") {
			t.Errorf("after a minute: %q", got)
		}
		made(input.PathNotAllowed, 3)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "hint=") {
			t.Errorf("in the next minute: %q", got)
		}
		time.Sleep(10 * time.Second)
		l.close()
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "records=2 within=10s") {
			t.Errorf("at the end: %q", got)
		}
		time.Sleep(2 * letterPeriod)
		if got := lines(); got != nil {
			t.Errorf("after the end: %q", got)
		}
	})
}

// Hints name only settings that exist, and a reason without one gets a general hint.
func TestLetterHints(t *testing.T) {
	reference, err := os.ReadFile("../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	setting := regexp.MustCompile(`\b(?:input|kafka|model)\.[a-z.-]+[a-z]`)
	for reason, hint := range hints {
		for _, key := range setting.FindAllString(hint, -1) {
			if !bytes.Contains(reference, []byte("`"+key+"`")) {
				t.Errorf("%s: there is no setting %s", reason, key)
			}
		}
	}
	for _, test := range []struct {
		noted  noted
		reason input.Reason
		want   string
	}{
		{noted{hasRoot: false}, input.PathNotAllowed, "set input.files.root to the folder with the files"},
		{noted{hasRoot: true}, input.PathNotAllowed, "let records name files below input.files.root"},
		{noted{topic: "dead"}, input.BadPath, "see the record in dead: its sender must mend it"},
	} {
		if got := test.noted.hint(string(test.reason)); got != test.want {
			t.Errorf("%s with %+v: %q, want %q", test.reason, test.noted, got, test.want)
		}
	}
}
