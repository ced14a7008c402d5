package streamtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// totalBytes has five times as many bytes to read as may be in memory. Half of the partitions stand
// still, with as much memory as they can get. The others must go on, within the bound.
func totalBytes(_ *testing.T, b *harness) {
	const (
		partitions, stuck = 20, 10
		records           = 20
		bytes             = 100_000
		bound             = 8 << 20
		over              = 2 << 20 // one response of kafkago's, one poll of franz's
	)
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	value := noise(bytes)
	for i := range records { // batches of one record
		var rs []*kgo.Record
		for p := range int32(partitions) {
			rs = append(rs, &kgo.Record{Topic: b.input, Partition: p, Key: fmt.Append(nil, i), Value: value})
		}
		b.send(rs...)
	}
	cfg := b.config()
	cfg.Window.Records = 2 * records
	cfg.TotalBytes = bound
	var freed atomic.Bool
	r := b.start(cfg, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		if r.Partition < stuck && !freed.Load() {
			return nil, errors.New("not now")
		}
		return []stream.Record{{Topic: b.output, Key: r.Key}}, nil
	})
	published := func(n int) func() bool {
		return func() bool { return r.check(func(r *recorder) bool { return r.published >= n }) }
	}
	b.until("the records of the partitions that do not stand still", published((partitions-stuck)*records))
	freed.Store(true)
	b.until("the others", published(partitions*records))
	r.stop()
	r.check(func(r *recorder) bool {
		b.Logf("%d bytes at most, of %d; %d partitions waited", r.mostBytes, bound, r.waited)
		if r.mostBytes > bound+over {
			b.Errorf("%d bytes are held, want at most %d", r.mostBytes, bound+over)
		}
		if r.mostBytes < bound/2 || r.waited == 0 {
			b.Errorf("%d bytes are held of %d, %d partitions waited: the bound is not reached", r.mostBytes, bound, r.waited)
		}
		return true
	})
}

// Memory lets a driver of 100 partitions fetch as much as it can while no handler returns, and
// measures the heap. It must stay within the bound, and what the comment of flight.Budget adds.
// No other test may run at the same time.
func (s Suite) Memory(t *testing.T, records, bytes int, bound int64) {
	const (
		partitions = 100
		quiet      = 3 * time.Second // in which no more records were admitted
	)
	b := newHarness(t, s)
	b.topic(b.input, partitions)
	b.topic(b.output, partitions)
	value := noise(bytes)
	for range records {
		var rs []*kgo.Record
		for p := range int32(partitions) {
			rs = append(rs, &kgo.Record{Topic: b.input, Partition: p, Value: value})
		}
		b.send(rs...)
	}
	b.client.Close() // with its buffers
	b.client = b.newClient()
	before := liveHeap()

	cfg := b.config()
	cfg.Window.Records = records
	cfg.TotalBytes = bound
	begin := make(chan struct{})
	r := b.start(cfg, func(ctx context.Context, r stream.Record) ([]stream.Record, error) {
		select {
		case <-begin:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return []stream.Record{{Topic: b.output, Key: fmt.Append(nil, r.Offset)}}, nil
	})
	var last int
	var since time.Time
	b.until("a time without new records", func() bool {
		r.check(func(r *recorder) bool {
			if r.records != last || r.records == 0 {
				last, since = r.records, time.Now()
			}
			return true
		})
		return time.Since(since) > quiet
	})
	held := liveHeap() - before
	b.Logf("%d records of %d MB in flight, %d MB of %d MB buffered, the heap has grown by %d MB",
		last, int64(last)*int64(bytes)/1e6, r.mostBytes/1e6, bound/1e6, held/1e6)
	// Added to the bound: one response, what franz polls and reads ahead (an eighth each), and the
	// connections and goroutines of so many partitions.
	if most := bound + bound/4 + 16<<20; held > most {
		b.Errorf("the heap has grown by %d bytes, want at most %d for a bound of %d", held, most, bound)
	}
	if last == 0 || held < bound/4 {
		b.Errorf("%d records, %d bytes are held: nothing was kept", last, held)
	}
	close(begin)
	for part := range 10 {
		b.until("the answers", func() bool {
			return r.check(func(r *recorder) bool { return r.published >= (part+1)*partitions*records/10 })
		})
	}
	r.stop()
}

// liveHeap returns the size of the heap after a collection.
func liveHeap() int64 {
	for range 3 { // pools survive two
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
