package model

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// specFile says, beside a SavedModel, how its input is made and its output
// read. Files in assets.extra are the model's, but not TensorFlow's.
const specFile = "assets.extra/inceptor.yaml"

// A Spec is what a version says about itself in assets.extra/inceptor.yaml.
// Every field is optional: what is missing follows from the model, or is assumed
// where that says nothing.
type Spec struct {
	// Tags are those of the graph that is run, all of them; empty, but not nil: of the graph
	// without tags. nil: that is found, see savedmodel.Options.
	Tags []string `yaml:"tags"`
	// Signature is the key of the signature that is run: "serving_default".
	Signature string `yaml:"signature"`
	Input     Input  `yaml:"input"`
	// Inputs are values for the signature's inputs that take nothing from records.
	Inputs map[string]Value `yaml:"inputs"`
	Output Output           `yaml:"output"`
	// Labels is a file in assets with a line for each class. Where the file does
	// not say, it is labels.txt if that is there.
	Labels string `yaml:"labels"`
	// TopK is how many classes an answer lists, the best first.
	TopK int `yaml:"top_k"`
}

// Input is what the file says of how an image becomes the model's input; see
// Preprocessing. What is nil is not said. A signature that takes strings gets the
// encoded image as it came, and needs none of this.
type Input struct {
	// Key is the signature's input that takes the image. Strings are encoded images
	// then, though the graph does not show that it decodes them.
	Key string `yaml:"key"`

	Size             [2]int   `yaml:"size"`   // height, width
	Resize           string   `yaml:"resize"` // bilinear or area
	AlignCorners     *bool    `yaml:"align_corners"`
	HalfPixelCenters *bool    `yaml:"half_pixel_centers"`
	Scale            *float64 `yaml:"scale"`
	Offset           *float64 `yaml:"offset"`

	// Orientation is exif for pictures that are turned as their EXIF says;
	// empty: they stay as they are stored, as in TensorFlow.
	Orientation string `yaml:"orientation"`
	// Background is what shows where a picture is transparent: white, black or
	// #rrggbb; empty: alpha is dropped, as in TensorFlow, but for WebP, which
	// lies on white.
	Background string `yaml:"background"`
}

// defaultSignature is the signature that TensorFlow runs where none is named.
const defaultSignature = "serving_default"

// defaultSpec is what holds where the file says nothing.
func defaultSpec() Spec {
	return Spec{Signature: defaultSignature, Input: Input{Resize: "bilinear"}, TopK: 5}
}

// readSpec reads the spec of the version in dir. What the file does not say has
// its default, and so has everything in a version without the file.
func readSpec(dir string) (spec Spec, err error) {
	spec = defaultSpec()
	if _, err := os.Stat(filepath.Join(dir, "assets/labels.txt")); err == nil {
		spec.Labels = "labels.txt"
	}
	path := filepath.Join(dir, specFile)
	b, err := readVersionFile(path, maxSettingsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return spec, nil
	}
	if err != nil {
		return spec, err
	}
	if err := decodeYAML(b, &spec); err != nil {
		return spec, fmt.Errorf("%s: %w", path, err)
	}
	if emptyBackground(b) {
		return spec, fmt.Errorf(`%s: input.background has no value; a # begins a comment, write "#rrggbb" with the quotes`, path)
	}
	if err := spec.validate(); err != nil {
		return spec, fmt.Errorf("%s: %w", path, err)
	}
	return spec, nil
}

func (s Spec) validate() error {
	var errs []error
	if s.Input.Resize != "bilinear" && s.Input.Resize != "area" {
		errs = append(errs, fmt.Errorf("input.resize: %q is neither bilinear nor area", s.Input.Resize))
	}
	if a, h := s.Input.AlignCorners, s.Input.HalfPixelCenters; a != nil && h != nil && *a && *h {
		errs = append(errs, errors.New("input: align_corners and half_pixel_centers exclude each other"))
	}
	if x := s.Input.Scale; x != nil && (*x == 0 || math.IsNaN(*x) || math.IsInf(*x, 0)) {
		errs = append(errs, fmt.Errorf("input.scale: %v makes all pixels alike", *x))
	}
	if x := s.Input.Offset; x != nil && (math.IsNaN(*x) || math.IsInf(*x, 0)) {
		errs = append(errs, fmt.Errorf("input.offset: %v makes all pixels alike", *x))
	}
	if slices.Contains(s.Tags, "") {
		errs = append(errs, errors.New("tags: one is empty: write [] for the graph without tags"))
	}
	if _, err := s.Input.view(); err != nil {
		errs = append(errs, err)
	}
	if s.TopK < 1 {
		errs = append(errs, fmt.Errorf("top_k: %d is less than 1", s.TopK))
	}
	if s.Labels != "" && !filepath.IsLocal(s.Labels) {
		errs = append(errs, fmt.Errorf("labels: %q is not a file in assets", s.Labels))
	}
	return errors.Join(errs...)
}
