package kafkago_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/kafkago"
)

func Example() {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "in", "out"))
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	cfg := stream.Config{
		Brokers:      broker.ListenAddrs(),
		Group:        "shouting",
		Inputs:       []string{"in"},
		Outputs:      []string{"out"},
		Window:       stream.Window{Records: 16, Bytes: 1 << 20},
		DrainTimeout: 10 * time.Second,
		ReplaceUnread: func(b stream.Batch) []stream.Record {
			return []stream.Record{{Topic: "out", Value: fmt.Appendf(nil, "offsets %d to %d are too large", b.First, b.Last)}}
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	driver, err := kafkago.New(cfg, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		return []stream.Record{{Topic: "out", Key: r.Key, Value: bytes.ToUpper(r.Value)}}, nil
	})
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- driver.Run(ctx) }()

	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumeTopics("out"))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	client.Produce(ctx, &kgo.Record{Topic: "in", Value: []byte("hello")}, nil)
	fmt.Printf("%s\n", client.PollFetches(ctx).Records()[0].Value)

	stop()
	fmt.Println(<-ended)
	// Output:
	// HELLO
	// <nil>
}
