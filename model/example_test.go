package model_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// A Manager loads the highest good version in a folder, and classifies a photo with it. This needs
// TensorFlow's library and the demo's model and photos, which `make setup` brings.
func ExampleManager_Classify() {
	if err := savedmodel.OpenLibrary(""); err != nil {
		panic(err)
	}
	manager, err := model.New(model.Config{
		Name: "inception", Dir: "../savedmodel/inception", MaxPixels: 64_000_000, Optimize: "auto",
		Poll: 5 * time.Second, Gate: model.Gate{Timeout: 2 * time.Minute},
	}, slog.New(slog.DiscardHandler), model.Unobserved{})
	if err != nil {
		panic(err)
	}
	defer manager.Close()
	ctx := context.Background()
	// Load looks once. A service calls Run in its place, which also takes versions that come later.
	if err := manager.Load(ctx); err != nil {
		panic(err)
	}

	photo, err := os.ReadFile("../.tools/photos/chelsea.png")
	if err != nil {
		panic(err)
	}
	answer, err := manager.Classify(ctx, []byte("a key"), photo)
	if err != nil {
		panic(err)
	}
	fmt.Printf("version %d: %s, %s of %d×%d\n", answer.Version, answer.Classes[0].Label,
		answer.Image.Format, answer.Image.Width, answer.Image.Height)

	// What is no image is refused before the model sees it.
	_, err = manager.Classify(ctx, nil, []byte("no image"))
	var bad *infer.InputError
	if errors.As(err, &bad) {
		fmt.Println("dead letter:", bad.Reason)
	}
	// Output:
	// version 1: Neutral, png of 451×300
	// dead letter: not-an-image
}
