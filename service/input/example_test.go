package input_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"inceptor/internal/settings"
	"inceptor/service/input"
)

// A reader that may read files below one folder takes an image itself, an envelope and a path, and
// refuses what leads out of the folder or was not allowed.
func ExampleReader_Read() {
	folder, err := os.MkdirTemp("", "images")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "cat.gif"), []byte("GIF89a, a cat"), 0o600); err != nil {
		panic(err)
	}
	config := settings.Default[input.Config]()
	config.Files.Root = folder
	r, err := input.New(config)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	for _, value := range []string{
		"GIF89a, a dog",
		`{"image": "R0lGODlhLCBhIGhvcnNl"}`,
		"cat.gif",
		"../secret.gif",
		"https://example.com/cat.gif",
	} {
		image, err := r.Read(context.Background(), []byte(value))
		var bad *input.Error
		switch {
		case errors.As(err, &bad):
			fmt.Println("dead letter:", bad.Reason)
		case err != nil:
			panic(err) // the record is not to blame: try again later
		default:
			fmt.Printf("%s from %s\n", image.Bytes, image.Source)
			image.Release()
		}
	}
	// Output:
	// GIF89a, a dog from record
	// GIF89a, a horse from record
	// GIF89a, a cat from path:cat.gif
	// dead letter: path-not-allowed
	// dead letter: url-not-allowed
}
