package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"inceptor/model"
	"inceptor/service/input"
)

// A record of a partition with few records does not wait for all records of a
// partition with many.
func TestFairQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFairQueue(limitOf(1))
		if waited, err := q.enter(t.Context(), of(0)); err != nil || waited != 0 {
			t.Fatal(waited, err)
		}
		var (
			mu    sync.Mutex
			order []int
		)
		var g sync.WaitGroup
		wait := func(ctx context.Context, partition int) {
			g.Go(func() {
				if _, err := q.enter(ctx, of(partition)); err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				order = append(order, partition)
				mu.Unlock()
				q.leave()
			})
			synctest.Wait()
		}
		gone, leave := context.WithCancel(t.Context())
		wait(gone, 3) // alone in its partition
		for range 4 {
			wait(t.Context(), 0)
		}
		wait(gone, 1) // with others
		wait(t.Context(), 1)
		wait(t.Context(), 2)
		wait(t.Context(), 1)
		leave()
		synctest.Wait()
		q.leave()
		g.Wait()
		if want := []int{0, 1, 2, 0, 1, 0, 0}; !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}
		if q.inside != 0 || len(q.waiting) != 0 || len(q.order) != 0 {
			t.Errorf("at the end: %+v", q)
		}
	})
}

func limitOf(n int) func() int { return func() int { return n } }

// A higher limit lets waiting records in; a lower one lets the next in once enough have left.
func TestFairQueueLimitChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := 1
		q := newFairQueue(func() int { return limit })
		enter := func() {
			go func() {
				if _, err := q.enter(t.Context(), of(0)); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		for _, step := range []struct {
			limit  int
			do     func()
			inside int
		}{{1, enter, 1}, {1, enter, 1}, {1, enter, 1}, {4, enter, 4}, {2, q.leave, 3}, {2, enter, 3}, {2, q.leave, 2}, {2, q.leave, 2}, {2, q.leave, 1}} {
			limit = step.limit
			if step.do(); q.inside != step.inside {
				t.Errorf("%d are inside, want %d of %d", q.inside, step.inside, step.limit)
			}
		}
	})
}

// However many records come and go, the limit holds, and none is left inside.
func TestFairQueueConcurrent(t *testing.T) {
	const limit = 3
	q := newFairQueue(limitOf(limit))
	var (
		g      sync.WaitGroup
		mu     sync.Mutex
		inside int
	)
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		if i%3 == 0 {
			go cancel()
		}
		g.Go(func() {
			defer cancel()
			if _, err := q.enter(ctx, of(i%5)); err != nil {
				return
			}
			mu.Lock()
			inside++
			if inside > limit {
				t.Errorf("%d are inside", inside)
			}
			mu.Unlock()
			mu.Lock()
			inside--
			mu.Unlock()
			q.leave()
		})
	}
	g.Wait()
	if q.inside != 0 || len(q.order) != 0 {
		t.Errorf("at the end: %+v", q)
	}
}

// The records in the model fit into the journal, whatever the settings.
func TestMaxInModel(t *testing.T) {
	for _, format := range []input.Format{input.Auto, input.TensorJSON, input.Example} {
		for _, most := range []int{0, 1, 1024} {
			c := goodConfig()
			c.Input.Format, c.Model.Batch.Max, c.Fallback.Concurrency, c.Model.Backend = format, most, 64, model.LocalThenRemote
			for _, records := range []int{1, 64, 1024} { // that a run of the version takes
				if n := c.maxInModel(records); n < min(2*records, maxRecordsInModel) || n > maxRecordsInModel {
					t.Errorf("%s, batches of %d and %d: at most %d in the model", format, most, records, n)
				}
			}
		}
	}
}
