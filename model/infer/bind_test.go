package infer

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

// tensor returns an input or output of a signature; no dimensions: a scalar.
func tensor(dtype savedmodel.DataType, shape ...int64) savedmodel.TensorInfo {
	return savedmodel.TensorInfo{DType: dtype, Shape: append(savedmodel.Shape{}, shape...)}
}

func anyShape(dtype savedmodel.DataType) savedmodel.TensorInfo {
	return savedmodel.TensorInfo{DType: dtype}
}

type (
	infos = map[string]savedmodel.TensorInfo
	uses  = map[string]savedmodel.InputUse
)

// In signatures as people export them, the outputs with scores and classes are found, or refused
// with the line to write.
func TestBindScoresAndClasses(t *testing.T) {
	float, word, whole, short := savedmodel.Float32, savedmodel.String, savedmodel.Int64, savedmodel.Int32
	for _, test := range []struct {
		name    string
		method  string // "": predict
		yaml    string // of output
		labels  int
		content Content
		outputs infos
		scores  string
		classes string // key
		count   int    // of classes; 0: not compared
		pair    bool
		failure string // part of the error
	}{
		{name: "one output", outputs: infos{"any": tensor(float, -1, 10)}, scores: "any"},
		{name: "one output of unknown shape", outputs: infos{"any": anyShape(float)}, scores: "any"},
		{name: "TensorFlow Serving's Inception", outputs: infos{"classes": tensor(word, -1, 5), "scores": tensor(float, -1, 5)}, scores: "scores", classes: "classes"},
		{name: "its labels have a line for each class", labels: 1001, outputs: infos{"classes": tensor(word, -1, 5), "scores": tensor(float, -1, 5)}, scores: "scores", classes: "classes"},
		{name: "classify", method: methodClassify, outputs: infos{"classes": anyShape(word), "scores": anyShape(float)}, scores: "scores", classes: "classes"},
		{name: "words by another name", outputs: infos{"synsets": tensor(word, -1, 5), "scores": tensor(float, -1, 5)}, scores: "scores", classes: "synsets"},
		{name: "words of unknown shape", outputs: infos{"classes": anyShape(word), "scores": tensor(float, -1, 5)}, scores: "scores", classes: "classes"},
		{name: "indices", outputs: infos{"indices": tensor(short, -1, 5), "values": tensor(float, -1, 5)}, scores: "values", classes: "indices"},
		{name: "AutoML", outputs: infos{"labels": tensor(word, -1, 5), "scores": tensor(float, -1, 5)}, scores: "scores", classes: "labels"},
		{name: "ResNet", outputs: infos{"classes": tensor(whole, -1), "probabilities": tensor(float, -1, 1001)}, scores: "probabilities"},
		{name: "flowers", outputs: infos{"prediction": tensor(whole, -1), "scores": tensor(float, -1, 6)}, scores: "scores"},
		{name: "slim", outputs: infos{"logits": tensor(float, -1, 1001), "predictions": tensor(float, -1, 1001)}, scores: "predictions"},
		{name: "estimator, several classes", outputs: infos{
			"logits": tensor(float, -1, 3), "probabilities": tensor(float, -1, 3), "class_ids": tensor(whole, -1, 1), "classes": tensor(word, -1, 1),
			"all_class_ids": tensor(short, -1, 3), "all_classes": tensor(word, -1, 3),
		}, scores: "probabilities", classes: "all_classes"},
		{name: "estimator, two classes", outputs: infos{
			"logits": tensor(float, -1, 1), "logistic": tensor(float, -1, 1), "probabilities": tensor(float, -1, 2), "class_ids": tensor(whole, -1, 1),
			"classes": tensor(word, -1, 1), "all_class_ids": tensor(short, -1, 2), "all_classes": tensor(word, -1, 2),
		}, scores: "probabilities", classes: "all_classes"},
		{name: "regress", method: methodRegress, outputs: infos{"outputs": tensor(float, -1)}, scores: "outputs"},
		{name: "regress, a column", method: methodRegress, outputs: infos{"outputs": tensor(float, -1, 1)}, scores: "outputs"},
		{name: "the best class alone", outputs: infos{"classes": tensor(word, -1), "scores": tensor(float, -1)}, scores: "scores", classes: "classes"},
		{name: "words before labels of another number", labels: 7, outputs: infos{"scores": tensor(float, -1, 5), "classes": tensor(word, -1, 5)}, scores: "scores", classes: "classes"},
		{name: "labels decide", labels: 5, outputs: infos{"a": tensor(float, -1, 5), "b": tensor(float, -1, 2048)}, scores: "a"},
		{name: "named", yaml: "b", outputs: infos{"a": tensor(float, -1, 5), "b": tensor(float, -1, 7)}, scores: "b"},
		{name: "named, its classes are found", yaml: "a", outputs: infos{"a": tensor(float, -1, 5), "b": tensor(word, -1, 5)}, scores: "a", classes: "b"},
		{name: "both named", yaml: "{scores: a, classes: c}", outputs: infos{"a": tensor(float, -1, 5), "b": tensor(word, -1, 5), "c": tensor(word, -1, 5)}, scores: "a", classes: "c"},
		{name: "no classes, said so", yaml: "{scores: a}", outputs: infos{"a": anyShape(float), "classes": tensor(whole, -1)}, scores: "a"},
		{name: "no classes in words of the same shape, said so", yaml: "{scores: a}", outputs: infos{"a": tensor(float, -1, 5), "b": tensor(word, -1, 5)}, scores: "a"},
		{name: "rows, a number beside", content: Rows, outputs: infos{"scores": tensor(float, -1, 1), "count": tensor(whole, -1, 1)}, scores: "scores"},
		{name: "rows, classes beside", content: Rows, outputs: infos{"scores": tensor(float, -1, 3), "class_ids": tensor(whole, -1, 3)}, scores: "scores", classes: "class_ids"},

		{name: "numbers of another shape than two classes", outputs: infos{"probabilities": tensor(float, -1, 3), "decided": tensor(whole, -1, 3)}, scores: "probabilities", classes: "decided"},
		{name: "two classes, named", yaml: "{scores: probabilities, classes: one_hot}", outputs: infos{"probabilities": tensor(float, -1, 2), "one_hot": tensor(whole, -1, 2)}, scores: "probabilities", classes: "one_hot"},

		{name: "two classes, and which one it is", outputs: infos{"probabilities": tensor(float, -1, 2), "one_hot": tensor(whole, -1, 2)},
			failure: `write "output: {scores: probabilities, classes: one_hot}" into DIR/1/assets.extra/inceptor.yaml, or without classes if none does`},
		{name: "several heads", outputs: infos{"age": tensor(float, -1, 9), "sex": tensor(float, -1, 2)},
			failure: `it has "age" float32 [N, 9], "sex" float32 [N, 2]; write "output: age" into DIR/1/assets.extra/inceptor.yaml, or the one that does`},
		{name: "an embedding beside", outputs: infos{"features": tensor(float, -1, 128), "maps": tensor(float, -1, 8, 8, 128)}, failure: `write "output: features" into`},
		{name: "an embedding first", outputs: infos{"features": tensor(float, -1, 32), "probabilities": tensor(float, -1, 10)}, failure: `write "output: probabilities" into`},
		{name: "two as wide as the labels", labels: 9, outputs: infos{"a": tensor(float, -1, 9), "b": tensor(float, -1, 9), "scores": tensor(float, -1, 32)}, failure: `write "output: a" into`},
		{name: "a name with the word", outputs: infos{"a": tensor(float, -1, 9), "main_scores": tensor(float, -1, 9)}, failure: `write "output: main_scores" into`},
		{name: "a softmax", outputs: infos{"a": tensor(float, -1, 9), "b": {Name: "net/Softmax:0", DType: float, Shape: savedmodel.Shape{-1, 9}}}, failure: `write "output: b" into`},
		{name: "named wrongly", yaml: "z", outputs: infos{"features": tensor(float, -1, 32), "probabilities": tensor(float, -1, 10)}, failure: `write "output: probabilities" into`},
		{name: "an embedding and the best class", outputs: infos{"embedding": tensor(float, -1, 128), "classes": tensor(whole, -1)},
			failure: `write "output: embedding" into DIR/1/assets.extra/inceptor.yaml, or the one that does; or write "outputs: [classes, embedding]" into`},
		{name: "two that are called scores", outputs: infos{"scores": tensor(float, -1, 9), "probabilities": tensor(float, -1, 9)}, failure: `write "output: probabilities" into`},
		{name: "two with words", outputs: infos{"scores": tensor(float, -1, 5), "classes": tensor(word, -1, 5), "synsets": tensor(word, -1, 5)},
			failure: `write "output: {scores: scores, classes: synsets}" into DIR/1/assets.extra/inceptor.yaml, or without classes if none does`},
		{name: "perhaps the best class", outputs: infos{"probabilities": anyShape(float), "classes": tensor(whole, -1)}, failure: `write "output: {scores: probabilities, classes: classes}" into`},
		{name: "classes as floats", yaml: "scores", outputs: infos{"scores": tensor(float, -1, 5), "classes": tensor(float, -1, 5)}, failure: `export it as int64 or string`},
		{name: "detection", outputs: infos{"detection_scores": tensor(float, -1, 100), "detection_classes": tensor(float, -1, 100), "num_detections": tensor(float, -1)}, failure: `an object detector, which has no scores for the classes of a whole image: write "outputs: [detection_`},
		{name: "detection, named", yaml: "detection_scores", outputs: infos{"detection_scores": tensor(float, -1, 100), "num_detections": tensor(float, -1)}, failure: `an object detector, which has no scores for the classes of a whole image: write "outputs: [detection_`},
		{name: "the best class without scores", outputs: infos{"classes": tensor(whole, -1)}, failure: `output "classes", int64 [N], has classes without their scores: export the scores as well, float32 [N, classes]`},
		{name: "nothing fits", outputs: infos{"a": tensor(whole, -1), "b": tensor(float, -1, 2, 2)},
			failure: `none of its outputs has the type and shape of scores, such as float32 [N, classes]: it has "a" int64 [N], "b" float32 [N, 2, 2]; export the scores so; or write "outputs: [a, b]" into DIR/1/assets.extra/inceptor.yaml, without output`},
		{name: "a map of ones", outputs: infos{"scores": tensor(float, -1, 1, 1, 10)}, scores: "scores", count: 10},
		{name: "a map of ones, channels first", outputs: infos{"scores": tensor(float, -1, 10, 1, 1)}, scores: "scores", count: 10},
		{name: "a map of ones, of unknown channels", outputs: infos{"scores": tensor(float, -1, 1, 1, -1)}, scores: "scores"},
		{name: "a map of unknown size", outputs: infos{"scores": tensor(float, -1, -1, -1, 10)},
			failure: `write "output: scores" into DIR/1/assets.extra/inceptor.yaml, if all unknown dimensions but one are 1; or write "outputs: [scores]" into`},
		{name: "a map of unknown size, named", yaml: "scores", outputs: infos{"scores": tensor(float, -1, -1, -1, 10)}, scores: "scores"},
		{name: "a map", outputs: infos{"scores": tensor(float, -1, 7, 7, 10)},
			failure: `has the shape [N, 7, 7, 10]; want [N, classes]: export a signature with the scores of each record; or write "outputs: [scores]" into`},
		{name: "a map, named", yaml: "scores", outputs: infos{"scores": tensor(float, -1, 7, 7, 10)}, failure: `has the shape [N, 7, 7, 10]`},
		{name: "rows, a map", content: Rows, outputs: infos{"scores": tensor(float, -1, 7, 7, 10)}, failure: `want [N, n] or [N]: export the signature with tf.reshape(scores, [-1, 490])`},
		{name: "truth values", outputs: infos{"scores": tensor(savedmodel.Bool, -1, 10)}, failure: `output "scores" is bool [N, 10], not scores: export the scores, float32 [N, classes]`},
		{name: "whole numbers", outputs: infos{"a": tensor(whole, -1, 10)},
			failure: `output "a" is int64 [N, 10], which may be scores or classes: write "output: a" into DIR/1/assets.extra/inceptor.yaml, if it has scores`},
		{name: "whole numbers, named", yaml: "a", outputs: infos{"a": tensor(savedmodel.UInt8, -1, 10)}, scores: "a", count: 10},
		{name: "sparse", outputs: infos{"a": {DType: float, Shape: savedmodel.Shape{-1, 10}, Encoding: "coo_sparse"}}, failure: `output "a" is sparse float32 [N, 10]; scores must be one dense tensor`},
		{name: "vector", outputs: infos{"scores": tensor(float, -1)}, scores: "scores", count: 1},
		{name: "a vector beside scores", outputs: infos{"probabilities": tensor(float, -1, 10), "confidence": tensor(float, -1)}, scores: "probabilities", count: 10},
		{name: "a vector and a decision", outputs: infos{"scores": tensor(float, -1), "classes": tensor(whole, -1)},
			failure: `write "output: {scores: scores, classes: classes}" into`},
		{name: "a vector and two labels", labels: 2, outputs: infos{"scores": tensor(float, -1)}, scores: "scores", count: 2, pair: true},
		{name: "a column and two labels", labels: 2, outputs: infos{"scores": tensor(float, -1, 1)}, scores: "scores", count: 2, pair: true},
		{name: "a column and one label", labels: 1, outputs: infos{"scores": tensor(float, -1, 1)}, scores: "scores", count: 1},
		{name: "a column and three labels", labels: 3, outputs: infos{"scores": tensor(float, -1, 1)}, failure: "labels: 3 labels for 1 classes"},
		{name: "a regression and two labels", method: methodRegress, labels: 2, outputs: infos{"outputs": tensor(float, -1)}, failure: "labels: 2 labels for 1 classes"},
		{name: "features by their name", outputs: infos{"global_average_pooling2d": tensor(float, -1, 2048)},
			failure: `the output "global_average_pooling2d" may have features instead of scores: write "outputs: [global_average_pooling2d]" into DIR/1/assets.extra/inceptor.yaml, ` +
				`without output, for answers with arrays and without classes; or write "output: global_average_pooling2d" into`},
		{name: "scores by the name of features, named", yaml: "features", outputs: infos{"features": tensor(float, -1, 9)}, scores: "features", count: 9},
		{name: "scores by the name of features, with labels", labels: 9, outputs: infos{"features": tensor(float, -1, 9)}, scores: "features", count: 9},
		{name: "double", outputs: infos{"scores": tensor(savedmodel.Float64, -1, 5)}, scores: "scores", count: 5},
		{name: "half", outputs: infos{"scores": tensor(savedmodel.Float16, -1, 5)}, scores: "scores", count: 5},
		{name: "bfloat16", outputs: infos{"scores": tensor(savedmodel.BFloat16, -1, 5)}, scores: "scores", count: 5},
		{name: "double beside float32", outputs: infos{"any": tensor(savedmodel.Float64, -1, 5), "scores": tensor(float, -1, 5)}, scores: "scores", count: 5},
		{name: "named and not there", yaml: "z", outputs: infos{"a": tensor(float, -1, 5)}, failure: `it has no output "z", only ["a"]: write "output: a" into`},
		{name: "classes not there", yaml: "{scores: a, classes: z}", outputs: infos{"a": tensor(float, -1, 5)}, failure: `it has no output "z"`},
		{name: "classes of another shape", yaml: "{scores: a, classes: b}", outputs: infos{"a": tensor(float, -1, 5), "b": tensor(word, -1, 4)}, failure: `output "b" is string [N, 4] and cannot have the classes of "a"`},
		{name: "the best few without classes", labels: 1001, outputs: infos{"scores": tensor(float, -1, 5)}, failure: "labels: 1001 labels for 5 classes; if these are the best 5 of 1001 classes"},
		{name: "no line for the background", labels: 1000, outputs: infos{"scores": tensor(float, -1, 1001)}, failure: `if the first class is the background, write "labels: {file: labels.txt, offset: 1}" into DIR/1/assets.extra/inceptor.yaml`},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := defaultSpec()
			if err := yaml.Unmarshal([]byte("output: "+test.yaml), &spec); err != nil {
				t.Fatal(err)
			}
			if test.labels > 0 {
				spec.Labels.File = defaultLabels
			}
			inputs := infos{"x": tensor(float, -1, 4, 5, 3)}
			bound, err := spec.bind(modelMetadata{
				signatures: map[string]savedmodel.Signature{"serving_default": {Method: test.method, Inputs: inputs, Outputs: test.outputs}},
				labels:     test.labels, file: "DIR/1/assets.extra/inceptor.yaml",
			}, test.content)
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %v, want %s", err, test.failure)
				}
				return
			}
			if err != nil || bound.Output.Scores != test.scores || bound.Output.Classes != test.classes {
				t.Errorf("got %+v, %v, want %s, %s", bound.Output, err, test.scores, test.classes)
			}
			if test.count != 0 && bound.classes != test.count || bound.pair != test.pair {
				t.Errorf("%d classes, pair %v, want %d, %v", bound.classes, bound.pair, test.count, test.pair)
			}
			if bound.classes != 0 && test.classes != "" {
				t.Errorf("it counts %d classes, though a score's place is none", bound.classes)
			}
			if bound.values != (test.content == Rows || test.method == methodRegress) {
				t.Errorf("an answer has the values: %v", bound.values)
			}
		})
	}
}

// Each input is fed by what the graph does with it.
func TestBindInputs(t *testing.T) {
	float, word, whole := savedmodel.Float32, savedmodel.String, savedmodel.Int64
	pixels, strs := tensor(float, -1, 4, 5, 3), tensor(word, -1)
	decodes := savedmodel.InputUse{Decoders: []string{"DecodeJpeg"}}
	back := func(output string) savedmodel.InputUse { return savedmodel.InputUse{Returned: []string{output}} }
	example := func(more ...string) savedmodel.InputUse {
		use := savedmodel.InputUse{Features: map[string]savedmodel.Feature{"image/encoded": {DType: word, Required: true, Decoders: []string{"DecodeJpeg", "DecodePng"}}}}
		for _, name := range more {
			use.Features[name] = savedmodel.Feature{DType: word, Required: !strings.HasPrefix(name, "maybe")}
		}
		return use
	}
	for _, test := range []struct {
		name      string
		signature string // "": serving_default
		method    string
		yaml      string
		content   Content
		server    bool // without a graph
		known     bool // but its graph is local
		inputs    infos
		uses      uses
		returned  string // an output, besides the scores
		want      string // the feeds
		formats   []string
		failure   string
	}{
		{name: "pixels", inputs: infos{"x": pixels}, want: "x: image"},
		{name: "encoded", inputs: infos{"images": strs}, uses: uses{"images": decodes}, want: "images: image", formats: []string{"gif", "jpeg", "png"}},
		{name: "encoded, of unknown rank", inputs: infos{"images": anyShape(word)}, uses: uses{"images": decodes}, want: "images: image", formats: []string{"gif", "jpeg", "png"}},
		{name: "encoded, a column", inputs: infos{"images": tensor(word, -1, 1)}, uses: uses{"images": decodes}, want: "images: image [1]", formats: []string{"gif", "jpeg", "png"}},
		{name: "encoded, in base64", inputs: infos{"images": strs}, uses: uses{"images": {Decoders: []string{"DecodeJpeg"}, Base64: true}}, want: "images: image in base64", formats: []string{"gif", "jpeg", "png"}},
		{name: "encoded, by the file", yaml: "input: {key: b64}", inputs: infos{"b64": strs}, want: "b64: image"},
		{name: "tf.Example of the image", inputs: infos{"inputs": strs}, uses: uses{"inputs": example("maybe/format")}, want: "inputs: image in image/encoded", formats: []string{"gif", "jpeg", "png"}},
		{name: "AutoML", inputs: infos{"image_bytes": strs, "key": strs}, uses: uses{"image_bytes": decodes, "key": back("key")}, returned: "key", want: "image_bytes: image, key: place → key", formats: []string{"gif", "jpeg", "png"}},
		{name: "a number as key", inputs: infos{"x": pixels, "id": tensor(whole, -1)}, uses: uses{"id": back("id_out")}, returned: "id_out", want: "id: place → id_out, x: image"},
		{name: "defaults stay", inputs: infos{"x": pixels, "keep_prob": tensor(float)}, uses: uses{"keep_prob": {HasDefault: true}}, want: "x: image"},
		{name: "an image with a default", inputs: infos{"x": pixels, "phase": tensor(savedmodel.Bool)}, uses: uses{"x": {HasDefault: true}, "phase": {HasDefault: true}}, want: "x: image"},
		{name: "fixed scalar", yaml: "inputs: {phase: false}", inputs: infos{"x": pixels, "phase": tensor(savedmodel.Bool)}, want: "phase: fixed once, x: image"},
		{name: "fixed for each", yaml: "inputs: {t: 1.5}", inputs: infos{"x": pixels, "t": tensor(float, -1)}, want: "t: fixed, x: image"},
		{name: "fixed list for each", yaml: "inputs: {t: [1, 2]}", inputs: infos{"x": pixels, "t": tensor(whole, -1, 2)}, want: "t: fixed, x: image"},
		{name: "fixed, of shape [1]", yaml: "inputs: {t: word}", inputs: infos{"x": pixels, "t": tensor(word, 1)}, want: "t: fixed once, x: image"},
		{name: "fixed in place of a default", yaml: "inputs: {keep_prob: 1}", inputs: infos{"x": pixels, "keep_prob": anyShape(float)}, uses: uses{"keep_prob": {HasDefault: true}}, want: "keep_prob: fixed once, x: image"},
		{name: "two images, one named", yaml: "input: {key: b}\ninputs: {a: [0, 0, 0]}", inputs: infos{"a": tensor(float, -1, 1, 1, 3), "b": pixels}, want: "a: fixed, b: image"},
		{name: "the only signature", signature: "predict_images", inputs: infos{"images": strs}, uses: uses{"images": decodes}, want: "images: image", formats: []string{"gif", "jpeg", "png"}},
		{name: "whole tf.Examples", content: Examples, inputs: infos{"examples": strs}, uses: uses{"examples": example("age")}, want: "examples: image"},
		{name: "rows", content: Rows, inputs: infos{"a": tensor(float, -1, 2), "b": strs}, want: "a: row, b: row"},
		{name: "rows, one fixed", content: Rows, yaml: "inputs: {b: x}", inputs: infos{"a": tensor(float, -1, 2), "b": strs}, want: "a: row, b: fixed"},
		{name: "server, by its signature", signature: bytesSignature, server: true, inputs: infos{"in": strs}, want: "in: image"},
		{name: "server, by the input's name", server: true, inputs: infos{"image_bytes": strs}, want: "image_bytes: image"},
		{name: "server, a key", server: true, inputs: infos{"image_bytes": strs, "key": strs}, returned: "key", want: "image_bytes: image, key: place → key"},
		{name: "server, its graph is here", server: true, known: true, inputs: infos{"inputs": strs}, uses: uses{"inputs": example()}, want: "inputs: image in image/encoded", formats: []string{"gif", "jpeg", "png"}},

		{name: "texts", inputs: infos{"text": strs}, failure: `input "text" takes strings, and the graph decodes no images from them: write "input: {key: text}" into DIR/1/assets.extra/inceptor.yaml`},
		{name: "texts, named like an image", inputs: infos{"images": strs}, failure: "decodes no images"},
		{name: "tf.Examples without an image", inputs: infos{"examples": strs}, uses: uses{"examples": {Features: map[string]savedmodel.Feature{"age": {DType: float}}}}, failure: "set --input.format example"},
		{name: "tf.Examples that need more", inputs: infos{"examples": strs}, uses: uses{"examples": example("age", "height")}, failure: `also need the features ["age" "height"]`},
		{name: "one string", inputs: infos{"image": tensor(word)}, uses: uses{"image": decodes}, failure: `input "image" takes one string and no batch`},
		{name: "two strings", inputs: infos{"image": tensor(word, -1, 2)}, uses: uses{"image": decodes}, failure: "takes strings of the shape [N, 2], want [N] or [N, 1]"},
		{name: "any number of strings", inputs: infos{"image": tensor(word, -1, -1)}, uses: uses{"image": decodes}, failure: "takes strings of the shape [N, ?], want [N] or [N, 1]"},
		{name: "an input that nothing feeds", inputs: infos{"x": pixels, "phase": tensor(savedmodel.Bool)}, failure: `the model also needs the input "phase" bool [], and the graph has no default for it: write "inputs: {phase: VALUE}" into DIR/1`},
		{name: "several that nothing feeds", yaml: "inputs: {rate: 1}", inputs: infos{"x": pixels, "keep": tensor(float), "phase": tensor(savedmodel.Bool, -1), "rate": tensor(float)},
			failure: `the model also needs the inputs "keep" float32 [], "phase" bool [N], and the graph has no default for them: write "inputs: {keep: VALUE, phase: VALUE, rate: VALUE}" into DIR/1/assets.extra/inceptor.yaml`},
		{name: "rows of one number each", inputs: infos{"a": tensor(float, -1), "b": tensor(float, -1, 2)}, failure: `it has "a" float32 [N], "b" float32 [N, 2]; set --input.format tensor-json`},
		{name: "another size", yaml: "input: {size: [9, 5]}", inputs: infos{"x": pixels}, failure: `inceptor.yaml: input.size: [9, 5] is not the size of the input "x", which has the shape [N, 4, 5, 3]: leave the key out`},
		{name: "a number that comes back, and decides", inputs: infos{"x": pixels, "id": tensor(whole, -1)}, uses: uses{"id": {Returned: []string{"id"}, Computed: true}}, returned: "id",
			failure: `also needs the input "id" int64 [N]`},
		{name: "server, a text that comes back", server: true, inputs: infos{"image_bytes": strs, "caption": strs}, returned: "caption", failure: `also needs the input "caption"`},
		{name: "a key that does not come back", inputs: infos{"x": pixels, "key": strs}, failure: `write "inputs: {key: VALUE}" into`},
		{name: "two images", inputs: infos{"a": pixels, "b": pixels}, failure: `each of the inputs ["a" "b"] could take the image: write "input: {key: a}" into`},
		{name: "a value for no input", yaml: "inputs: {phas: false}", inputs: infos{"x": pixels}, failure: `inputs: the signature has no input "phas", only ["x"]`},
		{name: "a value of another type", yaml: "inputs: {phase: 1}", inputs: infos{"x": pixels, "phase": tensor(savedmodel.Bool)}, failure: `inputs: phase: the input is bool [], not "1"`},
		{name: "a fraction", yaml: "inputs: {n: 1.5}", inputs: infos{"x": pixels, "n": tensor(whole)}, failure: `not "1.5"`},
		{name: "a value of another length", yaml: "inputs: {n: [1, 2]}", inputs: infos{"x": pixels, "n": tensor(whole, 3)}, failure: "want 3 elements, not 2"},
		{name: "an endless value", yaml: "inputs: {n: 1}", inputs: infos{"x": pixels, "n": tensor(whole, 1<<40)}, failure: "over 65536 elements"},
		{name: "the key is no input", yaml: "input: {key: y}", inputs: infos{"x": pixels}, failure: `input.key: the signature has no input "y"`},
		{name: "the key is fixed", yaml: "input: {key: x}\ninputs: {x: 1}", inputs: infos{"x": pixels}, failure: `leave one out`},
		{name: "no size", inputs: infos{"x": tensor(float, -1, -1, -1, 3)}, failure: `write "input: {size: [HEIGHT, WIDTH]}" into DIR/1`},
		{name: "server, strings", server: true, inputs: infos{"inputs": strs}, failure: `no version in model.dir shows whether they are encoded images`},
		{name: "server, classify", server: true, method: methodClassify, inputs: infos{"images": strs}, failure: `takes tf.Examples, and no version in model.dir shows which feature is the image`},
		{name: "server, a default", server: true, known: true, inputs: infos{"x": pixels, "keep_prob": tensor(float)}, uses: uses{"keep_prob": {HasDefault: true}}, failure: `a model server does not know the graph's default for it: write "inputs: {keep_prob: VALUE}" into`},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := defaultSpec()
			if err := yaml.Unmarshal([]byte(test.yaml), &spec); err != nil {
				t.Fatal(err)
			}
			outputs := infos{"scores": tensor(float, -1, 10)}
			if test.returned != "" {
				outputs[test.returned] = strs
				if in, ok := test.inputs[strings.TrimSuffix(test.returned, "_out")]; ok {
					outputs[test.returned] = in
				}
			}
			key := test.signature
			if key == "" {
				key = defaultSignature
			}
			o := modelMetadata{
				signatures: map[string]savedmodel.Signature{key: {Method: test.method, Inputs: test.inputs, Outputs: outputs}},
				server:     test.server, file: "DIR/1/assets.extra/inceptor.yaml",
			}
			if !test.server || test.known {
				o.inputUse = func(_, key string) (savedmodel.InputUse, error) { return test.uses[key], nil }
			}
			bound, err := spec.bind(o, test.content)
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %v\nwant %s", err, test.failure)
				}
				return
			}
			if got := feedsOf(bound); err != nil || got != test.want || !slices.Equal(bound.formats, test.formats) {
				t.Errorf("got %s, %q, %v\nwant %s, %q", got, bound.formats, err, test.want, test.formats)
			}
		})
	}
}

// feedsOf says what each input is fed from.
func feedsOf(bound signature) string {
	var list []string
	for i, f := range bound.feeds {
		s := f.key + ": " + map[source]string{fromRow: "row", fromImage: "image", fromIndex: "place", fromFile: "fixed"}[f.from]
		if f.feature != "" {
			s += " in " + f.feature
		}
		if f.base64 {
			s += " in base64"
		}
		if f.dtype == savedmodel.String && f.from == fromImage && len(f.shape) > 0 {
			s += " " + f.shape.String()
		}
		if f.perBatch {
			s += " once"
		}
		for _, r := range bound.returned {
			if r.feed == i {
				s += " → " + r.output
			}
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}

// The key output has two forms.
func TestOutputInFile(t *testing.T) {
	for text, want := range map[string]Output{
		"output: a":                         {Scores: "a"},
		"output: {scores: a}":               {Scores: "a", whole: true},
		"output: {scores: a, classes: b}":   {Scores: "a", Classes: "b", whole: true},
		"output: {classes: 'b', scores: 1}": {Scores: "1", Classes: "b", whole: true},
		"top_k: 3":                          {},
	} {
		var spec Spec
		if err := yaml.Unmarshal([]byte(text), &spec); err != nil || !reflect.DeepEqual(spec.Output, want) {
			t.Errorf("%s: got %+v, %v", text, spec.Output, err)
		}
	}
	for _, text := range []string{
		"output: [a, b]", "output: {classes: b}", "output: {scores: a, labels: b}", "output: {scores: [a]}", "output: {scores: a, classes: ''}", "output: {}", "output: ''",
		"inputs: {a: {b: 1}}", "inputs: {a: [[1]]}", "inputs: {a: [1, ~]}",
	} {
		dir := t.TempDir()
		modeltest.Write(t, dir+"/"+SpecFile, []byte("top_k: 3\n"+text))
		if _, err := readSpec(dir); err == nil || !strings.Contains(err.Error(), dir+"/"+SpecFile+": line 2: ") {
			t.Errorf("%s: got %v, want the file and line 2", text, err)
		}
	}
}

// An error about inceptor.yaml names the line, in words for a person.
func TestWordsOfFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"input: {size: [1, 2]}\ninput: {scale: 1}": `line 2: the key "input" is in line 1 already: write both parts under one key`,
		"outputs: a":                     `line 1: a is not a list`,
		"outputs: [a, b, a]":             `line 1: outputs: "a" is empty or listed twice`,
		"activation: relu":               `line 1: activation: "relu" is neither softmax nor sigmoid`,
		"out: a":                         `line 1: there is no key "out"`,
		"input: {sizes: [1, 2]}":         `line 1: there is no key "sizes"`,
		"top_k: 5\ninput: {size: large}": "line 2: large is not a list of two numbers",
		"top_k: many":                    "line 1: many is not a number",
		"input: {align_corners: 7}":      "line 1: 7 is not true or false",
		"input: {scale: x}":              `line 1: "x" is not a number, nor a fraction such as 1/255`,
		"input: 5":                       "line 1: 5 is not a list of keys with values",
		"# nothing yet":                  "",
		"":                               "",
	} {
		dir := t.TempDir()
		modeltest.Write(t, dir+"/"+SpecFile, []byte(text))
		_, err := readSpec(dir)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != dir+"/"+SpecFile+": "+want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// A signature has one input, and an output of scores that the spec names if
// there are several.
func TestBindOutputs(t *testing.T) {
	image := savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 4, 5, 3}}
	matrix := savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 7}}
	vector := savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{-1}}
	double := savedmodel.TensorInfo{DType: savedmodel.Float64, Shape: savedmodel.Shape{-1, 7}}
	type infos = map[string]savedmodel.TensorInfo
	for name, test := range map[string]struct {
		content         Content
		output          string
		inputs, outputs infos
		failure         string
		classes         int
	}{
		"one":                {Images, "", infos{"x": image}, infos{"a": matrix}, "", 7},
		"several":            {Images, "", infos{"x": image}, infos{"a": matrix, "b": matrix}, `write "output: a" into`, 0},
		"several, named":     {Images, "a", infos{"x": image}, infos{"a": matrix, "b": vector}, "", 7},
		"vector of images":   {Images, "", infos{"x": image}, infos{"b": vector}, "", 1},
		"vector of rows":     {Rows, "", infos{"x": matrix}, infos{"b": vector}, "", 1},
		"float64":            {Images, "", infos{"x": image}, infos{"a": double}, "", 7},
		"two inputs":         {Images, "", infos{"x": image, "y": image}, infos{"a": matrix}, `each of the inputs ["x" "y"] could take the image`, 0},
		"two inputs of rows": {Rows, "", infos{"x": matrix, "y": vector}, infos{"a": matrix}, "", 7},
	} {
		spec := defaultSpec()
		spec.Output.Scores = test.output
		bound, err := spec.bind(modelMetadata{signatures: map[string]savedmodel.Signature{spec.Signature: {Inputs: test.inputs, Outputs: test.outputs}}}, test.content)
		switch {
		case test.failure != "" && (err == nil || !strings.Contains(err.Error(), test.failure)):
			t.Errorf("%s: got %v, want %s", name, err, test.failure)
		case test.failure == "" && (err != nil || bound.classes != test.classes):
			t.Errorf("%s: %d classes, %v, want %d", name, bound.classes, err, test.classes)
		case test.failure == "" && test.content == Images && bound.Input.Size != [2]int{4, 5}:
			t.Errorf("%s: the size is %v, want the signature's", name, bound.Input.Size)
		}
	}
}

// A size that would take too much memory for each image is refused, whoever
// says it.
func TestBindSize(t *testing.T) {
	for _, test := range []struct {
		spec          [2]int
		height, width int64
		ok            bool
	}{
		{[2]int{}, 299, 299, true},
		{[2]int{}, 8192, 8192, true},
		{[2]int{}, 1, 16384, true},
		{[2]int{}, 8192, 8193, false},
		{[2]int{}, 1, 16385, false},
		{[2]int{}, 100_000, 100_000, false},
		{[2]int{}, 1 << 31, 1 << 31, false},
		{[2]int{}, math.MaxInt64, 2, false},
		{[2]int{1 << 31, 1 << 31}, -1, -1, false},
	} {
		spec := defaultSpec()
		spec.Input.Size = test.spec
		_, err := spec.bind(modelMetadata{signatures: map[string]savedmodel.Signature{spec.Signature: {
			Inputs:  map[string]savedmodel.TensorInfo{"x": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, test.height, test.width, 3}}},
			Outputs: map[string]savedmodel.TensorInfo{"a": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 7}}},
		}}}, Images)
		if ok := err == nil; ok != test.ok || !ok && !strings.Contains(err.Error(), "on a side") {
			t.Errorf("%d×%d, the spec's %v: got %v", test.height, test.width, test.spec, err)
		}
	}
}
