package franz

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// What a backlog's fetches bring is kept, however small the window is: it is
// not fetched a second time.
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
	for begin := time.Now(); handled.Load() < 2*each && time.Since(begin) < 30*time.Second; {
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
