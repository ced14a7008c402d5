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
// where that says nothing. The tags are what docs/models.md and the file's schema say
// of the keys, with code in single quotes.
type Spec struct {
	// Tags that are empty, but not nil, are those of the graph without tags. nil: the graph is
	// found, see savedmodel.Options.
	Tags       []string         `yaml:"tags" default:"found; see [below](#which-graph-is-run)" help:"The tags of the graph that is run, all of them: '[serve, gpu]'; '[]': the graph without tags."`
	Signature  string           `yaml:"signature" default:"'serving_default', or the only one" help:"The signature that is run."`
	Input      Input            `yaml:"input"`
	Inputs     map[string]Value `yaml:"inputs" default:"none" help:"Values for inputs that take nothing from records: '{NAME: VALUE}'."`
	Output     Output           `yaml:"output" default:"found; none, if 'outputs' is there" help:"The output with the scores, or '{scores: KEY, classes: KEY}'; see [outputs.md](outputs.md#scores-and-classes)."`
	Activation string           `yaml:"activation" enum:"softmax,sigmoid" default:"none" help:"'softmax' or 'sigmoid': it makes probabilities of the scores."`
	// Without Output, an answer has nothing else.
	Outputs []string `yaml:"outputs" default:"none" help:"Outputs that an answer has as arrays: '[KEY, …]'; see [outputs.md](outputs.md#arrays)."`
	Labels  Labels   `yaml:"labels" default:"'labels.txt', if it is there" help:"The file with a label for each class, in 'assets' or beside 'saved_model.pb', or '{file: FILE, offset: N, names: FILE}'; see [outputs.md](outputs.md#the-words-of-classes). '\"\"': no labels."`
	TopK    int      `yaml:"top_k" default:"'5'" help:"Classes in an answer, the best first."`

	lines map[string]int // in the file, by key, such as input.scale
}

// Input is what the file says of how an image becomes the model's input; see
// Preprocessing. What is nil or empty is not said. A signature that takes strings gets
// the encoded image as it came, and needs none of this.
type Input struct {
	// Strings are encoded images if this names their input, though the graph does not
	// show that it decodes them.
	Key string `yaml:"key" default:"found" help:"The input that takes the image."`

	Size             [2]int   `yaml:"size" default:"from the signature" help:"Height and width that images are resized to; see [inputs.md](inputs.md#how-a-picture-becomes-the-input)."`
	Layout           string   `yaml:"layout" enum:"nhwc,nchw" default:"from the signature, else 'nhwc'" help:"The order of the input's dimensions, where its shape does not tell; see [inputs.md](inputs.md#inputs-of-pixels)."`
	Crop             *float64 `yaml:"crop" default:"'1'" help:"The part of each side, in the middle, that is kept before the resize, as by 'tf.image.central_crop'. TF-Slim's is '0.875'."`
	Fit              string   `yaml:"fit" enum:"stretch,pad,crop" default:"'stretch'" help:"'stretch' changes an image's aspect ratio to the input's. 'pad' keeps it, with zeros around, as 'tf.image.resize_with_pad' does. 'crop' takes the largest part in the middle that has the input's aspect ratio, as Keras' 'smart_resize' does."`
	Resize           string   `yaml:"resize" enum:"bilinear,nearest,bicubic,area" default:"'bilinear'" help:"'bilinear', 'nearest', 'bicubic' or 'area': TensorFlow's operations of these names. All but 'area' read only a few pixels of a much larger image."`
	AlignCorners     *bool    `yaml:"align_corners" default:"'false'" help:"As TensorFlow's operations for resizing take it."`
	HalfPixelCenters *bool    `yaml:"half_pixel_centers" default:"see [inputs.md](inputs.md#which-pixels-a-model-takes)" help:"As TensorFlow's operations for resizing take it; 'area' has none."`

	Channels string      `yaml:"channels" enum:"rgb,bgr,gray" default:"'gray' where the input has one channel, else 'rgb'" help:"'rgb', 'bgr', or 'gray' as 'tf.image.rgb_to_grayscale' makes it. A list of numbers has this order."`
	Scale    *PerChannel `yaml:"scale" default:"see [inputs.md](inputs.md#which-pixels-a-model-takes)" help:"input = pixel × scale + offset, with pixels from 0 to 255. It is '1' where only 'offset', 'mean' or 'std' is given."`
	Offset   *PerChannel `yaml:"offset" default:"see [inputs.md](inputs.md#which-pixels-a-model-takes)" help:"See 'scale'. It is '0' where only 'scale' is given."`
	Mean     *PerChannel `yaml:"mean" default:"'0'" help:"input = (pixel × scale − mean) / std, in place of an offset."`
	Std      *PerChannel `yaml:"std" default:"'1'" help:"See 'mean'."`

	Orientation string `yaml:"orientation" enum:"exif" default:"none" help:"'exif': images are turned upright as their EXIF says; see [inputs.md](inputs.md#as-a-person-sees-it)."`
	// Empty: alpha is dropped, as in TensorFlow, but for WebP, which lies on white.
	Background string `yaml:"background" default:"none" help:"'white', 'black' or '\"#rrggbb\"' (in quotes): the colour behind a PNG or WebP where it is transparent."`
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
	if a := s.Activation; a != "" && a != softmax && a != sigmoid {
		errs = append(errs, s.wrong("activation", "%q is neither softmax nor sigmoid", a))
	}
	for i, key := range s.Outputs {
		if key == "" || slices.Contains(s.Outputs[:i], key) {
			errs = append(errs, s.wrong("outputs", "%q is empty, or there twice", key))
		}
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
	if !slices.Contains([]pixels.Layout{"", pixels.ChannelsLast, pixels.ChannelsFirst}, pixels.Layout(in.Layout)) {
		wrong("layout", "%q is neither nhwc nor nchw", in.Layout)
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
