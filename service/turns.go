package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"inceptor/service/stream"
)

// turns lets so many records into the model at a time, and those that wait by
// turns, one from each partition: a record does not wait for the whole window of
// a partition that has more of them. Safe for concurrent use.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[stream.Partition][]chan struct{} // by partition, the first first; closed when it is let in
	order   []stream.Partition                   // partitions that have some waiting; the next first
}

func newTurns(places int) *turns {
	return &turns{free: places, waiting: map[stream.Partition][]chan struct{}{}}
}

// enter waits for a place, and returns for how long it had to. Give the place
// back with leave, unless there is an error, which is that of ctx.
func (t *turns) enter(ctx context.Context, partition stream.Partition) (waited time.Duration, err error) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return 0, nil
	}
	start, turn := time.Now(), make(chan struct{})
	if len(t.waiting[partition]) == 0 {
		t.order = append(t.order, partition)
	}
	t.waiting[partition] = append(t.waiting[partition], turn)
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
		t.next()
	}
	return time.Since(start), ctx.Err()
}

// leave lets the next one in.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

func (t *turns) next() {
	if len(t.order) == 0 {
		t.free++
		return
	}
	partition := t.order[0]
	close(t.waiting[partition][0])
	if t.drop(partition, 0) {
		t.order = append(t.order[1:], partition)
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
