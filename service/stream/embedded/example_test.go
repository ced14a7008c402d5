package embedded_test

import (
	"context"
	"fmt"

	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

func Example() {
	ctx := context.Background()
	broker, err := embedded.Start(0, 1, "images") // port 0: a free one
	if err != nil {
		panic(err)
	}
	defer broker.Close()

	err = broker.Send(ctx,
		stream.Record{Topic: "images", Key: []byte("first"), Value: []byte("cat.jpg")},
		stream.Record{Topic: "images", Key: []byte("second"), Value: []byte("dog.jpg")})
	if err != nil {
		panic(err)
	}
	err = broker.Follow(ctx, func(r stream.Record) bool {
		fmt.Printf("%v@%d %s: %s\n", r.Source(), r.Offset, r.Key, r.Value)
		return r.Offset < 1
	}, "images")
	if err != nil {
		panic(err)
	}
	// Output:
	// images-0@0 first: cat.jpg
	// images-0@1 second: dog.jpg
}
