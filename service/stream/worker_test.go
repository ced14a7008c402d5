package stream

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
)

// Handlers run side by side; their goroutines are used again, and end with the
// worker.
func TestWorkerGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		begun, release := make(chan struct{}), make(chan struct{})
		w := NewWorker(func(context.Context, Record) ([]Record, error) {
			begun <- struct{}{}
			<-release
			return nil, nil
		}, Config{}, nil)
		before := runtime.NumGoroutine()
		f := NewFlight(Window{Records: n}, 0)
		for round := range 3 {
			for i := range n {
				s, err := f.Admit(t.Context(), Record{Offset: int64(round*n + i)})
				if err != nil {
					t.Fatal(err)
				}
				w.Begin(t.Context(), nil, s, nil)
			}
			for range n {
				<-begun
			}
			if got := runtime.NumGoroutine() - before; got > n {
				t.Errorf("round %d: %d goroutines for %d records", round, got, n)
			}
			for range n {
				release <- struct{}{}
			}
			for finished := 0; finished < n; {
				run, err := f.Take(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				finished += len(run.Slots)
				f.Release(run)
			}
			synctest.Wait() // until all of them wait for the next record
		}
		w.Await() // and synctest fails where a goroutine is left
	})
}
