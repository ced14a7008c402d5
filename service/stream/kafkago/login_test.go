package kafkago

import (
	"testing"
	"time"
)

// Messages are counted, however they are divided into writes.
func TestFrames(t *testing.T) {
	message := func(n int) []byte { return append([]byte{0, 0, 0, byte(n)}, make([]byte, n)...) }
	all := append(append(message(3), message(0)...), message(7)...)
	for size := 1; size <= len(all); size++ {
		var f frames
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			f.pass(rest[:n])
			rest = rest[n:]
			if whole := len(rest) == 0 || len(rest) == 11 || len(rest) == 15; f.between() != whole {
				t.Fatalf("pieces of %d, %d bytes left: between messages %v, want %v", size, len(rest), f.between(), whole)
			}
		}
		if f.count != 3 {
			t.Errorf("pieces of %d: %d messages, want 3", size, f.count)
		}
	}
}

func TestRenewal(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		lifetime time.Duration
		random   float64
		want     time.Duration // from now on; 0: never
	}{
		"for ever":              {0, .5, 0},
		"negative":              {-time.Second, .5, 0},
		"early":                 {100 * time.Second, 0, 85 * time.Second},
		"late":                  {100 * time.Second, 1, 95 * time.Second},
		"not twice in a second": {time.Second, 0, 1100 * time.Millisecond},
		"longer than there is":  {1 << 62, 0, time.Duration(float64(maxLifetime) * .85)},
	} {
		got := renewal(now, test.lifetime, test.random)
		if test.want == 0 && !got.IsZero() || test.want != 0 && got.Sub(now).Round(time.Millisecond) != test.want {
			t.Errorf("%s: after %v, want %v", name, got.Sub(now), test.want)
		}
	}
}
