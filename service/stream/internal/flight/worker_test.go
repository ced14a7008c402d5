package flight

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/outage"
)

// Handlers run in parallel; their goroutines are reused, and end with the worker.
func TestWorkerGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		begun, release := make(chan struct{}), make(chan struct{})
		w := NewWorker(func(context.Context, stream.Record) ([]stream.Record, error) {
			begun <- struct{}{}
			<-release
			return nil, nil
		}, stream.Config{}, nil)
		before := runtime.NumGoroutine()
		f := New(stream.Window{Records: n}, 0)
		for round := range 3 {
			for i := range n {
				s, err := f.Admit(t.Context(), stream.Record{Offset: int64(round*n + i)})
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
				stretch, err := f.Take(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				finished += len(stretch.Slots)
				f.Release(stretch)
			}
			synctest.Wait() // until all of them wait for the next record
		}
		w.Await() // and synctest fails where a goroutine is left
	})
}

// A failing handler is called again for as long as it takes, with pauses that grow to 15 s at most.
func TestWorkerTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 24 * time.Hour
		begun := time.Now()
		var calls []time.Time
		cfg, err := stream.Config{Brokers: []string{"x:1"}, Group: "g", Inputs: []string{"in"}, Outputs: []string{"out"}, Window: stream.Window{Records: 1},
			ReplaceUnread: func(stream.Batch) []stream.Record { return nil }}.Checked()
		if err != nil {
			t.Fatal(err)
		}
		w := NewWorker(func(context.Context, stream.Record) ([]stream.Record, error) {
			calls = append(calls, time.Now())
			if time.Since(begun) < long {
				return nil, errors.New("not now")
			}
			return nil, nil
		}, cfg, outage.NewLog(nil))
		f := New(stream.Window{Records: 1}, 0)
		s, err := f.Admit(t.Context(), stream.Record{})
		if err != nil {
			t.Fatal(err)
		}
		w.Begin(t.Context(), nil, s, nil)
		if _, err := f.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Await()
		var longest time.Duration
		for i := range calls[1:] {
			longest = max(longest, calls[i+1].Sub(calls[i]))
		}
		if longest < 10*time.Second || longest > 15*time.Second {
			t.Errorf("the longest of %d pauses is %v", len(calls)-1, longest)
		}
		if first := calls[1].Sub(calls[0]); first > time.Second {
			t.Errorf("the first pause is %v", first)
		}
	})
}
