package model

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

func TestBound(t *testing.T) {
	for _, test := range []struct{ longest, want time.Duration }{
		{0, 30 * time.Second},
		{600 * time.Millisecond, 30 * time.Second},
		{2 * time.Second, 100 * time.Second},
	} {
		if got := boundOf(test.longest); got != test.want {
			t.Errorf("longest %v: got %v, want %v", test.longest, got, test.want)
		}
	}
}

// late notes what becomes of runs.
type late struct {
	mu          sync.Mutex
	runs        []Run
	begun, over int
}

func (l *late) ran(r Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, r)
}

func (l *late) overdue(_ underway, ended bool) {
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

// holding runs batches; those of an item 'h' hang until they are let go.
type holding struct{ hold chan struct{} }

func (h holding) run(batch []item) (scored, error) {
	got := scored{}
	for _, it := range batch {
		if it.encoded[0] == 'h' {
			<-h.hold
		}
		got.rows = append(got.rows, []float32{float32(len(it.encoded))})
	}
	return got, nil
}

// Nobody waits for ever for a run that does not end. Other lanes go on; when
// there is none, whoever comes is told at once. When the runs end after all,
// everything goes on, and nobody gets an answer of somebody else's.
func TestOverdueRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := holding{make(chan struct{})}, &late{}
		b := newBatcher(h.run, 2, true, Batch{Max: 4}, seen)
		b.bind(30 * time.Second)
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
		// hangs wants the error of an image that has not run.
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
		if b.hang() != nil || len(first) > 0 {
			t.Error("overdue too early")
		}
		time.Sleep(2 * time.Second)
		isLate(first, "first")
		if err := <-waits; err != nil {
			t.Errorf("the other lane: %v", err)
		}
		if err := <-submit("ok"); err != nil || b.isStuck() {
			t.Errorf("the other lane: %v, stuck %v", err, b.isStuck())
		}
		second := submit("h")
		behind := submit("ok")
		time.Sleep(31 * time.Second)
		isLate(second, "second")
		hangs(behind, "behind both")
		hangs(submit("ok"), "later")
		if begun, over := seen.counts(); !b.isStuck() || begun != 2 || over != 0 {
			t.Errorf("stuck %v, %d runs are overdue, %d have ended", b.isStuck(), begun, over)
		}
		close(h.hold)
		synctest.Wait()
		for range 20 {
			if err := <-submit("ok"); err != nil {
				t.Fatal(err)
			}
		}
		if begun, over := seen.counts(); b.isStuck() || b.hang() != nil || begun != 2 || over != 2 {
			t.Errorf("stuck %v, %d runs are overdue, %d have ended", b.isStuck(), begun, over)
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

// A batch is halved because of one record, and the first half hangs: the callers
// of the second half, which has not run, are told too.
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
				run := func(batch []item) (scored, error) {
					bad := slices.ContainsFunc(batch, func(it item) bool { return it.encoded[0] == 'b' })
					if bad && len(batch) >= test.halved {
						return scored{}, &InputError{ReasonModelRefused, errors.New("a bad record")}
					}
					return h.run(batch)
				}
				b := newBatcher(run, 1, true, Batch{Max: len(test.batch), Delay: time.Second}, seen)
				b.bind(30 * time.Second)
				var told, answered atomic.Int32
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

// Time in which the process stood still does not count.
func TestStoppedTimeDoesNotCount(t *testing.T) {
	b := &batcher{bound: 30 * time.Second, places: 1, allLate: make(chan struct{}), observer: &late{}}
	b.begin(1, nil)
	for range 10 {
		b.tick(time.Hour)
	}
	if u := b.underway()[0]; u.took != 10*tickEvery || u.overdue != nil {
		t.Errorf("got %+v", u)
	}
}

// A version that was abandoned answers nobody any more.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holding{make(chan struct{})}
		b := newBatcher(h.run, 1, true, Batch{Max: 4}, &late{})
		failed := make(chan error)
		go func() {
			_, err := b.submit(context.Background(), item{encoded: []byte("h")})
			failed <- err
		}()
		synctest.Wait()
		b.abandon()
		if err := <-failed; !errors.Is(err, errAbandoned) {
			t.Errorf("got %v", err)
		}
		if _, err := b.submit(context.Background(), item{encoded: []byte("ok")}); !errors.Is(err, errAbandoned) {
			t.Errorf("after that: got %v", err)
		}
		close(h.hold)
		b.close()
	})
}

// A probation is not over while a run that began in it goes on.
func TestProbationOver(t *testing.T) {
	until := time.Now()
	goesOn := underway{since: until.Add(-time.Second)}
	isOverdue := underway{since: until.Add(-time.Second), overdue: &OverdueError{}}
	for _, test := range []struct {
		name   string
		judged bool
		now    time.Duration // after until
		runs   []underway
		want   bool
	}{
		{"too early", true, -1, nil, false},
		{"time is up", true, 1, nil, true},
		{"a run goes on", true, time.Minute, []underway{goesOn}, false},
		{"a run of afterwards", true, time.Minute, []underway{{since: until.Add(time.Second)}}, true},
		{"both", true, time.Minute, []underway{{since: until.Add(time.Second)}, {since: until}}, false},
		{"a run is overdue", true, time.Minute, []underway{isOverdue}, false},
		{"by hand, a run goes on", false, time.Minute, []underway{goesOn}, false},
		{"by hand, a run is overdue", false, time.Minute, []underway{isOverdue}, true},
		{"by hand, both", false, time.Minute, []underway{isOverdue, goesOn}, false},
	} {
		tr := &trial{until: until, judged: test.judged}
		if got := tr.over(until.Add(test.now), test.runs); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
