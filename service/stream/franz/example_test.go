package franz_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
	"inceptor/service/stream/franz"
)

// Each record and its answer are committed in one transaction, so those who read committed records
// see each answer once.
func Example() {
	broker, err := embedded.Start(0, 1, "in", "out")
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	cfg := stream.Config{
		Brokers:      []string{broker.Addr()},
		Group:        "shouting",
		Inputs:       []string{"in"},
		Outputs:      []string{"out"},
		Window:       stream.Window{Records: 16, Bytes: 1 << 20},
		DrainTimeout: 10 * time.Second,
		ReplaceUnread: func(b stream.Batch) []stream.Record {
			return []stream.Record{{Topic: "out", Value: fmt.Appendf(nil, "offsets %d to %d are too large", b.First, b.Last)}}
		},
	}
	tx := franz.Transaction{Interval: 100 * time.Millisecond, Records: 1000, Timeout: 10 * time.Second}
	driver, err := franz.New(cfg, tx, func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		return []stream.Record{{Topic: "out", Key: r.Key, Value: bytes.ToUpper(r.Value)}}, nil
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- driver.Run(ctx) }()

	if err := broker.Send(ctx, stream.Record{Topic: "in", Value: []byte("hello")}); err != nil {
		panic(err)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ConsumeTopics("out"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		panic(err)
	}
	defer reader.Close()
	fmt.Printf("%s\n", reader.PollFetches(ctx).Records()[0].Value)

	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// HELLO
	// ended: <nil>
}
