package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"inceptor/service/stream"
)

// A fairQueue bounds how many records are in the model at a time. The bound may change with the
// version that serves. Waiting records are let in round-robin by partition, so that none waits
// for the whole window of another partition. Safe for concurrent use.
type fairQueue struct {
	limit func() int // set once; safe for concurrent use

	mu      sync.Mutex                           // guards what follows
	inside  int                                  // records in the model
	waiting map[stream.Partition][]chan struct{} // first come, first served; closed when let in
	order   []stream.Partition                   // partitions with waiting records; the next first
}

func newFairQueue(limit func() int) *fairQueue {
	return &fairQueue{limit: limit, waiting: map[stream.Partition][]chan struct{}{}}
}

// enter waits until a record may go into the model, and returns how long it waited. Call leave
// afterwards, unless there is an error, which is that of ctx.
func (q *fairQueue) enter(ctx context.Context, partition stream.Partition) (waited time.Duration, err error) {
	q.mu.Lock()
	if len(q.order) == 0 && q.inside < q.limit() {
		q.inside++
		q.mu.Unlock()
		return 0, nil
	}
	start, admitted := time.Now(), make(chan struct{})
	if len(q.waiting[partition]) == 0 {
		q.order = append(q.order, partition)
	}
	q.waiting[partition] = append(q.waiting[partition], admitted)
	q.admit() // the limit may have risen
	q.mu.Unlock()
	select {
	case <-admitted:
		return time.Since(start), nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting[partition], admitted); i >= 0 {
		q.remove(partition, i)
	} else { // it was let in meanwhile
		q.inside--
		q.admit()
	}
	return time.Since(start), ctx.Err()
}

// leave lets the next record in.
func (q *fairQueue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inside--
	q.admit()
}

// admit lets in as many records as the limit allows. The caller holds mu.
func (q *fairQueue) admit() {
	for len(q.order) > 0 && q.inside < q.limit() {
		partition := q.order[0]
		close(q.waiting[partition][0])
		q.inside++
		if q.remove(partition, 0) {
			q.order = append(q.order[1:], partition)
		}
	}
}

// remove takes a waiting record out of the queue, and tells whether others of its partition
// wait. The caller holds mu.
func (q *fairQueue) remove(partition stream.Partition, i int) (others bool) {
	rest := slices.Delete(q.waiting[partition], i, i+1)
	if len(rest) > 0 {
		q.waiting[partition] = rest
		return true
	}
	delete(q.waiting, partition)
	q.order = slices.DeleteFunc(q.order, func(p stream.Partition) bool { return p == partition })
	return false
}
