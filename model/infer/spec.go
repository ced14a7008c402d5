package infer

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

// SpecFile lies beside a SavedModel, and says how to make its input and how to read its output.
// TensorFlow ignores what is in assets.extra.
const SpecFile = "assets.extra/inceptor.yaml"

// A Spec is the content of a version's assets.extra/inceptor.yaml. Every field is optional: a
// missing one is found in the model, or else assumed. docs/models.md and the file's schema are made
// of the struct tags, where code is in single quotes.
type Spec struct {
	// Nil: the graph is found, see savedmodel.Options. Empty but not nil: the graph without tags.
	Tags       []string         `yaml:"tags" default:"found; see [below](#which-graph-is-run)" help:"All tags of the graph to run: '[serve, gpu]'; '[]' is the graph without tags."`
	Signature  string           `yaml:"signature" default:"'serving_default', or the only one" help:"The signature to run."`
	Input      Input            `yaml:"input"`
	Inputs     map[string]Value `yaml:"inputs" default:"none" help:"Fixed values for inputs that are not fed from records: '{NAME: VALUE}'."`
	Output     Output           `yaml:"output" default:"found; none, if 'outputs' is there" help:"The output with the scores, or '{scores: KEY, classes: KEY}'; see [outputs.md](outputs.md#scores-and-classes)."`
	Activation string           `yaml:"activation" enum:"softmax,sigmoid" default:"none" help:"'softmax' or 'sigmoid', which turn the scores into probabilities."`
	// If Output is not set, an answer has only these.
	Outputs []string `yaml:"outputs" default:"none" help:"Outputs to return as arrays: '[KEY, …]'; see [outputs.md](outputs.md#arrays)."`
	Labels  Labels   `yaml:"labels" default:"'labels.txt', if it is there" help:"The file with a label for each class, in 'assets' or beside 'saved_model.pb', or '{file: FILE, offset: N, names: FILE}'; see [outputs.md](outputs.md#the-words-of-classes). '\"\"': no labels."`
	TopK    int      `yaml:"top_k" default:"'5'" help:"How many classes an answer lists, the best first."`

	lines map[string]int // line of each key in the file, such as input.scale
}

// Input says how an image becomes the model's input; see Preprocessing. Fields that are nil or
// empty are not set. A signature that takes strings gets the encoded image unchanged, and needs
// none of them.
type Input struct {
	// To name an input of strings is to say that it takes encoded images, even if the graph does
	// not show that it decodes them.
	Key string `yaml:"key" default:"found" help:"The input that takes the image."`

	Size             [2]int   `yaml:"size" default:"from the signature" help:"Height and width that images are resized to; see [inputs.md](inputs.md#how-a-picture-becomes-the-input)."`
	Layout           string   `yaml:"layout" enum:"nhwc,nchw" default:"from the signature, else 'nhwc'" help:"The order of the input's dimensions, where its shape does not tell; see [inputs.md](inputs.md#inputs-of-pixels)."`
	Crop             *float64 `yaml:"crop" default:"'1'" help:"The fraction of each side that is kept, in the middle, before the resize, as by 'tf.image.central_crop'. TF-Slim's is '0.875'."`
	Fit              string   `yaml:"fit" enum:"stretch,pad,crop" default:"'stretch'" help:"'stretch' changes the image's aspect ratio to the input's. 'pad' keeps it and adds zeros around, as 'tf.image.resize_with_pad' does. 'crop' takes the largest part in the middle with the input's aspect ratio, as Keras' 'smart_resize' does."`
	Resize           string   `yaml:"resize" enum:"bilinear,nearest,bicubic,area" default:"'bilinear'" help:"'bilinear', 'nearest', 'bicubic' or 'area', as TensorFlow's operations of these names do it. All but 'area' read only a few of the pixels of a much larger image."`
	AlignCorners     *bool    `yaml:"align_corners" default:"'false'" help:"The argument of this name of TensorFlow's resize operations."`
	HalfPixelCenters *bool    `yaml:"half_pixel_centers" default:"see [inputs.md](inputs.md#which-pixels-a-model-takes)" help:"The argument of this name of TensorFlow's resize operations; 'area' has none."`

	Channels string      `yaml:"channels" enum:"rgb,bgr,gray" default:"'gray' where the input has one channel, else 'rgb'" help:"'rgb', 'bgr', or 'gray' as 'tf.image.rgb_to_grayscale' makes it. Lists of numbers follow this order."`
	Scale    *PerChannel `yaml:"scale" default:"see [inputs.md](inputs.md#which-pixels-a-model-takes)" help:"input = pixel × scale + offset, with pixels from 0 to 255. It is '1' if only 'offset', 'mean' or 'std' is given."`
	Offset   *PerChannel `yaml:"offset" default:"see [inputs.md](inputs.md#which-pixels-a-model-takes)" help:"See 'scale'. It is '0' if only 'scale' is given."`
	Mean     *PerChannel `yaml:"mean" default:"'0'" help:"input = (pixel × scale − mean) / std, in place of an offset."`
	Std      *PerChannel `yaml:"std" default:"'1'" help:"See 'mean'."`

	Orientation string `yaml:"orientation" enum:"exif" default:"none" help:"'exif' turns images upright as their EXIF data say; see [inputs.md](inputs.md#as-a-person-sees-it)."`
	// Empty: alpha is dropped, as TensorFlow does. WebP gets a white background.
	Background string `yaml:"background" default:"none" help:"'white', 'black' or '\"#rrggbb\"' (in quotes): the colour behind the transparent parts of a PNG or WebP."`
}

// defaultSignature is run if none is named, as in TensorFlow.
const defaultSignature = "serving_default"

// defaultLabels is the file of labels if inceptor.yaml names none.
const defaultLabels = "labels.txt"

// defaultSpec returns the values of the keys that the file leaves out.
func defaultSpec() Spec {
	return Spec{Signature: defaultSignature, Input: Input{Resize: "bilinear"}, TopK: 5}
}

// readSpec reads the spec of the version in dir. Keys that the file leaves out have their defaults;
// without the file, all have.
func readSpec(dir string) (spec Spec, err error) {
	spec = defaultSpec()
	if _, err := os.Stat(filepath.Join(dir, labelsPath(dir, defaultLabels))); err == nil {
		spec.Labels.File = defaultLabels
	}
	path := specPath(dir)
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

// at returns a key with its line, such as "line 5: input.mean", to begin an error with.
func (s Spec) at(key string) string {
	if line := s.lines[key]; line > 0 {
		return fmt.Sprintf("line %d: %s", line, key)
	}
	return key
}

// errorAt returns an error about a key.
func (s Spec) errorAt(key, format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{s.at(key)}, args...)...)
}

func (s Spec) validate() error {
	errs := slices.Concat(s.validateGeometry(), s.validateNumbers())
	if slices.Contains(s.Tags, "") {
		errs = append(errs, s.errorAt("tags", "a tag is empty: write [] for the graph without tags"))
	}
	if _, err := s.view(); err != nil {
		errs = append(errs, err)
	}
	if a := s.Activation; a != "" && a != softmax && a != sigmoid {
		errs = append(errs, s.errorAt("activation", "%q is neither softmax nor sigmoid", a))
	}
	for i, key := range s.Outputs {
		if key == "" || slices.Contains(s.Outputs[:i], key) {
			errs = append(errs, s.errorAt("outputs", "%q is empty or listed twice", key))
		}
	}
	if s.TopK < 1 {
		errs = append(errs, s.errorAt("top_k", "%d is less than 1", s.TopK))
	}
	errs = append(errs, s.validateLabels()...)
	return errors.Join(errs...)
}

// validateGeometry checks the keys that say where pixels go.
func (s Spec) validateGeometry() (errs []error) {
	in := s.Input
	wrong := func(key, format string, args ...any) { errs = append(errs, s.errorAt("input."+key, format, args...)) }
	isTrue := func(b *bool) bool { return b != nil && *b }
	if _, ok := resizeOps[in.Resize]; !ok {
		wrong("resize", "%q is none of bilinear, nearest, bicubic and area", in.Resize)
	}
	switch {
	case isTrue(in.AlignCorners) && isTrue(in.HalfPixelCenters):
		wrong("half_pixel_centers", "it cannot be combined with align_corners: leave one out")
	case isTrue(in.HalfPixelCenters) && in.Resize == "area":
		wrong("half_pixel_centers", "resize: area does not have it: leave one out")
	}
	if !slices.Contains([]pixels.Layout{"", pixels.ChannelsLast, pixels.ChannelsFirst}, pixels.Layout(in.Layout)) {
		wrong("layout", "%q is neither nhwc nor nchw", in.Layout)
	}
	if x := in.Crop; x != nil && !(*x > 0 && *x <= 1) {
		wrong("crop", "%v is not a fraction of a side: write a number over 0 and at most 1, such as 0.875", *x)
	}
	if !slices.Contains([]pixels.Fit{"", pixels.Stretch, pixels.Pad, pixels.Crop}, pixels.Fit(in.Fit)) {
		wrong("fit", "%q is none of stretch, pad and crop", in.Fit)
	}
	return errs
}

// validateNumbers checks the keys that say how each pixel is converted.
func (s Spec) validateNumbers() (errs []error) {
	in := s.Input
	wrong := func(key, format string, args ...any) { errs = append(errs, s.errorAt("input."+key, format, args...)) }
	if !slices.Contains([]pixels.Channels{"", pixels.RGB, pixels.BGR, pixels.Gray}, pixels.Channels(in.Channels)) {
		wrong("channels", "%q is none of rgb, bgr and gray", in.Channels)
	}
	if key := in.perChannelKey(); key != "" && pixels.Channels(in.Channels) == pixels.Gray {
		wrong(key, "channels: gray is one channel: write one number")
	}
	if x := in.Scale; x != nil && slices.Contains(x[:], 0) {
		wrong("scale", "%v makes all pixels equal: write other numbers than 0", *x)
	}
	if x := in.Std; x != nil && !(slices.Min(x[:]) > 0) {
		wrong("std", "%v is not a standard deviation: write numbers over 0", *x)
	}
	if in.Offset != nil && (in.Mean != nil || in.Std != nil) {
		wrong("offset", "it cannot be combined with mean or std: the input is (pixel × scale − mean) / std or pixel × scale + offset")
		return errs
	}
	if x := in.Mean; x != nil {
		scaled := conversion{scale: *cmp.Or(in.Scale, new(same(1)))}
		if far := x.each(scaled.scale, beyond); slices.Max(far[:]) > 0 {
			wrong("mean", "%v is outside the range of the scaled pixels, %v: write the mean of pixel × scale", *x, scaled)
		}
	}
	if x := cmp.Or(in.Mean, in.Std); x != nil && in.Scale == nil && slices.Max(x[:]) <= 1 && *x != same(0) && *x != same(1) {
		wrong(in.conversionKeys()[0].key, `%v is for pixels from 0 to 1, and pixels are from 0 to 255: write "scale: 1/255" as well`, *x)
	}
	if set := in.conversionKeys(); len(set) > 0 && errs == nil && !in.conversion("").finite() {
		wrong(set[0].key, "it makes pixels that are too large or too small for float32: write other numbers")
	}
	return errs
}

// beyond returns how far a mean is outside the range of the scaled pixels; 0 or less: it is inside.
func beyond(mean, scale float64) float64 {
	return max(min(0, 255*scale)-mean, mean-max(0, 255*scale))
}

// conversionKeys returns those of the keys that convert pixels which are set.
func (in Input) conversionKeys() (set []conversionKey) {
	for _, one := range []conversionKey{{"scale", in.Scale}, {"offset", in.Offset}, {"mean", in.Mean}, {"std", in.Std}} {
		if one.value != nil {
			set = append(set, one)
		}
	}
	return set
}

// A conversionKey is a key that converts pixels, with its value.
type conversionKey struct {
	key   string
	value *PerChannel
}

// perChannelKey returns a key whose numbers differ between the channels; empty: none does.
func (in Input) perChannelKey() string {
	for _, one := range in.conversionKeys() {
		if !one.value.uniform() {
			return one.key
		}
	}
	return ""
}
