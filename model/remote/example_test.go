package remote_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"inceptor/internal/settings"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

func Example() {
	// A fake model server stands in for yours.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := remotetest.NewServer(remotetest.NewFake("inception"))
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	config := settings.Default[remote.Config]()
	config.Address, config.Model = listener.Addr().String(), "inception"
	client, err := remote.New(config, slog.Default(), remote.Unobserved{})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	answer, err := client.Predict(context.Background(), remote.Batch{
		Signature: "serving_bytes", Output: "scores", Version: remote.NoVersion,
		Inputs: map[string]*tfpb.TensorProto{
			"image_bytes": remote.Strings(nil, []byte("\x05 an image"), []byte("\x07 another")),
		},
	})
	switch kind := remote.KindOf(err); {
	case err == nil:
		fmt.Println("version", answer.Version, answer.Scores)
	case kind == remote.KindInput, kind == remote.KindTooLarge:
		fmt.Println("halve the batch:", err)
	default:
		fmt.Println("later:", err)
	}
	// Output: version 1 [[5 0 0 0 0] [7 0 0 0 0]]
}
