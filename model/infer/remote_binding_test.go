package infer

import (
	"testing"

	"inceptor/savedmodel"
)

// The output with the scores, if the server does not have that of inceptor.yaml.
func TestBindServer(t *testing.T) {
	images := map[string]savedmodel.TensorInfo{"x": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 2, 2, 3}}}
	float := func(shape ...int64) savedmodel.TensorInfo {
		return savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: shape}
	}
	words := savedmodel.TensorInfo{DType: savedmodel.String, Shape: savedmodel.Shape{-1, 5}}
	for _, test := range []struct {
		name    string
		output  string
		outputs map[string]savedmodel.TensorInfo
		labels  int
		want    string // empty: an error
	}{
		{"the spec's", "scores", map[string]savedmodel.TensorInfo{"scores": float(-1, 5), "other": float(-1, 5)}, 5, "scores"},
		{"the only one", "scores", map[string]savedmodel.TensorInfo{"probabilities": float(-1, 5)}, 5, "probabilities"},
		{"the only float one", "scores", map[string]savedmodel.TensorInfo{"classes": words, "probabilities": float(-1, 5)}, 5, "probabilities"},
		{"the only one of the shape", "scores", map[string]savedmodel.TensorInfo{"features": float(-1, 2048), "probabilities": float(-1, 5)}, 5, "probabilities"},
		{"the only one of the rank", "", map[string]savedmodel.TensorInfo{"grid": float(-1, 8, 8, 5), "probabilities": float(-1, 5)}, 0, "probabilities"},
		{"unknown classes", "scores", map[string]savedmodel.TensorInfo{"probabilities": float(-1, -1)}, 5, "probabilities"},
		{"two that fit", "scores", map[string]savedmodel.TensorInfo{"a": float(-1, 5), "b": float(-1, 5)}, 5, ""},
		{"none that fits", "scores", map[string]savedmodel.TensorInfo{"a": float(-1, 7)}, 5, ""},
		{"none", "scores", nil, 5, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := defaultSpec()
			spec.Output.Scores = test.output
			signatures := map[string]savedmodel.Signature{"serving_default": {Inputs: images, Outputs: test.outputs}}
			sig, err := spec.bindServer(modelMetadata{signatures: signatures, server: true, labels: test.labels}, Images)
			if sig.Output.Scores != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", sig.Output.Scores, err, test.want)
			}
		})
	}
}
