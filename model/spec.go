package model

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"inceptor/model/pixels"
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
	// Labels are the words of classes. Where the file does not say, they are in labels.txt, if
	// that is there.
	Labels Labels `yaml:"labels"`
	// TopK is how many classes an answer lists, the best first.
	TopK int `yaml:"top_k"`

	lines map[string]int // in the file, by key, such as input.scale
}

// Input is what the file says of how an image becomes the model's input; see
// Preprocessing. What is nil is not said. A signature that takes strings gets the
// encoded image as it came, and needs none of this.
type Input struct {
	// Key is the signature's input that takes the image. Strings are encoded images
	// then, though the graph does not show that it decodes them.
	Key string `yaml:"key"`

	Size             [2]int   `yaml:"size"` // height, width
	Crop             *float64 `yaml:"crop"` // part of each side, in the middle, that is left
	Fit              string   `yaml:"fit"`  // stretch, pad or crop; empty: stretch
	Resize           string   `yaml:"resize"`
	AlignCorners     *bool    `yaml:"align_corners"`
	HalfPixelCenters *bool    `yaml:"half_pixel_centers"`

	// Channels are rgb, bgr or gray; empty: as the input's shape tells, else rgb. Numbers
	// for each channel are in that order.
	Channels string      `yaml:"channels"`
	Scale    *PerChannel `yaml:"scale"`
	Offset   *PerChannel `yaml:"offset"`
	Mean     *PerChannel `yaml:"mean"` // of the scaled pixels
	Std      *PerChannel `yaml:"std"`

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

// usualLabels is the file of labels that need not be named.
const usualLabels = "labels.txt"

// defaultSpec is what holds where the file says nothing.
func defaultSpec() Spec {
	return Spec{Signature: defaultSignature, Input: Input{Resize: "bilinear"}, TopK: 5}
}

// readSpec reads the spec of the version in dir. What the file does not say has
// its default, and so has everything in a version without the file.
func readSpec(dir string) (spec Spec, err error) {
	spec = defaultSpec()
	if _, err := os.Stat(filepath.Join(dir, labelsPath(dir, usualLabels))); err == nil {
		spec.Labels.File = usualLabels
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
	spec.lines = linesOf(b)
	if emptyBackground(b) {
		return spec, fmt.Errorf(`%s: %s has no value; a # begins a comment, write "#rrggbb" with the quotes`, path, spec.at("input.background"))
	}
	if err := spec.validate(); err != nil {
		return spec, fmt.Errorf("%s: %w", path, err)
	}
	return spec, nil
}

// at is a key with its line, as an error begins with it.
func (s Spec) at(key string) string {
	if line := s.lines[key]; line > 0 {
		return fmt.Sprintf("line %d: %s", line, key)
	}
	return key
}

// wrong is an error about a key.
func (s Spec) wrong(key, format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{s.at(key)}, args...)...)
}

func (s Spec) validate() error {
	errs := slices.Concat(s.validateGeometry(), s.validateNumbers())
	if slices.Contains(s.Tags, "") {
		errs = append(errs, s.wrong("tags", "one is empty: write [] for the graph without tags"))
	}
	if _, err := s.view(); err != nil {
		errs = append(errs, err)
	}
	if s.TopK < 1 {
		errs = append(errs, s.wrong("top_k", "%d is less than 1", s.TopK))
	}
	errs = append(errs, s.validateLabels()...)
	return errors.Join(errs...)
}

// validateGeometry checks what says which pixels go where.
func (s Spec) validateGeometry() (errs []error) {
	in := s.Input
	wrong := func(key, format string, args ...any) { errs = append(errs, s.wrong("input."+key, format, args...)) }
	isTrue := func(b *bool) bool { return b != nil && *b }
	if _, ok := resizeOps[in.Resize]; !ok {
		wrong("resize", "%q is none of bilinear, nearest, bicubic and area", in.Resize)
	}
	switch {
	case isTrue(in.AlignCorners) && isTrue(in.HalfPixelCenters):
		wrong("half_pixel_centers", "it excludes align_corners: leave one out")
	case isTrue(in.HalfPixelCenters) && in.Resize == "area":
		wrong("half_pixel_centers", "resize: area has none: leave one out")
	}
	if x := in.Crop; x != nil && !(*x > 0 && *x <= 1) {
		wrong("crop", "%v is not a part of a side: write a number over 0, at most 1, such as 0.875", *x)
	}
	if !slices.Contains([]pixels.Fit{"", pixels.Stretch, pixels.Pad, pixels.Crop}, pixels.Fit(in.Fit)) {
		wrong("fit", "%q is none of stretch, pad and crop", in.Fit)
	}
	return errs
}

// validateNumbers checks what is made of each pixel.
func (s Spec) validateNumbers() (errs []error) {
	in := s.Input
	wrong := func(key, format string, args ...any) { errs = append(errs, s.wrong("input."+key, format, args...)) }
	if !slices.Contains([]pixels.Channels{"", pixels.RGB, pixels.BGR, pixels.Gray}, pixels.Channels(in.Channels)) {
		wrong("channels", "%q is none of rgb, bgr and gray", in.Channels)
	}
	if key := in.colours(); key != "" && pixels.Channels(in.Channels) == pixels.Gray {
		wrong(key, "channels: gray are one channel: write one number")
	}
	if x := in.Scale; x != nil && slices.Contains(x[:], 0) {
		wrong("scale", "%v makes all pixels alike", *x)
	}
	if x := in.Std; x != nil && !(slices.Min(x[:]) > 0) {
		wrong("std", "%v is no deviation to divide by: write numbers over 0", *x)
	}
	if in.Offset != nil && (in.Mean != nil || in.Std != nil) {
		wrong("offset", "mean and std exclude it: input = (pixel × scale − mean) / std, or pixel × scale + offset")
		return errs
	}
	if x := in.Mean; x != nil {
		scaled := conversion{scale: *cmp.Or(in.Scale, new(same(1)))}
		if far := x.each(scaled.scale, beyond); slices.Max(far[:]) > 0 {
			wrong("mean", "%v is beyond the pixels, which are %v with the scale: give the mean of pixel × scale", *x, scaled)
		}
	}
	if x := cmp.Or(in.Mean, in.Std); x != nil && in.Scale == nil && slices.Max(x[:]) <= 1 && *x != same(0) && *x != same(1) {
		wrong(in.numbers()[0].key, `%v is that of pixels from 0 to 1, and they are from 0 to 255: write "scale: 1/255" as well`, *x)
	}
	if set := in.numbers(); len(set) > 0 && errs == nil && !in.conversion("").finite() {
		wrong(set[0].key, "what becomes of the pixels is no number, or too small for one, in float32")
	}
	return errs
}

// beyond is how far a mean is outside of the pixels that a scale makes.
func beyond(mean, scale float64) float64 {
	return max(min(0, 255*scale)-mean, mean-max(0, 255*scale))
}

// numbers are the keys that say what is made of each pixel, with their values.
func (in Input) numbers() (set []channelNumbers) {
	for _, one := range []channelNumbers{{"scale", in.Scale}, {"offset", in.Offset}, {"mean", in.Mean}, {"std", in.Std}} {
		if one.value != nil {
			set = append(set, one)
		}
	}
	return set
}

type channelNumbers struct {
	key   string
	value *PerChannel
}

// colours is a key that has different numbers for the channels; empty: none has.
func (in Input) colours() string {
	for _, one := range in.numbers() {
		if !one.value.uniform() {
			return one.key
		}
	}
	return ""
}
