package infer

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// An error about a mistake in input names the line and the key, and says what to write.
func TestSpecErrors(t *testing.T) {
	for name, test := range map[string]struct {
		input string   // lines of it, from line 2 on
		want  []string // empty: it is right
	}{
		"nothing":              {"size: [2, 2]", nil},
		"all of it":            {"crop: 0.875\nfit: pad\nresize: bicubic\nchannels: bgr\nscale: 1/255\nmean: [0.406, 0.456, 0.485]\nstd: [0.225, 0.224, 0.229]", nil},
		"area, no centers":     {"resize: area\nhalf_pixel_centers: false\nalign_corners: true", nil},
		"nearest":              {"resize: nearest\nalign_corners: true", nil},
		"the whole":            {"crop: 1\nfit: stretch", nil},
		"a mean in 0…255":      {"channels: bgr\nmean: [103.939, 116.779, 123.68]", nil},
		"the same, negative":   {"scale: -1\nmean: -127.5\nstd: 127.5", nil},
		"mean 0.5, on purpose": {"scale: 1\nmean: 0.5", nil},
		"no mean":              {"mean: 0\nstd: 127.5", nil},

		"another resize":             {"size: [2, 2]\nresize: cubic", []string{`line 3: input.resize: "cubic" is none of bilinear, nearest, bicubic and area`}},
		"corners and centers":        {"align_corners: true\nhalf_pixel_centers: true", []string{"line 3: input.half_pixel_centers: it cannot be combined with align_corners"}},
		"area has no centers":        {"resize: area\nhalf_pixel_centers: true", []string{"line 3: input.half_pixel_centers: resize: area does not have it"}},
		"crop of nothing":            {"crop: 0", []string{"line 2: input.crop: 0 is not a fraction of a side"}},
		"crop in percent":            {"crop: 87.5", []string{"line 2: input.crop: 87.5 is not a fraction", "such as 0.875"}},
		"crop NaN":                   {"crop: .nan", []string{"line 2: input.crop: NaN"}},
		"another fit":                {"fit: cover", []string{`line 2: input.fit: "cover" is none of stretch, pad and crop`}},
		"other channels":             {"channels: RGB", []string{`line 2: input.channels: "RGB" is none of rgb, bgr and gray`}},
		"gray with means of colours": {"channels: gray\nscale: 1/255\nmean: [0.485, 0.456, 0.406]", []string{"line 4: input.mean: channels: gray is one channel: write one number"}},
		"scale 0":                    {"scale: [1, 0, 1]", []string{"line 2: input.scale: [1, 0, 1] makes all pixels equal"}},
		"std 0":                      {"scale: 1/255\nstd: [0.2, 0, 0.2]", []string{"line 3: input.std: [0.2, 0, 0.2] is not a standard deviation"}},
		"std below 0":                {"std: -127.5", []string{"line 2: input.std: -127.5 is not a standard deviation"}},
		"offset with mean":           {"offset: -1\nmean: 127.5", []string{"line 2: input.offset: it cannot be combined with mean or std"}},
		"offset with std":            {"std: 127.5\noffset: -1", []string{"line 3: input.offset: it cannot be combined with mean or std"}},
		"mean in 0…1, no scale":      {"mean: [0.485, 0.456, 0.406]\nstd: [0.229, 0.224, 0.225]", []string{`line 2: input.mean: [0.485, 0.456, 0.406] is for pixels from 0 to 1`, `write "scale: 1/255" as well`}},
		"std in 0…1, no scale":       {"std: 0.5", []string{"line 2: input.std: 0.5 is for pixels from 0 to 1"}},
		"mean in 0…255, scaled":      {"scale: 1/255\nmean: 127.5", []string{"line 3: input.mean: 127.5 is outside the range of the scaled pixels, 0…1"}},
		"mean below 0":               {"mean: [-103.9, -116.8, -123.7]", []string{"line 2: input.mean: [-103.9, -116.8, -123.7] is outside the range of the scaled pixels, 0…255"}},
		"more than float32 has":      {"scale: 1e300", []string{"line 2: input.scale: it makes pixels that are too large or too small for float32"}},
		"less than float32 has":      {"scale: 1e-300", []string{"line 2: input.scale: it makes pixels that are too large or too small"}},
		"two numbers":                {"scale: [1, 2]", []string{"line 2: want a number, or a list of three"}},
		"a fraction by zero":         {"scale: 1/0", []string{`line 2: "1/0" is not a number`}},
		"a word":                     {"crop: half", []string{"line 2: half is not a number"}},
		"several":                    {"crop: 2\nfit: fill\nchannels: cmyk", []string{"line 2: input.crop", "line 3: input.fit", "line 4: input.channels"}},
	} {
		dir := t.TempDir()
		modeltest.Write(t, filepath.Join(dir, SpecFile), []byte("input:\n  "+strings.ReplaceAll(test.input, "\n", "\n  ")+"\n"))
		_, err := readSpec(dir)
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), filepath.Join(dir, SpecFile)+": ") {
			t.Errorf("%s: it does not name the file: %v", name, err)
		}
	}
}

// An error about pixels that the input cannot take names the line of inceptor.yaml.
func TestBindChannels(t *testing.T) {
	bind := func(text string, dtype savedmodel.DataType) error {
		dir := t.TempDir()
		modeltest.Write(t, filepath.Join(dir, SpecFile), []byte(text))
		spec, err := readSpec(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = spec.bind(modelMetadata{signatures: map[string]savedmodel.Signature{"serving_default": {
			Inputs:  map[string]savedmodel.TensorInfo{"x": {DType: dtype, Shape: savedmodel.Shape{-1, 4, 4, 3}}},
			Outputs: map[string]savedmodel.TensorInfo{"a": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 7}}},
		}}, file: "DIR/" + SpecFile}, Images)
		return err
	}
	for name, test := range map[string]struct {
		text  string
		dtype savedmodel.DataType
		want  string // empty: it can
	}{
		"bgr":             {"input: {channels: bgr}", savedmodel.Float32, ""},
		"gray":            {"input:\n  channels: gray", savedmodel.Float32, `DIR/assets.extra/inceptor.yaml: line 2: input.channels: gray: the input "x" has three channels: leave the key out`},
		"bytes":           {"input: {scale: 1}", savedmodel.UInt8, ""},
		"bytes, inverted": {"input: {scale: -1, offset: 255}", savedmodel.UInt8, ""},
		"bytes less a mean": {
			"input:\n  mean: 127.5", savedmodel.UInt8,
			`DIR/assets.extra/inceptor.yaml: line 2: input.mean: it makes pixels of −127.5…127.5, and the input's type uint8 holds 0 to 255: leave the key out`,
		},
	} {
		err := bind(test.text, test.dtype)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestLinesOf(t *testing.T) {
	lines := linesOf([]byte("# a comment\ninput:\n  size: [2, 2]\n\n  mean: &m [1,\n    2, 3]\n  std: *m\ninputs: {a: 1}\n"))
	for key, want := range map[string]int{"input": 2, "input.size": 3, "input.mean": 5, "input.std": 7, "inputs.a": 8, "top_k": 0} {
		if lines[key] != want {
			t.Errorf("%s: line %d, want %d", key, lines[key], want)
		}
	}
	if got := (Spec{lines: lines}).at("input.mean"); got != "line 5: input.mean" {
		t.Errorf("got %q", got)
	}
	if got := (Spec{}).at("input.mean"); got != "input.mean" {
		t.Errorf("without a file: got %q", got)
	}
	if lines := linesOf([]byte("a: [")); len(lines) != 0 {
		t.Errorf("of a broken file: %v", lines)
	}
}

// The lines in docs/inputs.md for the usual ways to make pixels are valid and complete.
func TestDocumentedInputs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs", "inputs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## How a picture becomes the input\n")
	section, _, _ = strings.Cut(section, "\n## ")
	lines := regexp.MustCompile("`(input: [^`]+)`").FindAllStringSubmatch(section, -1)
	if len(lines) != 6 {
		t.Errorf("%d lines", len(lines))
	}
	made := map[conversion]bool{}
	for _, line := range lines {
		dir := t.TempDir()
		modeltest.Write(t, filepath.Join(dir, SpecFile), []byte(line[1]))
		spec, err := readSpec(dir)
		if err != nil {
			t.Errorf("%s: %v", line[1], err)
			continue
		}
		p, _ := spec.Input.preprocessing(evidence{dtype: savedmodel.Float32})
		made[p.conversion()] = true
	}
	for _, c := range []conversion{torchRGB, caffeBGR, minusOneToOne} {
		if !made[c] {
			t.Errorf("no line makes pixels %v", c)
		}
	}
}

// What inceptor.yaml leaves out has its default, as without the file.
func TestReadSpec(t *testing.T) {
	for name, test := range map[string]struct {
		yaml   string
		labels bool // assets/labels.txt is there
		want   Spec
	}{
		"no file":         {want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, TopK: 5}},
		"no file, labels": {labels: true, want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, Labels: Labels{File: "labels.txt"}, TopK: 5}},
		"nothing said":    {yaml: "{}", labels: true, want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, Labels: Labels{File: "labels.txt"}, TopK: 5}},
		"no labels":       {yaml: "{labels: ''}", labels: true, want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, TopK: 5}},
		"all said": {
			yaml: "{signature: s, input: {size: [3, 4], resize: area, align_corners: true, scale: 2, offset: -3}, output: o, labels: l, top_k: 7}",
			want: Spec{Signature: "s", Input: Input{Size: [2]int{3, 4}, Resize: "area", AlignCorners: new(true), Scale: new(same(2)), Offset: new(same(-3))}, Output: Output{Scores: "o"}, Labels: Labels{File: "l"}, TopK: 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			modeltest.TinyOf(1).Write(t, dir)
			var errs []error
			if test.yaml == "" {
				errs = append(errs, os.Remove(filepath.Join(dir, SpecFile)))
			} else {
				modeltest.Write(t, filepath.Join(dir, SpecFile), []byte(test.yaml))
			}
			if !test.labels {
				errs = append(errs, os.Remove(filepath.Join(dir, "assets/labels.txt")))
			}
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			got, err := readSpec(dir)
			got.lines = nil
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}
