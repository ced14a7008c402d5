package flight

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"inceptor/service/stream"
)

func budget(total int64) *Budget {
	return NewBudget(stream.Config{TotalBytes: total, Observer: stream.Unobserved{}, Log: slog.New(slog.DiscardHandler)})
}

// try charges bytes if they fit at once; else it returns nil.
func try(t interface{ Fatalf(string, ...any) }, s *Share, bytes int64) *Charge {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	c := s.Charge()
	switch err := c.Wait(gone, bytes); {
	case err == nil:
		return c
	case !errors.Is(err, context.Canceled):
		t.Fatalf("wait: %v", err)
	}
	c.Release()
	return nil
}

// In any order of charges and releases, never more than the total and one response is held, what
// fits into a partition's share never waits, and nothing is held at the end.
func TestBudgetProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(10, 200).Draw(t, "total")
		b := budget(total)
		held := int64(0)
		b.observe = func(bytes int64, _ int) { held = bytes }
		var shares []*Share
		for n := rapid.IntRange(1, 5).Draw(t, "partitions"); len(shares) < n; {
			shares = append(shares, b.Share(n))
		}
		of := map[*Share]int64{}
		var charges []*Charge
		largest := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				sum := int64(0)
				for _, n := range of {
					sum += n
				}
				if held != sum {
					t.Fatalf("%d bytes are held, want %d", held, sum)
				}
				if held > total+largest {
					t.Fatalf("%d bytes of %d are held, the largest response has %d", held, total, largest)
				}
			},
			"take": func(t *rapid.T) {
				s := rapid.SampledFrom(shares).Draw(t, "share")
				n := rapid.Int64Range(1, 2*total).Draw(t, "bytes")
				c := try(t, s, n)
				switch {
				case c != nil:
					charges = append(charges, c)
					of[s] += n
					largest = max(largest, n)
				case of[s]+n <= s.Size():
					t.Fatalf("a partition that holds %d bytes of its %d waits for %d", of[s], s.Size(), n)
				case of[s] == 0 && held <= total/2:
					t.Fatalf("a partition that holds nothing waits, though only %d bytes of %d are held", held, total)
				}
			},
			"raise": func(t *rapid.T) {
				if len(charges) == 0 {
					return
				}
				c := rapid.SampledFrom(charges).Draw(t, "charge")
				n := rapid.Int64Range(1, total).Draw(t, "bytes")
				before := c.Bytes()
				if c.Raise(n) {
					of[c.share] += max(0, n-before)
					largest = max(largest, n)
					if n > before && held > total && of[c.share] > c.share.Size() {
						t.Fatalf("raised to %d of %d bytes", held, total)
					}
				}
			},
			"give back": func(t *rapid.T) {
				if len(charges) == 0 {
					return
				}
				i := rapid.IntRange(0, len(charges)-1).Draw(t, "charge")
				c := charges[i]
				charges = append(charges[:i], charges[i+1:]...)
				of[c.share] -= c.Bytes()
				c.Release()
			},
		})
		for _, s := range shares {
			s.Close()
			s.Close()
		}
		if b.held != 0 || b.common != 0 || b.reserved != 0 {
			t.Fatalf("at the end: %d held, %d common, %d reserved", b.held, b.common, b.reserved)
		}
	})
}

// Partitions that release nothing keep what they hold, and the others go on.
func TestBudgetStuckPartitions(t *testing.T) {
	b := budget(1000)
	var shares []*Share
	for range 5 {
		shares = append(shares, b.Share(5)) // 100 each, and 500 in common
	}
	for _, stuck := range shares[:4] {
		for try(t, stuck, 30) != nil { //nolint:revive // as much as there is
		}
	}
	if b.held < 800 {
		t.Fatalf("the stuck partitions hold %d bytes, want what is common and their own", b.held)
	}
	for range 100 {
		c := try(t, shares[4], 90)
		if c == nil {
			t.Fatal("the partition that works waits for those that do not")
		}
		c.Release()
	}
	// One response that is larger than its share may exceed the bound, once.
	over := try(t, shares[4], 2000)
	if over == nil {
		t.Fatal("a response larger than the bound is not let in")
	}
	if try(t, shares[4], 200) != nil {
		t.Fatal("a second response beyond the bound is let in")
	}
	over.Release()
	if try(t, shares[4], 2000) == nil {
		t.Fatal("the next is not let in")
	}
}

// Waiting partitions are served in their order: one that comes back waits behind the others.
func TestBudgetTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget(200)
		const partitions = 4
		var order []int
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		var work sync.WaitGroup
		var mu sync.Mutex
		for i := range partitions {
			s := b.Share(partitions) // 25 each, and 100 in common
			work.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				for c := s.Charge(); c.Wait(ctx, 120) == nil && ctx.Err() == nil; c = s.Charge() {
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
					time.Sleep(time.Second)
					c.Release()
				}
			})
		}
		work.Wait()
		counts := [partitions]int{}
		for _, i := range order {
			counts[i]++
		}
		for i, n := range counts {
			if n < len(order)/partitions-1 || n > len(order)/partitions+1 {
				t.Errorf("of %d turns partition %d had %d: %v", len(order), i, n, counts)
			}
		}
	})
}

// A waiting charge that is released gets nothing, and does not block others.
func TestBudgetGivenBackWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget(100)
		first, second := b.Share(2), b.Share(2)
		holds, over := try(t, first, 60), try(t, second, 80)
		if holds == nil || over == nil {
			t.Fatal("no room to begin with")
		}
		waits := first.Charge()
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- waits.Wait(ctx, 70) }()
		synctest.Wait()
		if len(b.waiting) != 1 {
			t.Fatalf("%d wait, want 1", len(b.waiting))
		}
		waits.Release()
		holds.Release()
		over.Release()
		stop()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("wait: %v", err)
		}
		if b.held != 0 || len(b.waiting) != 0 {
			t.Errorf("%d bytes held, %d wait", b.held, len(b.waiting))
		}
	})
}

// The log says once that fetching waits, however often it does.
func TestBudgetTellsOnce(t *testing.T) {
	var log strings.Builder
	b := NewBudget(stream.Config{TotalBytes: 100, Observer: stream.Unobserved{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	waited := 0
	b.observe = func(_ int64, waiting int) { waited = max(waited, waiting) }
	s := b.Share(1)
	if try(t, s, 100) == nil {
		t.Fatal("no room to begin with")
	}
	for range 10 {
		if try(t, s, 50) != nil {
			t.Fatal("there is room beyond the bound")
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || waited != 1 {
		t.Errorf("%d lines, %d waited:\n%s", n, waited, log.String())
	}
}

// A record's charge is released with it. Large outputs are added to it, without the value that they
// share with the record.
func TestFlightCharges(t *testing.T) {
	b := budget(1 << 30)
	s := b.Share(1)
	f := New(stream.Window{Records: 10}, 0)
	c := s.Charge()
	c.Set(1000)
	var slots []*Slot
	for i := range int64(3) {
		slot, err := f.Admit(t.Context(), record(i, 100<<10))
		if err != nil {
			t.Fatal(err)
		}
		c.Retain(1)
		slot.Charge = c
		slots = append(slots, slot)
	}
	c.Release()
	release := func(want int64) {
		t.Helper()
		stretch, err := f.Ready()
		if err != nil {
			t.Fatal(err)
		}
		f.Release(stretch)
		if b.held != want {
			t.Errorf("%d bytes held, want %d", b.held, want)
		}
	}
	slots[0].Done([]stream.Record{{Value: slots[0].Record.Value}}) // a dead letter
	release(1000)
	slots[1].Done([]stream.Record{{Value: make([]byte, 1<<20)}})
	release(1000 + 1<<20)
	slots[2].Done([]stream.Record{{Value: make([]byte, 100)}})
	release(0)
}
