package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"log/slog"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/model/infer"
	"inceptor/service"
	"inceptor/service/stream/embedded"
)

// A shape is a Classifier without a model: it tells wide images from high ones.
type shape struct{}

func (shape) Classify(_ context.Context, _, image []byte) (infer.Prediction, error) {
	header, err := infer.ParseHeader(image)
	if err != nil {
		return infer.Prediction{}, err // blames the image, which becomes a dead letter
	}
	class := infer.Class{Label: "portrait", Index: 0, Score: 1}
	if header.Width > header.Height {
		class = infer.Class{Label: "landscape", Index: 1, Score: 1}
	}
	return infer.Prediction{Info: infer.Info{Model: "shape"}, Backend: infer.BackendLocal, Classes: []infer.Class{class}, Image: header}, nil
}

func (shape) Serving() (infer.Info, error)   { return infer.Info{Model: "shape"}, nil }
func (shape) Wait(ctx context.Context) error { return ctx.Err() }
func (shape) MaxBatch() int                  { return 1 }

// A service reads two images from a topic and writes an answer for each, and a dead letter for
// what is none. Its broker is in this process.
func Example() {
	broker, err := embedded.Start(0, 1, "photos", "answers", "letters")
	if err != nil {
		panic(err)
	}
	defer broker.Close()

	// The settings' defaults stand in the tags, which kong reads.
	var config service.Config
	if _, err := kong.Must(&config).Parse([]string{
		"--kafka.brokers=" + broker.Addr(), "--kafka.input=photos", "--kafka.output=answers", "--kafka.dead-letter=letters",
		"--model.dir=.", "--http.listen=", "--crash.journal=off",
	}); err != nil {
		panic(err)
	}
	registry := prometheus.NewRegistry()
	s, err := service.New(config, shape{}, service.NewMetrics(registry), registry, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ConsumeTopics("answers", "letters"))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	for _, value := range [][]byte{picture(640, 480), []byte("no image"), picture(480, 640)} {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "photos", Value: value}).FirstErr(); err != nil {
			panic(err)
		}
	}
	letters := 0
	for answers := 0; answers+letters < 3; {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Topic == "letters" {
				letters++
				return
			}
			answers++
			var a service.Answer
			if err := json.Unmarshal(r.Value, &a); err != nil {
				panic(err)
			}
			fmt.Println(a.ID, a.Predictions[0])
		})
	}
	fmt.Println("dead letters:", letters)

	stop() // the service drains, commits and leaves the group
	if err := <-ended; err != nil {
		panic(err)
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
	// Output:
	// photos-0-0 landscape 1.0000
	// photos-0-2 portrait 1.0000
	// dead letters: 1
}

// picture is a PNG of a size.
func picture(width, height int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		panic(err)
	}
	return b.Bytes()
}
