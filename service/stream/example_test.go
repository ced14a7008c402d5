package stream_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
	"inceptor/service/stream/kafkago"
)

// A driver reads records, hands each to the handler, and publishes what it returns.
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
	shout := func(_ context.Context, r stream.Record) ([]stream.Record, error) {
		return []stream.Record{{Topic: "out", Key: r.Key, Value: bytes.ToUpper(r.Value)}}, nil
	}
	driver, err := kafkago.New(cfg, shout)
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- driver.Run(ctx) }()

	if err := broker.Send(ctx, stream.Record{Topic: "in", Value: []byte("hello")}); err != nil {
		panic(err)
	}
	err = broker.Follow(ctx, func(r stream.Record) bool {
		fmt.Printf("%s\n", r.Value)
		return false
	}, "out")
	if err != nil {
		panic(err)
	}
	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// HELLO
	// ended: <nil>
}
