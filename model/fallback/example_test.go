package fallback_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"log/slog"
	"net"
	"time"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/model/fallback"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
)

// A Server answers with a model server alone, without TensorFlow's library.
func ExampleServer() {
	// A fake model server stands in for yours.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := remotetest.NewServer(remotetest.NewFake("inception"))
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	config := settings.Default[remote.Config]()
	config.Address, config.Version = listener.Addr().String(), remote.AnyVersion
	s, err := fallback.NewServer(model.Config{
		Backend: model.OnlyRemote, Name: "inception", MaxPixels: 64_000_000,
		Poll: 5 * time.Second, Gate: model.Gate{Timeout: 2 * time.Minute},
	}, config, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.Load(ctx); err != nil {
		panic(err)
	}

	var photo bytes.Buffer
	if err := png.Encode(&photo, image.NewGray(image.Rect(0, 0, 640, 480))); err != nil {
		panic(err)
	}
	answer, err := s.Classify(ctx, nil, photo.Bytes())
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Backend, "version", answer.Version, "class", answer.Classes[0].Index)
	// Output: remote version 1 class 0
}
