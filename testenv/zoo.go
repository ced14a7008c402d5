package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Zoo returns the folder of models as people have them, ZOO/NAME/VERSION, which testenv/zoo builds.
// The test fails if it is missing.
func Zoo(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(Root(tb), ".tools/zoo")
	if _, err := os.Stat(filepath.Join(dir, "photos")); err != nil {
		tb.Fatalf("%v: run `make setup`", err)
	}
	return dir
}

// A ZooAnswer is the answer of one of the zoo's models to a photo or a row, from Python TensorFlow.
type ZooAnswer struct {
	File    string         // of a photo, absolute
	Row     string         // instead of a photo, JSON
	Example []byte         // the row as a tf.Example
	Classes []ZooClass     // best first
	Outputs map[string]any // named arrays, of float64, bool and string
	Error   string         // why there is no answer
}

// A ZooClass is one class of an answer. It has a label if the model has class labels, else an
// index.
type ZooClass struct {
	Label *string
	Index *int
	Score float64
}

// ZooAnswers returns the answers of a model of the zoo, by the name of the reading: one way to call
// one of its signatures. See testenv/zoo/answers.py.
func ZooAnswers(tb testing.TB, model string) map[string][]ZooAnswer {
	tb.Helper()
	zoo := Zoo(tb)
	file := filepath.Join(zoo, model, "answers.json")
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatalf("%v: run `make setup`", err)
	}
	var readings map[string][]ZooAnswer
	if err := json.Unmarshal(data, &readings); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	for _, answers := range readings {
		for i := range answers {
			if answers[i].File != "" {
				answers[i].File = filepath.Join(zoo, "photos", answers[i].File)
			}
		}
	}
	return readings
}
