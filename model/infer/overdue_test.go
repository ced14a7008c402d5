package infer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunLimit(t *testing.T) {
	for _, test := range []struct{ longest, want time.Duration }{
		{0, 30 * time.Second},
		{600 * time.Millisecond, 30 * time.Second},
		{2 * time.Second, 100 * time.Second},
	} {
		if got := runLimit(test.longest); got != test.want {
			t.Errorf("longest %v: got %v, want %v", test.longest, got, test.want)
		}
	}
}

// late records runs, and which become overdue.
type late struct {
	mu          sync.Mutex
	runs        []Run
	begun, over int
}

func (l *late) runDone(r Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, r)
}

func (l *late) runOverdue(_ ActiveRun, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended {
		l.over++
	} else {
		l.begun++
	}
}

func (l *late) counts() (begun, over int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun, l.over
}

// holding runs batches; those with an item 'h' hang until hold is closed.
type holding struct{ hold chan struct{} }

func (h holding) run(batch []item) (batchResult, error) {
	got := batchResult{}
	for _, it := range batch {
		if it.encoded[0] == 'h' {
			<-h.hold
		}
		got.scores = append(got.scores, []float32{float32(len(it.encoded))})
	}
	return got, nil
}

// No caller waits for ever for a run that does not end. Other lanes continue; when there is none,
// new callers get an error at once. When the runs end after all, the batcher recovers, and no
// caller gets the answer of another one.
func TestOverdueRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := holding{make(chan struct{})}, &late{}
		b := newBatcher(plain(h.run), 2, true, Batch{Max: 4}, seen)
		b.limitRuns(30 * time.Second)
		submit := func(content string) <-chan error {
			got := make(chan error, 1)
			go func() {
				r, err := b.submit(context.Background(), item{encoded: []byte(content)})
				if err == nil && r.scores[0] != float32(len(content)) {
					err = errors.New("the answer of another one")
				}
				got <- err
			}()
			synctest.Wait()
			return got
		}
		isLate := func(got <-chan error, what string) {
			t.Helper()
			var late *OverdueError
			select {
			case err := <-got:
				if !errors.As(err, &late) || late.Size != 1 || late.After != 30*time.Second {
					t.Errorf("%s: got %v", what, err)
				}
			default:
				t.Errorf("%s: nobody tells", what)
			}
		}
		// hangs expects the error of an image that has not run.
		hangs := func(got <-chan error, what string) {
			t.Helper()
			select {
			case err := <-got:
				if !errors.Is(err, ErrHangs) || errors.As(err, new(*OverdueError)) {
					t.Errorf("%s: got %v", what, err)
				}
			default:
				t.Errorf("%s: nobody tells", what)
			}
		}
		first := submit("h")
		waits := submit("ok") // for the run before, since it is not full
		time.Sleep(29 * time.Second)
		if b.OverdueRun() != nil || len(first) > 0 {
			t.Error("overdue too early")
		}
		time.Sleep(2 * time.Second)
		isLate(first, "first")
		if err := <-waits; err != nil {
			t.Errorf("the other lane: %v", err)
		}
		if err := <-submit("ok"); err != nil || b.IsStuck() {
			t.Errorf("the other lane: %v, stuck %v", err, b.IsStuck())
		}
		second := submit("h")
		behind := submit("ok")
		time.Sleep(31 * time.Second)
		isLate(second, "second")
		hangs(behind, "behind both")
		hangs(submit("ok"), "later")
		if begun, over := seen.counts(); !b.IsStuck() || begun != 2 || over != 0 {
			t.Errorf("stuck %v, %d runs are overdue, %d have ended", b.IsStuck(), begun, over)
		}
		close(h.hold)
		synctest.Wait()
		for range 20 {
			if err := <-submit("ok"); err != nil {
				t.Fatal(err)
			}
		}
		if begun, over := seen.counts(); b.IsStuck() || b.OverdueRun() != nil || begun != 2 || over != 2 {
			t.Errorf("stuck %v, %d runs are overdue, %d have ended", b.IsStuck(), begun, over)
		}
		failed := 0
		for _, r := range seen.runs {
			if r.Err != nil {
				failed += r.Failed
			}
		}
		if failed != 2 {
			t.Errorf("%d images have failed, want 2", failed)
		}
		b.close()
	})
}

// If a half of a batch hangs, the callers of the half that has not run get the error too.
func TestOverdueHalf(t *testing.T) {
	for _, test := range []struct {
		name, batch string
		halved      int // batches of the bad record that are as large as this fail
	}{
		{"the first half", "hbaa", 4},
		{"the second half", "abha", 4},
		{"a quarter", "hbaaaaaa", 4},
		{"a record alone", "hbaa", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, seen := holding{make(chan struct{})}, &late{}
				run := func(batch []item) (batchResult, error) {
					if batch[0].encoded[0] == 'f' { // the records gather meanwhile
						time.Sleep(time.Second)
						return h.run(batch)
					}
					bad := slices.ContainsFunc(batch, func(it item) bool { return it.encoded[0] == 'b' })
					if bad && len(batch) >= test.halved {
						return batchResult{}, &InputError{ReasonModelRefused, errors.New("a bad record")}
					}
					return h.run(batch)
				}
				b := newBatcher(plain(run), 1, true, Batch{Max: len(test.batch)}, seen)
				b.limitRuns(30 * time.Second)
				var told, answered atomic.Int32
				go func() {
					if _, err := b.submit(context.Background(), item{encoded: []byte("first")}); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				for i := range test.batch {
					go func() {
						_, err := b.submit(context.Background(), item{encoded: []byte{test.batch[i]}})
						if errors.As(err, new(*OverdueError)) {
							told.Add(1)
						} else {
							answered.Add(1)
						}
					}()
					synctest.Wait() // the records join the batch in this order
				}
				time.Sleep(time.Minute)
				if told.Load()+answered.Load() != int32(len(test.batch)) {
					t.Errorf("%d were told that the run hangs, %d got another answer, of %d",
						told.Load(), answered.Load(), len(test.batch))
				}
				failed := 0
				seen.mu.Lock()
				for _, r := range seen.runs {
					if failed += r.Failed; r.Failed > r.Size {
						t.Errorf("%d images of %d failed", r.Failed, r.Size)
					}
				}
				seen.mu.Unlock()
				if failed < int(told.Load()) {
					t.Errorf("%d failures are counted, %d callers were told", failed, told.Load())
				}
				close(h.hold)
				synctest.Wait()
				if r, err := b.submit(context.Background(), item{encoded: []byte("ok")}); err != nil || r.scores[0] != 2 {
					t.Errorf("after it: %v, %v", r, err)
				}
				b.close()
			})
		})
	}
}

// Time in which the process was stopped does not count.
func TestStoppedTimeDoesNotCount(t *testing.T) {
	b := &batcher{lanes: 1, allOverdue: make(chan struct{}), observer: &late{}}
	b.begin(1, nil)
	for range 10 {
		b.tick(time.Hour, 30*time.Second)
	}
	if u := b.ActiveRuns()[0]; u.Took != 10*tickEvery || u.Overdue != nil {
		t.Errorf("got %+v", u)
	}
}

// An abandoned batcher answers no caller.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holding{make(chan struct{})}
		b := newBatcher(plain(h.run), 1, true, Batch{Max: 4}, &late{})
		failed := make(chan error)
		go func() {
			_, err := b.submit(context.Background(), item{encoded: []byte("h")})
			failed <- err
		}()
		synctest.Wait()
		b.Abandon()
		if err := <-failed; !errors.Is(err, ErrAbandoned) {
			t.Errorf("got %v", err)
		}
		if _, err := b.submit(context.Background(), item{encoded: []byte("ok")}); !errors.Is(err, ErrAbandoned) {
			t.Errorf("after that: got %v", err)
		}
		close(h.hold)
		b.close()
	})
}
