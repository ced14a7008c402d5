package franz

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// However small the window is, records are not fetched a second time.
func TestFetchesOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(2, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	const each = 20_000
	producer := newClient(t, cfg, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(64<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i := range int32(2 * each) {
		producer.Produce(t.Context(), &kgo.Record{Topic: "in", Partition: i % 2, Value: make([]byte, 100)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var fetches atomic.Int64
	c.ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		for _, topic := range req.(*kmsg.FetchRequest).Topics {
			for _, p := range topic.Partitions {
				if p.FetchOffset < each {
					fetches.Add(1)
				}
			}
		}
		return nil, nil, false
	})
	var handled atomic.Int64
	stop := start(t, cfg, testBound, func(context.Context, stream.Record) ([]stream.Record, error) {
		handled.Add(1)
		return nil, nil
	})
	for begin := time.Now(); handled.Load() < 2*each && time.Since(begin) < 2*time.Minute; {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if n := handled.Load(); n != 2*each {
		t.Errorf("%d records handled, want %d", n, 2*each)
	}
	const least = 2 * each * 100 / fetchBytes
	if n := fetches.Load(); n < least || n > 3*least { // it was 67 when partitions were paused at once
		t.Errorf("fetched %d times, want some %d", n, least)
	}
}

// told keeps the errors that the observer is told.
type told struct {
	stream.Unobserved
	errs []error
}

func (o *told) Retrying(_ stream.Partition, _ stream.Stage, err error) { o.errs = append(o.errs, err) }

// The observer hears of an error in reading at once, or after failingFor if the error may
// pass by itself; and when it has passed, even if no record comes. Meanwhile the partition
// rests.
func TestFailing(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		passing bool
		lasts   time.Duration
		told    []error
	}{
		"broken":            {false, 0, []error{broken, nil}},
		"moved, for a time": {true, failingFor / 2, nil},
		"moved, for long":   {true, 2 * failingFor, []error{broken, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				observer := &told{}
				var paused atomic.Int64
				cfg := stream.Config{Observer: observer, Window: stream.Window{Records: 1}}
				g := newGeneration([]stream.Partition{{Topic: "in"}}, cfg, nil, flight.NewBudget(cfg), func() {},
					func(stream.Partition) { paused.Add(1) }, func(stream.Partition) { paused.Add(-1) })
				defer g.end()
				p := g.partitions[stream.Partition{Topic: "in"}]
				for begin := time.Now(); ; {
					p.fail(broken, test.passing)
					if p.recovered(false) {
						t.Error("it is well again while it rests")
					}
					if n := paused.Load(); n != 1 {
						t.Errorf("paused %d times", n)
					}
					if time.Since(begin) >= test.lasts {
						break
					}
					time.Sleep(test.lasts)
				}
				time.Sleep(failingFor / 2) // the rest is over
				if n := paused.Load(); n != 0 {
					t.Errorf("paused %d times after its rest", n)
				}
				if p.recovered(false) {
					t.Error("it is well again at once")
				}
				time.Sleep(failingFor)
				if !p.recovered(false) || p.recovered(false) {
					t.Error("it is not well again, or twice")
				}
				if !slices.Equal(observer.errs, test.told) {
					t.Errorf("told %v, want %v", observer.errs, test.told)
				}
			})
		})
	}
}
