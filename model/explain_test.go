package model

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
	b, err := os.ReadFile(filepath.Join("../savedmodel/testdata", name, "saved_model.pb"))
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
			files: map[string]string{specFile: "{signature: predict_images, labels: l, top_k: 2}", "assets/l": "a\nb\nc\n"},
			want: Explanation{
				Signature: "predict_images", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.String, From: FromImage}},
				Scores: "scores", Classes: 3, TopK: 2, Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
				Labels: ExplainedFrom{File: "l", Path: "assets/l"},
			},
		},
		"labels beside saved_model.pb, from class 1 on": {
			model: "classic",
			files: map[string]string{specFile: "{signature: predict_images, labels: {file: l.json, offset: 1}}", "l.json": `["n01440764", "n01443537"]`},
			want: Explanation{
				Signature: "predict_images", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.String, From: FromImage}},
				Scores: "scores", Classes: 3, TopK: 5, Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
				Labels: ExplainedFrom{File: "l.json", Path: "l.json", Offset: 1},
			},
			notes: []string{`the labels are WordNet ids: write "labels: {file: l.json, offset: 1, names: FILE}" into DIR/` + specFile + `, with a file that has their words`},
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
			notes: []string{`write "input: {half_pixel_centers: true}" into DIR/` + specFile, "assets/labels.txt"},
		},
		"pixels by a file that contradicts the graph": {
			model: "keras",
			files: map[string]string{specFile: "{input: {scale: 0.5, half_pixel_centers: false}, labels: l}", "assets/l": "a\nb\n"},
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.Float32, From: FromPixels}},
				Preprocessing: &Preprocessing{
					Size: [2]int{8, 8}, Layout: pixels.ChannelsLast, Crop: 1, Fit: pixels.Stretch, Resize: "bilinear", Channels: pixels.RGB, Scale: same(0.5), ScaleFrom: OriginFile, ResizeFrom: OriginFile,
				},
				Scores: "output_0", Classes: 2, TopK: 5, Labels: ExplainedFrom{File: "l", Path: "assets/l"},
			},
			notes: []string{"inceptor.yaml makes pixels of 0…127.5, the model seems to take 0…255"},
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
			files: map[string]string{specFile: "{signature: predict_images, outputs: [scores]}", "assets/labels.txt": "a\n"},
			want: Explanation{
				Signature: "predict_images", Method: "tensorflow/serving/predict",
				Inputs:  []ExplainedInput{{Key: "images", DType: savedmodel.String, From: FromImage}},
				Outputs: []ExplainedOutput{{Key: "scores", DType: savedmodel.Float32}}, TopK: 5,
				Formats: []string{"gif", "jpeg", "png"}, Decoders: []string{"DecodeJpeg"},
			},
		},
		"arrays and golden images": {model: "classic", notes: []string{"golden images name classes, and answers of this version have none: leave DIR/" + goldenFile + " out"},
			files: map[string]string{specFile: "{signature: predict_images, outputs: [scores]}", goldenFile: "[{image: a.png, label: x, floor: 0.5}]"}},
		"classes and arrays": {
			model: "keras",
			files: map[string]string{specFile: "{input: {half_pixel_centers: true}, output: output_0, activation: softmax, outputs: [output_0], labels: l}", "assets/l": "a\nb\n"},
			want: Explanation{
				Signature: "serving_default", Method: "tensorflow/serving/predict",
				Inputs: []ExplainedInput{{Key: "images", DType: savedmodel.Float32, From: FromPixels}},
				Preprocessing: &Preprocessing{
					Size: [2]int{8, 8}, Layout: pixels.ChannelsLast, Crop: 1, Fit: pixels.Stretch, Resize: "bilinear", Channels: pixels.RGB, HalfPixelCenters: true, Scale: same(1), ScaleFrom: OriginGraph, ResizeFrom: OriginFile,
				},
				Scores: "output_0", Activation: softmax, Classes: 2, TopK: 5, Labels: ExplainedFrom{File: "l", Path: "assets/l"},
				Outputs: []ExplainedOutput{{Key: "output_0", DType: savedmodel.Float32}},
			},
		},
		"refused": {model: "tiny", notes: []string{`signature "serving_default": input "features" takes rows of 4 numbers, not images: set --input.format tensor-json`}},
		"labels of another size, which nobody named": {model: "classic", files: map[string]string{"labels.txt": "a\nb\n"}, notes: []string{`write "labels: {file: labels.txt, offset: 1}" into DIR/` + specFile}},
		"labels of another size":                     {model: "classic", files: map[string]string{"assets/labels.txt": "a\n"}, notes: []string{`labels: 1 lines for 3 classes: the file needs a line for each class; for answers with numbers alone, write "labels: ''" into DIR/` + specFile}},
		"a golden image is missing":                  {model: "classic", files: map[string]string{goldenFile: "[{image: a.png}]"}, notes: []string{"DIR/assets.extra/golden/a.png: no such file"}},
		"another digest":                             {model: "classic", files: map[string]string{sumsFile: strings.Repeat("0", 64) + "  saved_model.pb\n"}, notes: []string{"saved_model.pb"}},
		"a file that is wrong":                       {model: "classic", files: map[string]string{specFile: "{size: 3}"}, notes: []string{"DIR/" + specFile, "size"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := test.files
			if files == nil {
				files = map[string]string{}
			}
			dir := graphCopy(t, test.model, files)
			got := Explain(dir, test.content)
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

// Golden images are a load's means to find out what nothing says.
func TestExplainGolden(t *testing.T) {
	dir := graphCopy(t, "keras", map[string]string{
		goldenFile: "[{image: a.png, label: x, floor: 0.5}]", specFile: "{input: {half_pixel_centers: true}, labels: l}", "assets/l": "a\nb\n",
		"assets.extra/golden/a.png": "",
	})
	if e := Explain(dir, Images); e.Golden != 0 || len(e.Notes) > 0 {
		t.Errorf("the graph says it: %d golden images, notes %q", e.Golden, e.Notes)
	}
}

// What a person says counts like a line in inceptor.yaml.
func TestExplainGiven(t *testing.T) {
	dir := graphCopy(t, "classic", map[string]string{})
	e := ExplainGiven(dir, Images, Given{Signature: "predict_images", Output: "scores"})
	if e.Refused != "" || e.Signature != "predict_images" {
		t.Errorf("got %+v", e)
	}
	if e := ExplainGiven(dir, Images, Given{Output: "none"}); !strings.Contains(e.Refused, `no output "none"`) {
		t.Errorf("an output that is not there: %q", e.Refused)
	}
	keras := graphCopy(t, "keras", map[string]string{})
	if e := ExplainGiven(keras, Images, Given{Size: [2]int{9, 8}}); !strings.Contains(e.Refused, "[9, 8]") {
		t.Errorf("another size: %q", e.Refused)
	}
}

// A model that was exported as it is trained is told of.
func TestExplainTraining(t *testing.T) {
	dir := graphCopy(t, "keras", map[string]string{})
	file := filepath.Join(dir, "saved_model.pb")
	b, err := os.ReadFile(file)
	var saved tfpb.SavedModel
	if err := errors.Join(err, proto.Unmarshal(b, &saved)); err != nil {
		t.Fatal(err)
	}
	told := func() bool {
		return strings.Contains(strings.Join(Explain(dir, Images).Notes, "; "), asInTraining+" (AssignVariableOp)")
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
		t.Errorf("not told: %q", Explain(dir, Images).Notes)
	}
}

// What is explained is what a load does.
func TestExplainIsWhatIsLoaded(t *testing.T) {
	for name, yaml := range map[string]string{
		"nothing said": "",
		"all said":     "input: {scale: 2, offset: 1, half_pixel_centers: true}",
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			means{}.write(t, dir, yaml)
			m, _, err := loadMeans(t, base)
			if err != nil {
				t.Fatal(err)
			}
			loaded, told := m.Versions()[0], Explain(dir, Images)
			if diff := cmp.Diff(loaded.Preprocessing, told.Preprocessing, cmpopts.IgnoreUnexported(Preprocessing{})); diff != "" {
				t.Errorf("(-loaded +explained):\n%s", diff)
			}
			if notes := strings.Join(told.Notes, "; "); !strings.Contains(notes, loaded.Assumed) || loaded.Assumed == "" != (yaml != "") {
				t.Errorf("notes %q, the load tells %q", notes, loaded.Assumed)
			}
		})
	}
}

func TestExplainedFromText(t *testing.T) {
	for want, from := range map[string]ExplainedFrom{
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
