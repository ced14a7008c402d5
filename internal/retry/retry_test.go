package retry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Pauses double up to the longest one, and each varies by half.
func TestBackoff(t *testing.T) {
	b := NewBackoff(100*time.Millisecond, time.Second)
	for i, about := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		about *= time.Millisecond
		if got := b.NextBackOff(); got < about/2 || got > about*3/2 {
			t.Errorf("pause %d is %v, want about %v", i, got, about)
		}
	}
}

func TestSleep(t *testing.T) {
	for _, test := range []struct {
		name    string
		timeout time.Duration // of the context
		want    bool
		took    time.Duration
	}{
		{"it passes", time.Minute, true, time.Second},
		{"the context ends before", time.Millisecond, false, time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
				defer cancel()
				begin := time.Now()
				if got := Sleep(ctx, time.Second); got != test.want {
					t.Errorf("Sleep returned %v", got)
				}
				if took := time.Since(begin); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
			})
		})
	}
}
