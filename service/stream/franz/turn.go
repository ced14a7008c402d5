package franz

import (
	"context"
	"sync"
)

// A turn keeps polls and the ends of transactions apart, which franz-go wants.
// Whoever ends one interrupts the poll that waits for records.
type turn struct {
	polls sync.RWMutex // one reader; a waiting writer keeps it from beginning anew

	mu      sync.Mutex
	waiting int
	cancel  context.CancelFunc // of the poll that runs
}

// poll runs f, whose context ends when somebody else wants the turn.
func (t *turn) poll(ctx context.Context, f func(context.Context)) {
	t.polls.RLock()
	defer t.polls.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.cancel = cancel
	if t.waiting > 0 {
		cancel()
	}
	t.mu.Unlock()
	f(ctx)
}

// alone runs f while nothing is polled.
func (t *turn) alone(f func()) {
	t.mu.Lock()
	t.waiting++
	if t.cancel != nil {
		t.cancel()
	}
	t.mu.Unlock()
	t.polls.Lock()
	defer t.polls.Unlock()
	t.mu.Lock()
	t.waiting--
	t.mu.Unlock()
	f()
}
