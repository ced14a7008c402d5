package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"inceptor/service/stream"
)

// turns bounds how many records are in the model at a time. The bound may change with the
// version that serves. Records that wait are let in by turns, one from each partition, so
// none waits for the whole window of another partition. Safe for concurrent use.
type turns struct {
	places func() int // set once; safe for concurrent use

	mu      sync.Mutex // guards what follows
	inside  int
	waiting map[stream.Partition][]chan struct{} // by partition, the first first; closed when it is let in
	order   []stream.Partition                   // partitions that have some waiting; the next first
}

func newTurns(places func() int) *turns {
	return &turns{places: places, waiting: map[stream.Partition][]chan struct{}{}}
}

// enter waits for a place, and returns for how long it had to. Give the place
// back with leave, unless there is an error, which is that of ctx.
func (t *turns) enter(ctx context.Context, partition stream.Partition) (waited time.Duration, err error) {
	t.mu.Lock()
	if len(t.order) == 0 && t.inside < t.places() {
		t.inside++
		t.mu.Unlock()
		return 0, nil
	}
	start, turn := time.Now(), make(chan struct{})
	if len(t.waiting[partition]) == 0 {
		t.order = append(t.order, partition)
	}
	t.waiting[partition] = append(t.waiting[partition], turn)
	t.admit() // there may be more places than before
	t.mu.Unlock()
	select {
	case <-turn:
		return time.Since(start), nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting[partition], turn); i >= 0 {
		t.drop(partition, i)
	} else { // it was let in meanwhile
		t.inside--
		t.admit()
	}
	return time.Since(start), ctx.Err()
}

// leave lets the next one in.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside--
	t.admit()
}

// admit lets those in for whom there is a place.
func (t *turns) admit() {
	for len(t.order) > 0 && t.inside < t.places() {
		partition := t.order[0]
		close(t.waiting[partition][0])
		t.inside++
		if t.drop(partition, 0) {
			t.order = append(t.order[1:], partition)
		}
	}
}

// drop takes one that waits out, and tells whether others of its partition do.
func (t *turns) drop(partition stream.Partition, i int) (others bool) {
	rest := slices.Delete(t.waiting[partition], i, i+1)
	if len(rest) > 0 {
		t.waiting[partition] = rest
		return true
	}
	delete(t.waiting, partition)
	t.order = slices.DeleteFunc(t.order, func(p stream.Partition) bool { return p == partition })
	return false
}
