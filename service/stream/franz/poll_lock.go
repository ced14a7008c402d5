package franz

import (
	"context"
	"sync"
)

// A pollLock keeps polls and the ends of transactions apart, as franz-go wants.
// Whoever ends a transaction interrupts the poll that waits for records.
type pollLock struct {
	polls sync.RWMutex // one reader; a waiting writer keeps it from beginning again

	mu      sync.Mutex
	waiting int                // calls of exclusive; guarded by mu
	cancel  context.CancelFunc // of the poll that runs; guarded by mu
}

// poll runs f, whose context ends when somebody waits in exclusive.
func (l *pollLock) poll(ctx context.Context, f func(context.Context)) {
	l.polls.RLock()
	defer l.polls.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.cancel = cancel
	if l.waiting > 0 {
		cancel()
	}
	l.mu.Unlock()
	f(ctx)
}

// exclusive runs f while no poll runs.
func (l *pollLock) exclusive(f func()) {
	l.mu.Lock()
	l.waiting++
	if l.cancel != nil {
		l.cancel()
	}
	l.mu.Unlock()
	l.polls.Lock()
	defer l.polls.Unlock()
	l.mu.Lock()
	l.waiting--
	l.mu.Unlock()
	f()
}
