package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Root returns the folder of the checkout: the nearest parent with a go.mod.
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

// TensorFlow returns the folder with TensorFlow's library.
func TensorFlow(tb testing.TB) string { return setUp(tb, ".tools/tensorflow") }

// Model returns Inception's base directory, which contains version 1.
func Model(tb testing.TB) string { return filepath.Dir(setUp(tb, "savedmodel/inception/1")) }

// EfficientNet returns the base directory of EfficientNet-lite0, which tells ImageNet's classes. It
// has version 1.
func EfficientNet(tb testing.TB) string { return filepath.Dir(setUp(tb, ".tools/efficientnet/1")) }

// Photos returns the folder with the sample photos.
func Photos(tb testing.TB) string { return setUp(tb, ".tools/photos") }

// Python returns the interpreter that has TensorFlow.
func Python(tb testing.TB) string { return setUp(tb, ".tools/venv/bin/python") }

// Rivals returns the folder with the Python packages that inceptor is compared with, such as
// librdkafka.
func Rivals(tb testing.TB) string { return setUp(tb, ".tools/rivals") }

// Readers returns the folder with the Python packages that read answers: DuckDB and librdkafka.
func Readers(tb testing.TB) string { return setUp(tb, ".tools/readers") }

// KafkaLib returns the folder with the real broker's jars.
func KafkaLib(tb testing.TB) string { return setUp(tb, ".tools/kafka/lib") }

// An Answer is Python TensorFlow's answer to one image.
type Answer struct {
	File   string    // absolute
	Format string    // jpeg, png, gif, bmp, webp
	Width  int       // as decoded; 0 if it is refused
	Height int       //
	Scores []float64 // one per class
	Error  string    // why Python TensorFlow refuses the image; then there are no scores
}

// Answers returns Python TensorFlow's answers of Model's version 1 to the photos and to images made
// from them in other formats, including refused ones.
func Answers(tb testing.TB) []Answer {
	tb.Helper()
	file := setUp(tb, ".tools/reference/answers.json")
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

// setUp returns the absolute path of a file that setup.sh brings. The test is skipped if it is
// missing.
func setUp(tb testing.TB, path string) string {
	tb.Helper()
	path = filepath.Join(Root(tb), path)
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("%v: run `make setup`", err)
	}
	return path
}
