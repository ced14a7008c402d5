package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A Preprocessed is what Python TensorFlow or Keras makes of a picture, in one way.
type Preprocessed struct {
	Name    string // of the way
	Picture string // the file's name
	File    []byte
	Format  string // jpeg or png
	Width   int
	Height  int
	Input   json.RawMessage // what inceptor.yaml says under this key, to make the same
	Layout  string          // nhwc or nchw
	DType   string          // as Python TensorFlow calls it
	Tensor  []byte          // its content, in the layout and the type
}

// Preprocessing has some hundred ways of preprocessing for each of some pictures, see
// testenv/preprocessing.py.
func Preprocessing(tb testing.TB) []Preprocessed {
	tb.Helper()
	dir := brought(tb, ".tools/preprocessing")
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
