package infer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// graphCopy copies a saved_model.pb of savedmodel's tests, with files beside it.
func graphCopy(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../savedmodel/testdata", name, "saved_model.pb"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files["saved_model.pb"] = string(b)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExplain(t *testing.T) {
	for name, test := range map[string]struct {
		model   string
		content Content
		files   map[string]string
		want    Explanation // without Notes
		notes   []string    // parts of them; of Refused, if that is not empty
	}{
		"tf.Examples made of images": {
			model: "classic",
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/classify",
				Inputs: []ExplainedInput{{Key: "inputs", DType: savedmodel.String, From: FromExample, Feature: "image/encoded"}},
				Scores: "scores", Classes: 3, TopK: 5, Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
			},
			notes: []string{"write a line for each class into DIR/assets/labels.txt"},
		},
		"encoded images, labels, another signature": {
			model: "classic",
			files: map[string]string{SpecFile: "{signature: predict_images, labels: l, top_k: 2}", "assets/l": "a\nb\nc\n"},
			want: Explanation{
				Signature: "predict_images", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.String, From: FromImage}},
				Scores: "scores", Classes: 3, TopK: 2, Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
				Labels: ExplainedLabels{File: "l", Path: "assets/l"},
			},
		},
		"labels beside saved_model.pb, from class 1 on": {
			model: "classic",
			files: map[string]string{SpecFile: "{signature: predict_images, labels: {file: l.json, offset: 1}}", "l.json": `["n01440764", "n01443537"]`},
			want: Explanation{
				Signature: "predict_images", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.String, From: FromImage}},
				Scores: "scores", Classes: 3, TopK: 5, Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
				Labels: ExplainedLabels{File: "l.json", Path: "l.json", Offset: 1},
			},
			notes: []string{`the labels are WordNet ids: write "labels: {file: l.json, offset: 1, names: FILE}" into DIR/` + SpecFile + `, to name a file that has their words`},
		},
		"pixels by the graph": {
			model: "keras",
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.Float32, From: FromPixels}},
				Preprocessing: &Preprocessing{
					Size: [2]int{8, 8}, Layout: pixels.ChannelsLast, Crop: 1, Fit: pixels.Stretch, Resize: "bilinear", Channels: pixels.RGB, HalfPixelCenters: true, Scale: same(1), ScaleFrom: OriginGraph, ResizeFrom: OriginAssumed,
				},
				Scores: "output_0", Classes: 2, TopK: 5,
			},
			notes: []string{`write "input: {half_pixel_centers: true}" into DIR/` + SpecFile, "assets/labels.txt"},
		},
		"pixels by a file that contradicts the graph": {
			model: "keras",
			files: map[string]string{SpecFile: "{input: {scale: 0.5, half_pixel_centers: false}, labels: l}", "assets/l": "a\nb\n"},
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.Float32, From: FromPixels}},
				Preprocessing: &Preprocessing{
					Size: [2]int{8, 8}, Layout: pixels.ChannelsLast, Crop: 1, Fit: pixels.Stretch, Resize: "bilinear", Channels: pixels.RGB, Scale: same(0.5), ScaleFrom: OriginFile, ResizeFrom: OriginFile,
				},
				Scores: "output_0", Classes: 2, TopK: 5, Labels: ExplainedLabels{File: "l", Path: "assets/l"},
			},
			notes: []string{"inceptor.yaml makes pixels of 0…127.5, but the model seems to take 0…255"},
		},
		"rows": {
			model: "tiny", content: Rows,
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "features", DType: savedmodel.Float32, From: FromRecord}},
				Scores: "scores", Values: true, Classes: 3, TopK: 5,
			},
		},
		"arrays alone": {
			model: "classic",
			files: map[string]string{SpecFile: "{signature: predict_images, outputs: [scores]}", "assets/labels.txt": "a\n"},
			want: Explanation{
				Signature: "predict_images", Method: "tensorflow/serving/predict",
				Inputs:  []ExplainedInput{{Key: "images", DType: savedmodel.String, From: FromImage}},
				Outputs: []ExplainedOutput{{Key: "scores", DType: savedmodel.Float32}}, TopK: 5,
				Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
			},
		},
		"arrays and golden images": {model: "classic", notes: []string{"golden images name classes, and answers of this version have none: leave DIR/" + GoldenFile + " out"},
			files: map[string]string{SpecFile: "{signature: predict_images, outputs: [scores]}", GoldenFile: "[{image: a.png, label: x, floor: 0.5}]"}},
		"classes and arrays": {
			model: "keras",
			files: map[string]string{SpecFile: "{input: {half_pixel_centers: true}, output: output_0, activation: softmax, outputs: [output_0], labels: l}", "assets/l": "a\nb\n"},
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.Float32, From: FromPixels}},
				Preprocessing: &Preprocessing{
					Size: [2]int{8, 8}, Layout: pixels.ChannelsLast, Crop: 1, Fit: pixels.Stretch, Resize: "bilinear", Channels: pixels.RGB, HalfPixelCenters: true, Scale: same(1), ScaleFrom: OriginGraph, ResizeFrom: OriginFile,
				},
				Scores: "output_0", Activation: softmax, Classes: 2, TopK: 5, Labels: ExplainedLabels{File: "l", Path: "assets/l"},
				Outputs: []ExplainedOutput{{Key: "output_0", DType: savedmodel.Float32}},
			},
		},
		"refused": {model: "tiny", notes: []string{`signature "serving_default": input "features" takes rows of 4 numbers, not images: set --input.format tensor-json`}},
		"labels of another size, which nobody named": {model: "classic", files: map[string]string{"labels.txt": "a\nb\n"}, notes: []string{`write "labels: {file: labels.txt, offset: 1}" into DIR/` + SpecFile}},
		"labels of another size":                     {model: "classic", files: map[string]string{"assets/labels.txt": "a\n"}, notes: []string{`labels: 1 labels for 3 classes: the file needs a label for each class; for answers without labels, write "labels: ''" into DIR/` + SpecFile}},
		"a golden image is missing":                  {model: "classic", files: map[string]string{GoldenFile: "[{image: a.png}]"}, notes: []string{"DIR/assets.extra/golden/a.png: no such file"}},
		"another digest":                             {model: "classic", files: map[string]string{SumsFile: strings.Repeat("0", 64) + "  saved_model.pb\n"}, notes: []string{"saved_model.pb"}},
		"a file that is wrong":                       {model: "classic", files: map[string]string{SpecFile: "{size: 3}"}, notes: []string{"DIR/" + SpecFile, "size"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := test.files
			if files == nil {
				files = map[string]string{}
			}
			dir := graphCopy(t, test.model, files)
			got := Explain(dir, test.content, SpecOverrides{})
			told := append([]string{got.Refused}, got.Notes...)
			for i, part := range test.notes {
				at := 0
				if test.want.Signature != "" {
					at = i + 1
				}
				if at >= len(told) || !strings.Contains(strings.ReplaceAll(told[at], dir, "DIR"), part) {
					t.Errorf("got %q, want %q", told, part)
				}
			}
			if test.want.Signature != "" && len(got.Notes) != len(test.notes) {
				t.Errorf("notes %q, want %q", got.Notes, test.notes)
			}
			ignored := cmp.Options{
				cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Explanation{}, "Content", "Notes", "Refused", "Tags"),
				cmpopts.IgnoreFields(ExplainedInput{}, "Shape"), cmpopts.IgnoreFields(ExplainedOutput{}, "Shape"), cmpopts.IgnoreUnexported(Preprocessing{}),
			}
			if diff := cmp.Diff(test.want, got, ignored); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// An Explanation does not call pixels assumed that a load finds out by golden images.
func TestExplainGolden(t *testing.T) {
	dir := graphCopy(t, "keras", map[string]string{
		GoldenFile: "[{image: a.png, label: x, floor: 0.5}]", SpecFile: "{input: {half_pixel_centers: true}, labels: l}", "assets/l": "a\nb\n",
		"assets.extra/golden/a.png": "",
	})
	if e := Explain(dir, Images, SpecOverrides{}); e.Golden != 0 || len(e.Notes) > 0 {
		t.Errorf("the graph says it: %d golden images, notes %q", e.Golden, e.Notes)
	}
}

// Overrides count like lines of inceptor.yaml.
func TestExplainOverrides(t *testing.T) {
	dir := graphCopy(t, "classic", map[string]string{})
	e := Explain(dir, Images, SpecOverrides{Signature: "predict_images", Output: "scores"})
	if e.Refused != "" || e.Signature != "predict_images" {
		t.Errorf("got %+v", e)
	}
	if e := Explain(dir, Images, SpecOverrides{Output: "none"}); !strings.Contains(e.Refused, `no output "none"`) {
		t.Errorf("an output that is not there: %q", e.Refused)
	}
	keras := graphCopy(t, "keras", map[string]string{})
	if e := Explain(keras, Images, SpecOverrides{Size: [2]int{9, 8}}); !strings.Contains(e.Refused, "[9, 8]") {
		t.Errorf("another size: %q", e.Refused)
	}
}

// A note warns of a model that was exported as it is trained.
func TestExplainTraining(t *testing.T) {
	dir := graphCopy(t, "keras", map[string]string{})
	file := filepath.Join(dir, "saved_model.pb")
	b, err := os.ReadFile(file)
	var saved tfpb.SavedModel
	if err := errors.Join(err, proto.Unmarshal(b, &saved)); err != nil {
		t.Fatal(err)
	}
	told := func() bool {
		return strings.Contains(strings.Join(Explain(dir, Images, SpecOverrides{}).Notes, "; "), asInTraining+" (AssignVariableOp)")
	}
	if told() {
		t.Error("told of a model that does not")
	}
	for _, f := range saved.GetMetaGraphs()[0].GetGraphDef().GetLibrary().GetFunction() {
		if strings.Contains(f.GetSignature().GetName(), "__call__") {
			f.NodeDef = append(f.NodeDef, &tfpb.NodeDef{Name: "seed", Op: "AssignVariableOp", Input: []string{"x", "y"}})
		}
	}
	b, err = proto.Marshal(&saved)
	if err := errors.Join(err, os.WriteFile(file, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	if !told() {
		t.Errorf("not told: %q", Explain(dir, Images, SpecOverrides{}).Notes)
	}
}

func TestExplainedFromText(t *testing.T) {
	for want, from := range map[string]ExplainedLabels{
		"none":                                {},
		`the words in the output "c"`:         {Output: "c", Words: true},
		`none; the numbers in the output "c"`: {Output: "c"},
		"labels.txt":                          {File: "labels.txt", Path: "labels.txt"},
		`of the numbers in the output "c", in assets/l, whose first label is that of class 1`: {Output: "c", File: "l", Path: "assets/l", Offset: 1},
	} {
		if got := from.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Ranges for int8 are described if they can be used; else a note says why not.
func TestExplainRanges(t *testing.T) {
	dir := graphCopy(t, "keras", map[string]string{})
	digest, err := savedmodel.WeightsDigest(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	bare := Explain(dir, Images, SpecOverrides{})
	if bare.Preprocessing == nil || bare.Int8 != nil {
		t.Fatalf("without ranges: %+v", bare)
	}
	good := Calibration{
		Digest: digest, Pixels: bare.Preprocessing.input(), Records: 7, Method: MethodMax,
		Layers: map[string]LayerRange{"a": {1, 1, 1}, "b": {2, 2, 2}},
	}
	other := good
	other.Digest = "sha256:12"
	elsewhere := good
	elsewhere.Pixels = "1×1"
	for name, test := range map[string]struct {
		file []byte
		want *ExplainedRanges
		note string
	}{
		"good":          {encoded(t, good), &ExplainedRanges{2, 7, MethodMax}, ""},
		"other weights": {encoded(t, other), nil, "it cannot run in int8: the ranges for int8 were measured with other weights, sha256:12"},
		"other pixels":  {encoded(t, elsewhere), nil, "it cannot run in int8: the ranges for int8 were measured with another input, 1×1"},
		"damaged":       {[]byte("method: [\n"), nil, "int8.yaml: "},
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(CalibrationFile)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, CalibrationFile), test.file, 0o600); err != nil {
			t.Fatal(err)
		}
		got := Explain(dir, Images, SpecOverrides{})
		if diff := cmp.Diff(test.want, got.Int8); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		var text strings.Builder
		if err := got.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		want := test.note
		if test.want != nil {
			want = "ranges of 2 layers, measured with 7 records, by max"
		}
		if !strings.Contains(text.String(), want) || got.Refused != "" {
			t.Errorf("%s: want %q in\n%s", name, want, text.String())
		}
	}
}
