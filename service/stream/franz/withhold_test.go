package franz

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/service/stream"
)

// lags remembers the lags that the observer is told.
type lags struct {
	stream.Unobserved
	told []int64
}

func (o *lags) Committed(_ stream.Partition, _, lag int64) { o.told = append(o.told, lag) }

// only is the partition of these tests.
var only = stream.Partition{Topic: "in"}

// withholding4test returns a delivery in which partition 0, of which offset 10
// is committed, is withheld with one record.
func withholding4test(t *testing.T, observer stream.Observer) *transactional {
	t.Helper()
	cfg := config("x:1")
	cfg.Observer = observer
	d, err := New(cfg, testBound, echo)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(stream.Partition) {}
	s := &transactional{session: &session{Driver: d}, tx: newTransaction(), withheld: map[stream.Partition]*withheld{}}
	s.current = newGeneration([]stream.Partition{only}, d.cfg, d.worker, d.budget, func() {}, nothing, nothing)
	p := s.current.partitions[only]
	p.start(startAt(10, stream.TopicID{}, false))
	p.watermark(11)
	p.collect(11)
	s.tx.add(only, share{next: 11, records: 1, bytes: 1}, []*output{{source: stream.Record{Topic: "in", Offset: 10}}})
	s.withhold(only, "out", errors.New("refused"))
	return s
}

// The lag of a withheld partition is told as it grows, until it is in a
// transaction again, which tells it.
func TestWithheldLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observer := &lags{}
		s := withholding4test(t, observer)
		defer s.current.end()
		p := s.current.partitions[only]
		p.watermark(15)
		time.Sleep(stream.MaxRefusedPause)
		s.again(time.Now())
		p.watermark(16)
		p.commit(11)
		if want := []int64{1, 5, 5}; !slices.Equal(observer.told, want) {
			t.Errorf("told %d, want %d", observer.told, want)
		}
	})
}

// A withheld partition is tried again when its pause is over, but not, and so
// not waited for, while the generation drains.
func TestWithheldNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withholding4test(t, stream.Unobserved{})
		defer s.current.end()
		if wait := s.nextTry(); wait <= 0 || wait > stream.MaxRefusedPause {
			t.Errorf("tried in %v, want a pause", wait)
		}
		time.Sleep(stream.MaxRefusedPause)
		if wait := s.nextTry(); wait != 0 {
			t.Errorf("after its pause: tried in %v, want at once", wait)
		}
		s.current.drain()
		if wait := s.nextTry(); wait != time.Hour {
			t.Errorf("while it drains: tried in %v, want %v", wait, time.Hour)
		}
	})
}
