package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Root is the checkout's folder: the nearest one upwards with a go.mod.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}

// TensorFlow is the folder with TensorFlow's library.
func TensorFlow(tb testing.TB) string { return brought(tb, ".tools/tensorflow") }

// Model is Inception's base directory, the one with version 1 in it.
func Model(tb testing.TB) string { return filepath.Dir(brought(tb, "savedmodel/inception/1")) }

// Photos is the folder with the sample photos.
func Photos(tb testing.TB) string { return brought(tb, ".tools/photos") }

// Python is the interpreter that has TensorFlow.
func Python(tb testing.TB) string { return brought(tb, ".tools/venv/bin/python") }

// Rivals is the folder with the Python packages of what inceptor is compared with, librdkafka
// among them.
func Rivals(tb testing.TB) string { return brought(tb, ".tools/rivals") }

// KafkaLib is the folder with the real broker's jars.
func KafkaLib(tb testing.TB) string { return brought(tb, ".tools/kafka/lib") }

// An Answer is what Python TensorFlow says about one image.
type Answer struct {
	File   string    // absolute
	Format string    // jpeg, png, gif, bmp, webp
	Width  int       // as decoded; 0 where it is refused
	Height int       //
	Scores []float64 // one a class
	Error  string    // why Python TensorFlow refuses the image; then there are no scores
}

// Answers are Python TensorFlow's answers of Model's version 1 to the photos and to images made
// from them in other formats, refused ones included.
func Answers(tb testing.TB) []Answer {
	tb.Helper()
	file := brought(tb, ".tools/reference/answers.json")
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var answers []Answer
	if err := json.Unmarshal(data, &answers); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	for i := range answers {
		answers[i].File = filepath.Join(Root(tb), ".tools", answers[i].File)
	}
	return answers
}

// brought is the absolute path of something that the set-up brings; the test is skipped where it
// is missing.
func brought(tb testing.TB, path string) string {
	tb.Helper()
	path = filepath.Join(Root(tb), path)
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("%v: run `make setup`", err)
	}
	return path
}
