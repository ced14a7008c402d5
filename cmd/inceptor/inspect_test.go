package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/testenv"
)

// Inspect shows what the service does with a version, as text and as JSON.
func TestInspectServing(t *testing.T) {
	graph := func(name string) string { return filepath.Join(testenv.Root(t), "savedmodel", "testdata", name) }
	code, stdout, stderr := execute(t, "inspect", graph("classic"))
	for _, line := range []string{
		`serving    with --input.format image`,
		`  tags       "serve"`,
		`  signature  "serving_default" (tensorflow/serving/classify)`,
		`  input      "inputs" string of unknown shape takes a tf.Example with the encoded image as its feature "image/encoded"`,
		`  images     gif, jpeg, png; decoded in the graph by DecodeJpeg`,
		`  scores     "scores", of 3 classes`,
		`  labels     none`,
	} {
		if !strings.Contains(stdout, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if code != 0 || t.Failed() {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}

	code, stdout, stderr = execute(t, "inspect", "--json", graph("tiny"))
	var told struct {
		Complete bool
		Missing  []string
		Digest   string
		Serving  infer.Explanation
	}
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != exitFailed || !strings.Contains(stderr, "the service would refuse the version") {
		t.Fatalf("exit status %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if !strings.Contains(told.Serving.Refused, `input "features"`) || told.Digest == "" || told.Complete || len(told.Missing) != 1 {
		t.Errorf("as a model of images: %+v", told)
	}
	code, stdout, _ = execute(t, "inspect", "--input.format", "tensor-json", graph("tiny"))
	if code != 0 || !strings.Contains(stdout, "complete   yes\n") || !strings.Contains(stdout, `"features" float32 [N, 4] takes the content of the record`) {
		t.Errorf("as a model of rows: exit status %d\n%s", code, stdout)
	}
}
