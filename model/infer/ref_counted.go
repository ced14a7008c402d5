package infer

import "sync/atomic"

// refCounted frees something when its last reference is released. Safe for concurrent use.
type refCounted struct {
	references atomic.Int64
	freed      chan struct{} // closed when free has returned
	free       func()
}

// newRefCounted returns one with a single reference, that of the caller.
func newRefCounted(free func()) *refCounted {
	r := &refCounted{freed: make(chan struct{}), free: free}
	r.references.Store(1)
	return r
}

// Retain adds a reference. It returns false once the last one has been released.
func (r *refCounted) Retain() bool {
	for {
		n := r.references.Load()
		if n == 0 {
			return false
		}
		if r.references.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release ends a reference. The last one frees, on a goroutine of its own, so that no record
// waits for that.
func (r *refCounted) Release() {
	if r.references.Add(-1) > 0 {
		return
	}
	go func() {
		defer close(r.freed)
		r.free()
	}()
}

// Freed returns a channel that is closed when everything has been freed.
func (r *refCounted) Freed() <-chan struct{} { return r.freed }
