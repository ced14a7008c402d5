package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A Preprocessed is the tensor that Python TensorFlow or Keras makes of a picture in one way.
type Preprocessed struct {
	Name    string // of the way of preprocessing
	Picture string // the file's name
	File    []byte
	Format  string // jpeg or png
	Width   int
	Height  int
	Input   json.RawMessage // the key input of an inceptor.yaml that does the same
	Layout  string          // nhwc or nchw
	DType   string          // as Python TensorFlow calls it
	Tensor  []byte          // its content, in that layout and type
}

// Preprocessing returns about a hundred ways of preprocessing for each of several pictures. See
// testenv/preprocessing.py.
func Preprocessing(tb testing.TB) []Preprocessed {
	tb.Helper()
	dir := setUp(tb, ".tools/preprocessing")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	var cases []struct {
		Preprocessed

		At, Bytes int
	}
	if err := json.Unmarshal(read("cases.json"), &cases); err != nil {
		tb.Fatal(err)
	}
	numbers := read("numbers.bin")
	all := make([]Preprocessed, 0, len(cases))
	for _, c := range cases {
		c.File = read(filepath.Join("pictures", c.Picture))
		c.Tensor = numbers[c.At : c.At+c.Bytes]
		all = append(all, c.Preprocessed)
	}
	return all
}
