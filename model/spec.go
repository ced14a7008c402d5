package model

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// specFile says, beside a SavedModel, how its input is made and its output
// read. Files in assets.extra are the model's, but not TensorFlow's.
const specFile = "assets.extra/inceptor.yaml"

// A Spec is what a version says about itself in assets.extra/inceptor.yaml.
// Every field is optional: what is missing follows from the signature, and
// from Inception's conventions where that says nothing.
type Spec struct {
	// Signature is the key of the signature that is run: "serving_default".
	Signature string `yaml:"signature"`
	Input     Input  `yaml:"input"`
	// Output is the key of the signature's output with the scores, float32 of
	// shape [N, classes]; it may be missing where there is only one. For a model
	// of rows it may be any float32 of shape [N, n] or [N].
	Output string `yaml:"output"`
	// Labels is a file in assets with a line for each class.
	Labels string `yaml:"labels"`
	// TopK is how many classes an answer lists, the best first.
	TopK int `yaml:"top_k"`
}

// Input says how an image becomes the model's input: decoded to RGB, resized
// to Size without keeping the aspect ratio, then pixel*Scale + Offset with
// pixels from 0 to 255. A signature that takes strings gets the encoded image
// as it came, and needs none of this.
type Input struct {
	Size             [2]int  `yaml:"size"`   // height, width
	Resize           string  `yaml:"resize"` // bilinear or area
	AlignCorners     bool    `yaml:"align_corners"`
	HalfPixelCenters bool    `yaml:"half_pixel_centers"`
	Scale            float64 `yaml:"scale"`
	Offset           float64 `yaml:"offset"`

	// Orientation is exif for pictures that are turned as their EXIF says;
	// empty: they stay as they are stored, as in TensorFlow.
	Orientation string `yaml:"orientation"`
	// Background is what shows where a picture is transparent: white, black or
	// #rrggbb; empty: alpha is dropped, as in TensorFlow, but for WebP, which
	// lies on white.
	Background string `yaml:"background"`
}

// defaultSpec has Inception's conventions: the weights that Keras and TensorFlow
// Slim publish take pixels from -1 to 1.
func defaultSpec() Spec {
	return Spec{
		Signature: "serving_default",
		Input:     Input{Resize: "bilinear", Scale: 1 / 127.5, Offset: -1},
		TopK:      5,
	}
}

// readSpec reads the spec of the version in dir; found is false if it has none.
func readSpec(dir string) (spec Spec, found bool, err error) {
	spec = defaultSpec()
	path := filepath.Join(dir, specFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "assets/labels.txt")); err == nil {
			spec.Labels = "labels.txt"
		}
		return spec, false, nil
	}
	if err != nil {
		return spec, false, err
	}
	// Once there is a spec, an input scale is not guessed.
	spec.Input.Scale, spec.Input.Offset = 1, 0
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&spec); err != nil {
		return spec, true, fmt.Errorf("%s: %w", path, err)
	}
	if emptyBackground(b) {
		return spec, true, fmt.Errorf(`%s: input.background has no value; a # begins a comment, write "#rrggbb" with the quotes`, path)
	}
	if err := spec.validate(); err != nil {
		return spec, true, fmt.Errorf("%s: %w", path, err)
	}
	return spec, true, nil
}

func (s Spec) validate() error {
	var errs []error
	if s.Input.Resize != "bilinear" && s.Input.Resize != "area" {
		errs = append(errs, fmt.Errorf("input.resize: %q is neither bilinear nor area", s.Input.Resize))
	}
	if s.Input.AlignCorners && s.Input.HalfPixelCenters {
		errs = append(errs, errors.New("input: align_corners and half_pixel_centers exclude each other"))
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

// A signature is what a version's signature takes and gives, with the spec
// completed from it.
type signature struct {
	Spec
	content  Content
	inputKey string              // unless the content is Rows
	dtype    savedmodel.DataType // of the input: float32, uint8 or string
	feeds    []feed              // in place of both, if the content is Rows
	classes  int                 // 0: the signature does not say
	maxBatch int                 // 0: any
}

// inputs are the keys of what is fed, in that order.
func (bound signature) inputs() []string {
	if bound.content == Rows {
		return keysOf(bound.feeds)
	}
	return []string{bound.inputKey}
}

// bind completes the spec from the signature that it names, and checks the one
// against the other.
func (s Spec) bind(signatures map[string]savedmodel.Signature, c Content) (signature, error) {
	sig, ok := signatures[s.Signature]
	if !ok {
		return signature{}, fmt.Errorf("no signature %q, only %q", s.Signature, slices.Sorted(maps.Keys(signatures)))
	}
	bound := signature{Spec: s, content: c}
	inputs := bound.bindInput
	if c == Rows {
		inputs = bound.bindRow
	}
	err := inputs(sig.Inputs)
	if key := s.Input.decides(); err == nil && key != "" && (c == Rows || bound.dtype == savedmodel.String) {
		err = fmt.Errorf("%s: %s: the input is not pixels, so that no image is decoded for it here; "+
			"leave the key out, or name a signature that takes pixels", specFile, key)
	}
	if err == nil {
		err = bound.bindOutput(sig.Outputs)
	}
	if err != nil {
		return signature{}, fmt.Errorf("signature %q: %w", s.Signature, err)
	}
	return bound, nil
}

// bindInput is for images and tf.Examples.
func (bound *signature) bindInput(inputs map[string]savedmodel.TensorInfo) error {
	if len(inputs) != 1 {
		return fmt.Errorf("has the inputs %q, want one", slices.Sorted(maps.Keys(inputs)))
	}
	for key, in := range inputs {
		bound.inputKey, bound.dtype = key, in.DType
		shape := in.Shape
		switch in.DType {
		case savedmodel.String:
			if shape != nil && len(shape) != 1 {
				return fmt.Errorf("input %q: strings of shape %v, want [N]", key, shape)
			}
		case savedmodel.Float32, savedmodel.UInt8:
			if bound.content == Examples {
				return fmt.Errorf("input %q: %v, want strings, which hold tf.Examples", key, in.DType)
			}
			if len(shape) != 4 || (shape[3] != 3 && shape[3] != -1) {
				return fmt.Errorf("input %q: shape %v is not [N, height, width, 3]", key, shape)
			}
			for i := range bound.Input.Size {
				size := &bound.Input.Size[i]
				switch dim := int(shape[1+i]); {
				case *size == 0 && dim > 0:
					*size = dim
				case *size <= 0:
					return fmt.Errorf("input %q: its shape %v does not tell the size, and no spec does", key, shape)
				case dim > 0 && dim != *size:
					return fmt.Errorf("input %q: shape %v does not take the spec's size %v", key, shape, bound.Input.Size)
				}
			}
			if h, w := bound.Input.Size[0], bound.Input.Size[1]; max(h, w) > maxInputSide || h*w > maxInputPixels {
				return fmt.Errorf("input %q: its size %d×%d is over %d on a side, or over %d pixels: memory for it is taken for each image",
					key, h, w, maxInputSide, maxInputPixels)
			}
		default:
			return fmt.Errorf("input %q: %v, want float32, uint8 or string", key, in.DType)
		}
		if err := bound.bindBatch(key, shape); err != nil {
			return err
		}
	}
	return nil
}

// What a model may take of one image. A model server says what it takes, so that is
// bounded like everything from outside.
const (
	maxInputSide   = 16_384
	maxInputPixels = 1 << 26 // 800 MB in float32
)

// bindRow takes any inputs of types that JSON has, if their rows have one size.
func (bound *signature) bindRow(inputs map[string]savedmodel.TensorInfo) error {
	numbers, words, total := 0, 0, int64(0)
	for _, key := range slices.Sorted(maps.Keys(inputs)) {
		in := inputs[key]
		if !slices.Contains(rowTypes, in.DType) {
			return fmt.Errorf("input %q: %v; rows can have %v", key, in.DType, rowTypes)
		}
		if len(in.Shape) == 0 {
			return fmt.Errorf("input %q: shape %v is not [N, …]", key, in.Shape)
		}
		n, ok := in.Shape[1:].Elements()
		if !ok || n < 1 {
			return fmt.Errorf("input %q: its shape %v does not tell the size of a row", key, in.Shape)
		}
		if total += min(n, maxRowElements+1); total > maxRowElements {
			return fmt.Errorf("input %q: with its shape %v a row has over %d elements", key, in.Shape, maxRowElements)
		}
		if err := bound.bindBatch(key, in.Shape); err != nil {
			return err
		}
		f := feed{key: key, dtype: in.DType, shape: in.Shape[1:], n: int(n)}
		if f.dtype == savedmodel.String {
			f.at = words
			words += f.n
		} else {
			f.at = numbers
			numbers += f.size()
		}
		bound.feeds = append(bound.feeds, f)
	}
	if len(bound.feeds) == 0 {
		return errors.New("has no inputs")
	}
	return nil
}

// maxRowElements is that of all inputs together.
const maxRowElements = 1 << 24

// bindBatch notes whether the first dimension is fixed.
func (bound *signature) bindBatch(key string, shape savedmodel.Shape) error {
	if len(shape) == 0 || shape[0] <= 0 {
		return nil
	}
	if shape[0] != 1 {
		return fmt.Errorf("input %q: its batch is fixed at %d, want 1 or any", key, shape[0])
	}
	bound.maxBatch = 1
	return nil
}

// bindOutput finds the output with the scores. That of a model of rows may
// have one for each row, in shape [N].
func (bound *signature) bindOutput(outputs map[string]savedmodel.TensorInfo) error {
	if bound.Output == "" {
		if len(outputs) != 1 {
			return fmt.Errorf("has the outputs %q; the spec must name one", slices.Sorted(maps.Keys(outputs)))
		}
		for key := range outputs {
			bound.Output = key
		}
	}
	out, ok := outputs[bound.Output]
	if !ok {
		return fmt.Errorf("has no output %q, only %q", bound.Output, slices.Sorted(maps.Keys(outputs)))
	}
	vector := len(out.Shape) == 1 && !bound.content.image()
	if out.DType != savedmodel.Float32 || out.Shape != nil && len(out.Shape) != 2 && !vector {
		return fmt.Errorf("output %q: %v%v, want float32 [N, classes]", bound.Output, out.DType, out.Shape)
	}
	if len(out.Shape) == 2 && out.Shape[1] > 0 {
		bound.classes = int(out.Shape[1])
	}
	if vector {
		bound.classes = 1
	}
	return nil
}

// readLabels reads the labels of the version in dir, one a line; nil: it has
// none, and answers carry the class index alone.
func readLabels(dir, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	path := filepath.Join(dir, "assets", name)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	labels := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	for i := range labels {
		labels[i] = strings.TrimSpace(labels[i])
		if labels[i] == "" {
			return nil, fmt.Errorf("labels: %s: line %d is empty", path, i+1)
		}
	}
	return labels, nil
}
