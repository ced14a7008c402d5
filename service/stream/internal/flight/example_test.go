package flight_test

import (
	"context"
	"fmt"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// Records go into a Flight by offset and come out by offset, whatever the order in which their
// handlers finish.
func ExampleFlight() {
	ctx := context.Background()
	f := flight.New(stream.Window{Records: 8, Bytes: 1 << 20}, 0)
	first, _ := f.Admit(ctx, stream.Record{Offset: 0})
	second, _ := f.Admit(ctx, stream.Record{Offset: 1})

	second.Done([]stream.Record{{Topic: "out", Value: []byte("two")}}) // waits for the first
	first.Done([]stream.Record{{Topic: "out", Value: []byte("one")}})

	stretch, _ := f.Take(ctx)
	for _, s := range stretch.Slots {
		fmt.Printf("publish %s\n", s.Outputs[0].Value)
	}
	fmt.Println("commit", stretch.Next)
	f.Release(stretch)
	// Output:
	// publish one
	// publish two
	// commit 2
}
