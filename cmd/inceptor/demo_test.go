package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/stream"
	"inceptor/testenv"
)

// array is an output of float32.
func array(key string, shape savedmodel.Shape, values ...float32) infer.Array {
	a := infer.Array{Key: key, Array: savedmodel.Array{DType: savedmodel.Float32, Shape: shape}}
	a.Bytes, _ = binary.Append(nil, binary.NativeEndian, values)
	return a
}

// The demo shows of an answer what classify shows of the same file: the labels of the best classes,
// or the model's values. Its line fits a terminal of 100 columns.
func TestAnswerLine(t *testing.T) {
	photo := infer.Header{Format: "jpeg", Width: 640, Height: 427}
	for _, test := range []struct {
		name string
		p    infer.Prediction
		want string // of classify
		demo string
	}{
		{"labels", infer.Prediction{Classes: []infer.Class{{Label: "cat", Index: 2, Score: 0.75}, {Label: "dog", Score: 0.25}}, Image: photo},
			"cat 0.7500, dog 0.2500 jpeg 640×427", "key                    cat 0.7500, dog 0.2500                       jpeg 640×427        2 ms"},
		{"no labels", infer.Prediction{Classes: []infer.Class{{Index: 285, Score: 1}}, Image: photo}, "class 285 1.0000 jpeg 640×427",
			"key                    class 285 1.0000                             jpeg 640×427        2 ms"},
		{"the model's own words", infer.Prediction{Classes: []infer.Class{{Label: "Egyptian cat", Index: -1, Score: 9.5}}, Image: photo},
			"Egyptian cat 9.5000 jpeg 640×427", "key                    Egyptian cat 9.5000                          jpeg 640×427        2 ms"},
		{"a row without labels", infer.Prediction{Output: "price", Scores: []float32{105.5, -2}}, "price [105.5,-2.0]",
			"key                    price [105.5,-2.0]                                               2 ms"},
		{"arrays alone", infer.Prediction{Outputs: []infer.Array{
			array("vector", savedmodel.Shape{20}, make([]float32, 20)...), array("n", nil, 2), array("boxes", savedmodel.Shape{1, 2}, 1, 0.5)}, Image: photo},
			"boxes [[1.0,0.5]], n 2.0, vector [0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0… jpeg 640×427",
			"key                    boxes [[1.0,0.5]], n 2.0, vector [0.0,0.0,0… jpeg 640×427        2 ms"},
		{"classes and an array", infer.Prediction{Classes: []infer.Class{{Label: "cat", Score: 0.75}}, Outputs: []infer.Array{array("n", nil, 2)}, Image: photo},
			"cat 0.7500, n 2.0 jpeg 640×427", "key                    cat 0.7500, n 2.0                            jpeg 640×427        2 ms"},
		{"a row with labels", infer.Prediction{Classes: []infer.Class{{Label: "rich", Score: 0.5}}}, "rich 0.5000",
			"key                    rich 0.5000                                                      2 ms"},
	} {
		test.p.Timings.Decode = 1600 * time.Microsecond
		r := stream.Record{Key: []byte("key"), Value: service.AppendAnswer(nil, "id", &test.p)}
		if shown := recordText(r, "dead"); shown != test.demo {
			t.Errorf("demo, %s:\ngot  %q\nwant %q", test.name, shown, test.demo)
		}
		var out, table bytes.Buffer
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		if err := new(classifyCmd{Top: 2}).print(&out, w, "dir/file", test.p); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush()
		shown := strings.Join(strings.Fields(table.String()), " ")
		if want := "file " + test.want + " decode 1.6 ms infer 0.0 ms"; shown != want {
			t.Errorf("classify, %s: got %q, want %q", test.name, shown, want)
		}
	}
}

// A record's line names the record, and has at most 100 columns.
func TestRecordText(t *testing.T) {
	long, answer := strings.Repeat("ä", 120), func(source string) []byte {
		return fmt.Appendf(nil, `{"image":{"source":%q,"format":"png","width":1,"height":2},"predictions":[{"label":%q,"index":1,"score":0.5}],"timings_ms":{"wait":70000}}`,
			source, strings.Repeat("x", 80))
	}
	id := []stream.Header{{Key: "inceptor-id", Value: []byte("images-0-7")}, {Key: "inceptor-error", Value: []byte(long)}}
	for _, test := range []struct {
		name string
		r    stream.Record
		want string
	}{
		{"key", stream.Record{Key: []byte("k"), Headers: id, Value: answer("path:sub/cat.png")},
			"k                      xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… png 1×2         70000 ms"},
		{"path", stream.Record{Headers: id, Value: answer("path:sub/cat.png")},
			"sub/cat.png            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… png 1×2         70000 ms"},
		{"URL", stream.Record{Headers: id, Value: answer("url:http://host/cat.png")},
			"http://host/cat.png    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… png 1×2         70000 ms"},
		{"id", stream.Record{Headers: id, Value: answer("")},
			"images-0-7             xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… png 1×2         70000 ms"},
		{"long key", stream.Record{Key: []byte(long), Value: answer("")},
			strings.Repeat("ä", 21) + "… xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… png 1×2         70000 ms"},
		{"dead letter", stream.Record{Topic: "dead", Headers: id}, "images-0-7             dead letter: " + strings.Repeat("ä", 56) + "…"},
		{"no answer", stream.Record{Headers: id, Value: []byte("x")}, "images-0-7             invalid character 'x' looking for beginning of value"},
	} {
		got := recordText(test.r, "dead")
		if n := utf8.RuneCountInString(got); got != test.want || n > 100 {
			t.Errorf("%s: %d columns\ngot  %q\nwant %q", test.name, n, got, test.want)
		}
	}
}

// The screen begins with three lines of where things are, and what the model tells.
func TestScreenBegins(t *testing.T) {
	t.Chdir(testenv.Root(t))
	one := filepath.Join(t.TempDir(), "model")
	if err := os.MkdirAll(filepath.Join(one, "7"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(one, "7", "saved_model.pb"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, dir, want string
		change          func(*demoCmd)
	}{
		{"moderation", testenv.Model(t), `Broker  127.0.0.1:9092, in this process: in → out
Page    http://127.0.0.1:8080
Model   m, version 1: tells drawings, neutral pictures and three kinds of adult content
        Classes: Drawing, Hentai, Neutral, Porn, Sexy. Package registries have no Inception that
        names objects. For objects: make demo MODEL=things, or with internet WEIGHTS=imagenet.

Sending 11 photos from .tools/photos; the model is loading.

`, nil},
		{"things", testenv.EfficientNet(t), `Broker  127.0.0.1:9092, in this process: in, more → out
Page    none: http.listen is empty
Model   m, version 1: tells 1000 classes, such as Siberian husky, cliff dwelling and quilt

Sending 11 photos from .tools/photos; the model is loading.

`, func(c *demoCmd) { c.HTTP.Listen, c.Kafka.Input = "", []string{"in", "more"} }},
		{"a damaged version", one, `Broker  127.0.0.1:9092, in this process: in → out
Page    http://127.0.0.1:8080
Model   m, version 7

Sending 11 photos from /photos; the model is loading.

`, func(c *demoCmd) { c.Photos = "/photos" }},
		{"no version", "/nowhere", `Broker  127.0.0.1:9092, in this process: in → out
Page    http://127.0.0.1:8080
Model   m, awaited in /nowhere

Sending 11 photos from .tools/photos; the model is loading.

`, nil},
		{"model server", "", `Broker  127.0.0.1:9092, in this process: in → out
Page    http://127.0.0.1:8080
Model   m, on the model server ai:8500

Sending 11 photos from .tools/photos; the model is loading.

`, func(c *demoCmd) { c.Model.Backend, c.Fallback.Address = model.OnlyRemote, "ai:8500" }},
	} {
		c := &demoCmd{Photos: filepath.Join(testenv.Root(t), ".tools/photos")}
		c.Model.Name, c.Model.Dir, c.Model.Backend, c.HTTP.Listen = "m", test.dir, model.OnlyLocal, "127.0.0.1:8080"
		c.Kafka.Input, c.Kafka.Output = []string{"in"}, "out"
		if test.change != nil {
			test.change(c)
		}
		var out bytes.Buffer
		newScreen(&out, c, "127.0.0.1:9092").begin(11)
		if out.String() != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, &out, test.want)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(line) - 1; n > 100 {
				t.Errorf("%s: %d columns: %s", test.name, n, line)
			}
		}
	}
}

// A path is short in a folder above it, and whole in the root.
func TestRelative(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ here, path, want string }{
		{dir, filepath.Join(dir, "photos"), "photos"},
		{filepath.Join(dir, "other"), "/photos", "/photos"},
		{"/", filepath.Join(dir, "photos"), filepath.Join(dir, "photos")},
	} {
		if err := os.MkdirAll(c.here, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Chdir(c.here)
		if got := relative(c.path); got != c.want {
			t.Errorf("%s in %s: got %s, want %s", c.path, c.here, got, c.want)
		}
	}
}

// A model's labels are listed in full, or three of them are examples.
func TestTells(t *testing.T) {
	for want, labels := range map[string][]string{
		"":                         nil,
		": tells cat":              {"cat"},
		": tells cat and dog":      {"cat", "dog"},
		": tells a, b, c, d and e": {"a", "b", "c", "d", "e"},
		": tells 6 classes, such as b, d and a label of much mor…": {"a", "b", "c", "d", "a label of much more than that", "f"},
	} {
		if got := tells(labels); got != want {
			t.Errorf("%q: %q, want %q", labels, got, want)
		}
	}
}
