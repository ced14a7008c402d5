package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/stream"
)

// array is an output of float32.
func array(key string, shape savedmodel.Shape, values ...float32) model.Array {
	a := model.Array{Key: key, Array: savedmodel.Array{DType: savedmodel.Float32, Shape: shape}}
	a.Bytes, _ = binary.Append(nil, binary.NativeEndian, values)
	return a
}

// The demo shows of an answer what classify shows of the same file: the best
// classes by the words that there are for them, or the model's values.
func TestAnswerLine(t *testing.T) {
	photo := model.Header{Format: "jpeg", Width: 640, Height: 427}
	for _, test := range []struct {
		name string
		p    model.Prediction
		want string
	}{
		{"labels", model.Prediction{Classes: []model.Class{{Label: "cat", Index: 2, Score: 0.75}, {Label: "dog", Score: 0.25}}, Image: photo},
			"cat 0.7500, dog 0.2500 jpeg 640×427"},
		{"no labels", model.Prediction{Classes: []model.Class{{Index: 285, Score: 1}}, Image: photo}, "class 285 1.0000 jpeg 640×427"},
		{"the model's own words", model.Prediction{Classes: []model.Class{{Label: "Egyptian cat", Index: -1, Score: 9.5}}, Image: photo},
			"Egyptian cat 9.5000 jpeg 640×427"},
		{"a row without labels", model.Prediction{Output: "price", Scores: []float32{105.5, -2}}, "price [105.5,-2.0]"},
		{"arrays alone", model.Prediction{Outputs: []model.Array{
			array("vector", savedmodel.Shape{20}, make([]float32, 20)...), array("n", nil, 2), array("boxes", savedmodel.Shape{1, 2}, 1, 0.5)}, Image: photo},
			"boxes [[1.0,0.5]], n 2.0, vector [0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0… jpeg 640×427"},
		{"classes and an array", model.Prediction{Classes: []model.Class{{Label: "cat", Score: 0.75}}, Outputs: []model.Array{array("n", nil, 2)}, Image: photo},
			"cat 0.7500, n 2.0 jpeg 640×427"},
		{"a row with labels", model.Prediction{Classes: []model.Class{{Label: "rich", Score: 0.5}}}, "rich 0.5000"},
	} {
		test.p.Timings.Decode = 1500 * time.Microsecond
		r := stream.Record{Key: []byte("key"), Value: service.AppendAnswer(nil, "id", &test.p)}
		shown := strings.Join(strings.Fields(line(r, "dead")), " ")
		if want := "key " + test.want + " wait 0.0 ms decode 1.5 ms infer 0.0 ms"; shown != want {
			t.Errorf("demo, %s: got %q, want %q", test.name, shown, want)
		}
		var out, table bytes.Buffer
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		if err := new(classifyCmd{Top: 2}).print(&out, w, "dir/file", test.p); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush()
		shown = strings.Join(strings.Fields(table.String()), " ")
		if want := "file " + test.want + " decode 1.5 ms infer 0.0 ms"; shown != want {
			t.Errorf("classify, %s: got %q, want %q", test.name, shown, want)
		}
	}
}
