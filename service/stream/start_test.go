package stream

import (
	"strings"
	"testing"
	"time"
)

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
