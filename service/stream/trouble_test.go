package stream

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTroubleDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		tr := NewTrouble(slog.New(slog.NewTextHandler(&lines, nil)))
		for range 1000 { // 100 s
			tr.Failed("read", errors.New("gone"))
			time.Sleep(100 * time.Millisecond)
		}
		tr.Worked("read")
		tr.Worked("read")
		if n := strings.Count(lines.String(), "\n"); n != 5 {
			t.Errorf("%d lines, want 4 failures and an end", n)
		}
	})
}
