package stream

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// Handlers run side by side; their goroutines are used again, and end with the
// worker.
func TestWorkerGoroutines(t *testing.T) {
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
		if got := runtime.NumGoroutine() - before; got > n+n/10 { // one may be on its way to wait
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
		for w.spare.Load() < n {
			time.Sleep(time.Millisecond)
		}
	}
	w.Await()
	for begin := time.Now(); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d goroutines are left", runtime.NumGoroutine()-before)
		}
	}
}
