package model

import "sync/atomic"

// leased is what several use and nobody owns: it is freed when the last lease
// has ended. Safe for concurrent use.
type leased struct {
	leases atomic.Int64
	freed  chan struct{} // closed when it has been freed
	free   func()
}

// newLeased has one lease, its maker's.
func newLeased(free func()) *leased {
	l := &leased{freed: make(chan struct{}), free: free}
	l.leases.Store(1)
	return l
}

// retain adds a lease; it fails once the last one has ended.
func (l *leased) retain() bool {
	for {
		n := l.leases.Load()
		if n == 0 {
			return false
		}
		if l.leases.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// drop ends a lease; the last one frees, aside: nobody's image waits for it.
func (l *leased) drop() {
	if l.leases.Add(-1) > 0 {
		return
	}
	go func() {
		defer close(l.freed)
		l.free()
	}()
}
