package franz

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/resume"
)

// lags keeps the lags that the observer is told.
type lags struct {
	stream.Unobserved
	told []int64
}

func (o *lags) Committed(_ stream.Partition, _, lag int64) { o.told = append(o.told, lag) }

// only is the partition of these tests.
var only = stream.Partition{Topic: "in"}

// withholdOne returns a transaction from which partition 0, of which offset 10 is
// committed, is withheld with one record.
func withholdOne(t *testing.T, observer stream.Observer) *transaction {
	t.Helper()
	cfg := config("x:1")
	cfg.Observer = observer
	d, err := New(cfg, testBound, echo)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(stream.Partition) {}
	g := newGeneration([]stream.Partition{only}, d.cfg, d.worker, d.budget, func() {}, nothing, nothing)
	w := &withheldPartitions{cfg: d.cfg, outages: d.outages, generation: g, of: map[stream.Partition]*withheld{}}
	tx := newTransaction(nil, g, w, newTopicRules())
	p := g.partitions[only]
	p.start(startAt(10, resume.TopicID{}, false))
	p.progress.watermark(11)
	p.progress.collect(11)
	tx.add(only, covered{next: 11, records: 1, bytes: 1}, []*output{{Output: flight.NewOutput(stream.Record{Topic: "in", Offset: 10}, stream.Record{})}})
	w.withhold(tx, only, "out", errors.New("refused"))
	return tx
}

// The lag of a withheld partition is reported as it grows, until the partition is in
// a transaction again, which reports it.
func TestWithheldLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observer := &lags{}
		tx := withholdOne(t, observer)
		defer tx.generation.end()
		p := tx.generation.partitions[only].progress
		p.watermark(15)
		time.Sleep(flight.MaxRefusedPause)
		tx.withheld.retry(tx, time.Now())
		p.watermark(16)
		p.commit(11)
		if want := []int64{1, 5, 5}; !slices.Equal(observer.told, want) {
			t.Errorf("told %d, want %d", observer.told, want)
		}
	})
}

// A withheld partition is tried again when its pause is over. While the generation drains
// it is not, and nothing waits for it.
func TestWithheldNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tx := withholdOne(t, stream.Unobserved{})
		defer tx.generation.end()
		if wait := tx.withheld.nextTry(); wait <= 0 || wait > flight.MaxRefusedPause {
			t.Errorf("tried in %v, want a pause", wait)
		}
		time.Sleep(flight.MaxRefusedPause)
		if wait := tx.withheld.nextTry(); wait != 0 {
			t.Errorf("after its pause: tried in %v, want at once", wait)
		}
		tx.generation.drain()
		if wait := tx.withheld.nextTry(); wait != time.Hour {
			t.Errorf("while it drains: tried in %v, want %v", wait, time.Hour)
		}
	})
}
