package infer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"inceptor/model/internal/modeltest"
	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// A draft says what the Explanation says, and read back it means the same.
func TestDraft(t *testing.T) {
	made := func(c conversion, from Origin) *Preprocessing {
		p := &Preprocessing{Size: [2]int{8, 8}, Resize: "bilinear", ResizeFrom: OriginFile}
		p.convert(c, from)
		return p
	}
	for _, test := range []struct {
		model string
		tags  []string // of its graph; nil: serve
		made  *Preprocessing
		how   string
		want  []string
	}{
		{model: "classic", want: []string{"tags: [serve]", "signature: serving_default", "  key: inputs", "output: scores", "# labels: labels.txt"}},
		{model: "keras", tags: []string{}, want: []string{"tags: []"}},
		{model: "keras", want: []string{"  size: [8, 8]", "  # half_pixel_centers: true", "  # It is stated by the graph.", "  scale: 1", "  offset: 0"}},
		{
			model: "keras", made: &Preprocessing{Size: [2]int{8, 8}, Resize: "area", Channels: pixels.RGB, Scale: same(0.25), Offset: same(-1), ScaleFrom: OriginMeasured, ResizeFrom: OriginFile},
			how: "Measured with a cat.", want: []string{"  # Measured with a cat.", "  scale: 0.25", "  offset: -1", "  resize: area"},
		},
		{
			model: "keras", made: &Preprocessing{Size: [2]int{8, 8}, Resize: "bilinear", Channels: pixels.RGB, Scale: same(0.25), Offset: same(-1), ScaleFrom: OriginAssumed, ResizeFrom: OriginFile},
			want: []string{"  # scale: 0.25", "  # offset: -1"},
		},
		{
			model: "keras", made: made(torchRGB, OriginMeasured), how: "Measured with a dog.",
			want: []string{"  scale: 1/255", "  mean: [0.485, 0.456, 0.406]", "  std: [0.229, 0.224, 0.225]"},
		},
		{
			model: "keras", made: made(caffeBGR, OriginMeasured), how: "Measured with a bird.",
			want: []string{"  channels: bgr", "  mean: [103.939, 116.779, 123.68]"},
		},
		{
			model: "keras", made: made(zeroTo255.withChannels(pixels.BGR), OriginMeasured), how: "Measured with a fish.",
			want: []string{"  channels: bgr", "  scale: 1", "  offset: 0"},
		},
		{
			model: "keras", made: made(caffeBGR, OriginAssumed),
			want: []string{"  # remove the # from the next 2 lines.", "  # channels: bgr", "  # mean: [103.939, 116.779, 123.68]"},
		},
	} {
		t.Run(test.model+" "+test.how, func(t *testing.T) {
			dir := graphCopy(t, test.model, map[string]string{})
			if test.tags != nil {
				modeltest.Retag(t, dir, test.tags)
			}
			before := Explain(dir, Images, SpecOverrides{})
			made := test.made
			if made == nil {
				made = before.Preprocessing
			}
			text := before.Draft(made, test.how)
			for _, line := range test.want {
				if !strings.Contains(text, "\n"+line+"\n") {
					t.Errorf("no line %q in\n%s", line, text)
				}
			}
			path, err := WriteSpec(dir, text)
			if err != nil {
				t.Fatal(err)
			}
			after := Explain(dir, Images, SpecOverrides{})
			if p := after.Preprocessing; p != nil && made.ScaleFrom != OriginAssumed {
				if p.ScaleFrom != OriginFile || p.conversion() != made.conversion() || p.Resize != made.Resize {
					t.Errorf("pixels %v, want %v", p, made)
				}
			}
			ignored := cmp.Options{cmpopts.IgnoreFields(Explanation{}, "Notes", "Preprocessing")}
			if diff := cmp.Diff(before, after, ignored); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}

			if _, err := WriteSpec(dir, "other"); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("written again: %v", err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != text {
				t.Errorf("the file holds %q, %v", b, err)
			}
			if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
				t.Errorf("left beside it: %v, %v", files, err)
			}
		})
	}
}

func TestDraftOfClasses(t *testing.T) {
	for name, test := range map[string]struct {
		labels ExplainedLabels
		want   string
	}{
		"words":   {ExplainedLabels{Output: "classes", Words: true}, "output: {scores: scores, classes: classes}"},
		"numbers": {ExplainedLabels{Output: "class ids", File: "l.txt"}, "output: {scores: scores, classes: 'class ids'}\n\n# A file with a label for each class, in assets or beside saved_model.pb.\nlabels: l.txt"},
	} {
		text := Explanation{Signature: "s", Scores: "scores", Labels: test.labels}.Draft(nil, "")
		if !strings.Contains(text, "\n"+test.want+"\n") || test.labels.Words && strings.Contains(text, "labels:") {
			t.Errorf("%s: no %q in\n%s", name, test.want, text)
		}
	}
}

func TestDraftOfArrays(t *testing.T) {
	both := Explanation{Signature: "s", Scores: "scores", Activation: sigmoid, Outputs: []ExplainedOutput{{Key: "boxes"}, {Key: "0"}}}
	if text := both.Draft(nil, ""); !strings.Contains(text, "\noutputs: [boxes, '0']\n") || !strings.Contains(text, "\noutput: scores\n") || !strings.Contains(text, "\nactivation: sigmoid\n") {
		t.Errorf("both: %s", text)
	}
	alone := Explanation{Signature: "s", Outputs: []ExplainedOutput{{Key: "boxes"}}}
	if text := alone.Draft(nil, ""); !strings.Contains(text, "\noutputs: [boxes]\n") || strings.Contains(text, "output:") || strings.Contains(text, "labels") || strings.Contains(text, "top_k") {
		t.Errorf("alone: %s", text)
	}
}

// The text for a person has arrays, with and without scores.
func TestExplainText(t *testing.T) {
	pair := Explanation{Scores: "p", Pair: true, Classes: 2, Activation: sigmoid, TopK: 5,
		Outputs: []ExplainedOutput{{Key: "boxes", DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 4}}}}
	alone := pair
	alone.Scores = ""
	for _, test := range []struct {
		e    Explanation
		want []string
	}{
		{pair, []string{`scores     "p", of the second label; the first one has 1 minus that, after sigmoid`, `output     "boxes" float32 [N, 4], in the answer as an array`, "answer     the best 5 classes"}},
		{alone, []string{`output     "boxes" float32 [N, 4], in the answer as an array`, "answer     arrays, and no classes"}},
	} {
		var out strings.Builder
		if err := test.e.WriteText(&out); err != nil {
			t.Fatal(err)
		}
		for _, line := range test.want {
			if !strings.Contains(out.String(), "  "+line+"\n") {
				t.Errorf("no line %q in\n%s", line, out.String())
			}
		}
	}
}

func TestExpectedFirst(t *testing.T) {
	attempt := func(c conversion, classes ...Class) Attempt {
		p := &Preprocessing{}
		p.convert(c, OriginMeasured)
		return Attempt{Preprocessing: p, Classes: classes}
	}
	cat, dog := Class{Label: "Egyptian cat, puss", Index: 1, Score: 0.6}, Class{Label: "dog", Index: 2, Score: 0.4}
	surer := cat
	surer.Score = 0.9
	for name, test := range map[string]struct {
		attempts []Attempt
		expected string
		want     []int
		err      string
	}{
		"one":                      {[]Attempt{attempt(minusOneToOne, dog, cat), attempt(zeroToOne, cat, dog)}, "Egyptian cat, puss", []int{1}, ""},
		"a synonym":                {[]Attempt{attempt(minusOneToOne, cat)}, " PUSS ", []int{0}, ""},
		"a number":                 {[]Attempt{attempt(minusOneToOne, cat)}, "1", []int{0}, ""},
		"the highest score":        {[]Attempt{attempt(minusOneToOne, cat), attempt(zeroToOne, surer)}, "puss", []int{1, 0}, ""},
		"0…255 is always sure":     {[]Attempt{attempt(zeroToOne, cat), attempt(zeroTo255, surer)}, "puss", []int{0, 1}, ""},
		"0…255 alone":              {[]Attempt{attempt(zeroToOne, dog, cat), attempt(zeroTo255, surer)}, "puss", []int{1}, ""},
		"one fails":                {[]Attempt{{Err: os.ErrInvalid}, attempt(zeroToOne, cat)}, "puss", []int{1}, ""},
		"encoded images":           {[]Attempt{{Classes: []Class{cat}}}, "puss", []int{0}, ""},
		"never the best":           {[]Attempt{attempt(zeroToOne, dog, cat)}, "puss", nil, "none of the rows"},
		"not a class of the model": {[]Attempt{attempt(zeroToOne, dog, cat)}, "bird", nil, `no class "bird"`},
		"a word without a number":  {[]Attempt{{Classes: []Class{{Label: "cat", Index: NoIndex}}}}, "-1", nil, "no class"},
	} {
		got, err := ExpectedFirst(test.attempts, test.expected)
		if !cmp.Equal(got, test.want) || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %v, %v, want %v, %q", name, got, err, test.want, test.err)
		}
	}
}
