package kafkago

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

// A broker that freezes while it has a request delays it only until another broker leads the
// partition.
func TestLeaderMoves(t *testing.T) {
	for name, key := range map[string]kmsg.Key{"Fetch": kmsg.Fetch, "Produce": kmsg.Produce} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.GroupMinSessionTimeout(time.Second), kfake.SeedTopics(1, "in", "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			topic := map[kmsg.Key]string{kmsg.Fetch: "in", kmsg.Produce: "out"}[key]
			frozen := c.LeaderFor(topic, 0)
			client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			held := make(chan struct{}, 1)
			c.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if c.CurrentNode() != frozen {
					return nil, nil, false
				}
				select {
				case held <- struct{}{}:
				default:
				}
				return nil, nil, true // no answer, ever
			})
			var published atomic.Int32
			d, err := New(stream.Config{
				Brokers: c.ListenAddrs(), Group: "g", Inputs: []string{"in"}, Outputs: []string{"out"}, Session: 3 * time.Second,
				Window: stream.Window{Records: 1}, ReplaceUnread: func(stream.Batch) []stream.Record { return nil },
				Observer: counter{count: &published},
			}, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
				return []stream.Record{{Topic: "out", Value: r.Value}}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- d.Run(ctx) }()
			<-held
			if err := c.MoveTopicPartition(topic, 0, 1-frozen); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for published.Load() == 0 && time.Since(begin) < requestTimeout {
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(begin); took > requestTimeout-5*time.Second {
				t.Errorf("it has waited %v for the broker that is frozen", took)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A counter counts published records.
type counter struct {
	stream.Unobserved
	count *atomic.Int32
}

func (c counter) Published(n int, _ time.Duration) { c.count.Add(int32(n)) }
