//go:build !race

package zoo

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// int8Models run in int8, at least.
var int8Models = []string{"keras_mobilenet_v2", "slim_v3", "classic", "gray_nchw"}

// Models as people have them are calibrated and run in int8, or stay in float32 and say why.
// Whether an answer in int8 is good enough is not asked here: the weights are random.
func TestZooInt8(t *testing.T) {
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	tried, ran := map[string]bool{}, map[string]string{}
	for _, s := range specimens {
		if tried[s.model] || !s.works() || s.content == infer.Rows || s.content == infer.Examples {
			continue
		}
		tried[s.model] = true
		if !*nightly && !slices.Contains(int8Models, s.model) {
			continue
		}
		t.Run(s.model, func(t *testing.T) {
			if said := s.quantize(t); said != "" {
				ran[s.model] = said
			}
		})
	}
	for model, said := range ran {
		t.Logf("%s: %s", model, said)
	}
	for _, model := range int8Models {
		if ran[model] == "" {
			t.Errorf("%s did not run in int8", model)
		}
	}
}

// quantize calibrates the specimen's model and compares it in int8 with float32, on the same
// photos. It returns what was found, or nothing if the model stays in float32.
func (s specimen) quantize(t *testing.T) string {
	t.Helper()
	var photos []string
	for _, answers := range testenv.ZooAnswers(t, s.model) {
		for _, a := range answers {
			if a.Error == "" && a.File != "" && (s.not == "" || !strings.HasSuffix(a.File, s.not)) {
				photos = append(photos, a.File)
			}
		}
		break
	}
	o := infer.Options{Model: s.model, Batch: infer.Batch{Max: 4}, MaxPixels: 40e6, Content: s.content}
	o.Session.OwnThreads, o.Session.Optimize = true, true
	q := infer.Quantizer{
		Options: o, Number: 1, Dir: filepath.Join(s.place(t), "1"), Calibrate: photos[:min(3, len(photos))], Measure: photos[:min(3, len(photos))],
		Read:     func(_ context.Context, name string) ([]byte, error) { return os.ReadFile(name) },
		Progress: func(string, int, int) {},
		Skipped:  func(name string, err error) { t.Logf("skipped %s: %v", filepath.Base(name), err) },
	}
	measured, err := q.Run(t.Context())
	if err != nil {
		t.Logf("in float32: %v", err)
		return ""
	}
	if !(measured.Multiplied > 0) {
		t.Error("it was measured, but nothing ran in int8")
	}
	return measured.Agreement.String()
}
