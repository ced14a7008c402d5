package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"inceptor/savedmodel"
)

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
