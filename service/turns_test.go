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

// A record of a partition that has few does not wait for all of one that has
// many.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(placesOf(1))
		if waited, err := turns.enter(t.Context(), of(0)); err != nil || waited != 0 {
			t.Fatal(waited, err)
		}
		var (
			mu    sync.Mutex
			order []int
		)
		var g sync.WaitGroup
		wait := func(ctx context.Context, partition int) {
			g.Go(func() {
				if _, err := turns.enter(ctx, of(partition)); err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				order = append(order, partition)
				mu.Unlock()
				turns.leave()
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
		turns.leave()
		g.Wait()
		if want := []int{0, 1, 2, 0, 1, 0, 0}; !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}
		if turns.inside != 0 || len(turns.waiting) != 0 || len(turns.order) != 0 {
			t.Errorf("at the end: %+v", turns)
		}
	})
}

func placesOf(n int) func() int { return func() int { return n } }

// A version that takes more records at a time lets in those that wait, and after one
// that takes fewer, so many leave before the next.
func TestTurnsOfAnotherVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := 1
		turns := newTurns(func() int { return places })
		enter := func() {
			go func() {
				if _, err := turns.enter(t.Context(), of(0)); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		for _, step := range []struct {
			places int
			do     func()
			inside int
		}{{1, enter, 1}, {1, enter, 1}, {1, enter, 1}, {4, enter, 4}, {2, turns.leave, 3}, {2, enter, 3}, {2, turns.leave, 2}, {2, turns.leave, 2}, {2, turns.leave, 1}} {
			places = step.places
			if step.do(); turns.inside != step.inside {
				t.Errorf("%d are inside, want %d of %d", turns.inside, step.inside, step.places)
			}
		}
	})
}

// However many come and go, places are neither lost nor made.
func TestTurnsAtOnce(t *testing.T) {
	const places = 3
	turns := newTurns(placesOf(places))
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
			if _, err := turns.enter(ctx, of(i%5)); err != nil {
				return
			}
			mu.Lock()
			inside++
			if inside > places {
				t.Errorf("%d are inside", inside)
			}
			mu.Unlock()
			mu.Lock()
			inside--
			mu.Unlock()
			turns.leave()
		})
	}
	g.Wait()
	if turns.inside != 0 || len(turns.order) != 0 {
		t.Errorf("at the end: %+v", turns)
	}
}

// What is worked on has room in the journal, whatever the settings.
func TestPlaces(t *testing.T) {
	for _, format := range []input.Format{input.Auto, input.TensorJSON, input.Example} {
		for _, most := range []int{0, 1, 1024} {
			c := goodConfig()
			c.Input.Format, c.Model.Batch.Max, c.Fallback.Concurrency, c.Model.Backend = format, most, 64, model.LocalThenRemote
			for _, records := range []int{1, 64, 1024} { // that a run of the version takes
				if n := c.places(records); n < min(2*records, maxPlaces) || n > maxPlaces {
					t.Errorf("%s, batches of %d and %d: %d places", format, most, records, n)
				}
			}
		}
	}
}
