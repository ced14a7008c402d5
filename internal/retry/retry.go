// Package retry paces what is tried again: how long to pause, and a pause that ends with its
// context.
package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// A Backoff tells how long to pause before each next try; call its NextBackOff. Not safe for
// concurrent use.
type Backoff = backoff.ExponentialBackOff

// NewBackoff returns pauses of about first, then of twice as long each time, up to about most. Each
// is half as much longer or shorter at random, so that clients that failed together do not come
// back together.
func NewBackoff(first, most time.Duration) Backoff {
	return Backoff{InitialInterval: first, MaxInterval: most, Multiplier: 2, RandomizationFactor: 0.5}
}

// Sleep waits for d, and returns true; or false as soon as ctx ends.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
