package flight

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"inceptor/service/stream"
)

func record(offset int64, size int) stream.Record {
	return stream.Record{Offset: offset, Value: make([]byte, size)}
}

// With any gaps, sizes, order of handlers and dropped records: records are published by offset, no
// commit passes a record that is not published, and the window is never exceeded.
func TestFlightProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := stream.Window{Records: rapid.IntRange(1, 8).Draw(t, "records"), Bytes: rapid.Int64Range(0, 40).Draw(t, "bytes")}
		start := rapid.Int64Range(0, 5).Draw(t, "start")
		f := New(limit, start)
		var (
			next         = start            // of the log
			working      []*Slot            // admitted, unfinished
			waiting      = map[int64]bool{} // admitted, not published
			dropped      = int64(-1)        // lowest
			published    = int64(-1)
			commit       = start
			gone, cancel = context.WithCancel(context.Background())
		)
		cancel()
		check := func(*rapid.T) {
			n, bytes := f.Held()
			if n != len(waiting) {
				t.Fatalf("holds %d records, want %d", n, len(waiting))
			}
			if n > limit.Records || limit.Bytes > 0 && n > 1 && bytes > limit.Bytes {
				t.Fatalf("window %+v holds %d records, %d bytes", limit, n, bytes)
			}
			for o := range waiting {
				if o < commit {
					t.Fatalf("committed %d, but %d is not published", commit, o)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"admit": func(t *rapid.T) {
				r := record(next+rapid.Int64Range(0, 3).Draw(t, "gap"), rapid.IntRange(0, 20).Draw(t, "size"))
				s, err := f.Admit(gone, r) // tries once
				if err != nil {
					if len(waiting) == 0 {
						t.Fatalf("an empty window refuses a record: %v", err)
					}
					return
				}
				next = r.Offset + 1
				working, waiting[r.Offset] = append(working, s), true
			},
			"skip": func(t *rapid.T) {
				next += rapid.Int64Range(0, 3).Draw(t, "n")
				f.Skip(next)
			},
			"finish": func(t *rapid.T) {
				if len(working) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(working)-1).Draw(t, "which")
				s := working[i]
				working = append(working[:i:i], working[i+1:]...)
				if rapid.IntRange(0, 9).Draw(t, "drop") == 0 {
					s.Drop()
					if dropped < 0 || s.Record.Offset < dropped {
						dropped = s.Record.Offset
					}
					return
				}
				s.Done([]stream.Record{s.Record})
			},
			"publish": func(t *rapid.T) {
				stretch, err := f.take()
				if err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "meanwhile") {
					next++
					f.Skip(next)
				}
				for _, s := range stretch.Slots {
					o := s.Record.Offset
					if o <= published || dropped >= 0 && o >= dropped || len(s.Outputs) != 1 {
						t.Fatalf("publishes %d after %d, dropped %d", o, published, dropped)
					}
					published = o
					delete(waiting, o)
				}
				if stretch.Slots == nil && stretch.Next == 0 {
					return
				}
				if stretch.Next < commit {
					t.Fatalf("commit goes back from %d to %d", commit, stretch.Next)
				}
				f.Release(stretch)
				commit = stretch.Next
			},
		})
		// Closed, and with all handlers finished, it drains up to the first dropped record, or to
		// the end of the log.
		f.Close()
		for _, s := range working {
			s.Done(nil)
		}
		for {
			stretch, err := f.Take(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			for _, s := range stretch.Slots {
				delete(waiting, s.Record.Offset)
			}
			f.Release(stretch)
			commit = stretch.Next
		}
		check(t)
		if dropped < 0 && (commit != next || len(waiting) > 0) {
			t.Fatalf("drained to %d of %d, %d waiting", commit, next, len(waiting))
		}
	})
}

func TestFlightAdmitWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(stream.Window{Records: 10, Bytes: 10}, 0)
		big, err := f.Admit(t.Context(), record(0, 1000)) // one is always admitted
		if err != nil {
			t.Fatal(err)
		}
		in := make(chan error)
		go func() {
			_, err := f.Admit(t.Context(), record(1, 1))
			in <- err
		}()
		synctest.Wait()
		select {
		case <-in:
			t.Fatal("let in beyond the bound")
		default:
		}
		big.Done(nil)
		stretch, err := f.Take(t.Context())
		if err != nil || stretch.Next != 1 {
			t.Fatalf("take: %+v, %v", stretch, err)
		}
		f.Release(stretch)
		if err := <-in; err != nil {
			t.Fatal(err)
		}
	})
}

func TestFlightRefusesOffsetsThatDoNotAscend(t *testing.T) {
	f := New(stream.Window{Records: 10}, 5)
	if _, err := f.Admit(t.Context(), record(4, 1)); err == nil {
		t.Fatal("offset 4 let in after 4 was passed")
	}
	f.Rewind(2)
	if _, err := f.Admit(t.Context(), record(2, 1)); err != nil {
		t.Fatal(err)
	}
}
