package savedmodel

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

// TensorOf makes a tensor of a message, as Python's tf.make_ndarray does: the
// elements are in tensor_content, or in the field for their type, where the
// last one stands for all that are left out. Types: float32, float64, int32, int64, uint8,
// bool and string.
func TensorOf(p *tfpb.TensorProto) (*Tensor, error) {
	shape := shapeOf(p.GetTensorShape())
	n, ok := shape.Elements()
	if !ok {
		return nil, fmt.Errorf("tensor of shape %v", shape)
	}
	dtype := DataType(p.GetDtype())
	if dtype == String {
		values := p.GetStringVal()
		each := int64(stringOverhead)
		if len(values) > 0 {
			each += int64(len(values[len(values)-1]))
		}
		values, err := filled(values, n, each)
		if err != nil {
			return nil, err
		}
		return NewStringTensor(values, shape...)
	}

	content := p.GetTensorContent()
	if len(content) == 0 && n > 0 {
		var err error
		if content, err = elementBytes(p, dtype, n); err != nil {
			return nil, err
		}
	}
	if size := int64(dtype.Size()); size == 0 || int64(len(content))/size != n || int64(len(content))%size != 0 {
		return nil, fmt.Errorf("tensor %v %v has %d bytes", dtype, shape, len(content))
	}
	t, err := NewTensor(dtype, shape...)
	if err != nil {
		return nil, err
	}
	copy(t.Bytes(), content)
	return t, nil
}

const (
	// maxFilled bounds the bytes that a few bytes of message may be blown up to.
	maxFilled = 256 << 20
	// stringOverhead is what a string takes besides its bytes, in C and in Go.
	stringOverhead = 48
)

// filled repeats the last value until there are n; each takes so many bytes.
func filled[T any](values []T, n, each int64) ([]T, error) {
	switch {
	case int64(len(values)) == n:
		return values, nil
	case len(values) == 0 || int64(len(values)) > n:
		return nil, fmt.Errorf("tensor of %d elements has %d", n, len(values))
	case n > maxFilled/each:
		return nil, fmt.Errorf("tensor of %d elements has only %d; at most %d bytes are filled in", n, len(values), maxFilled)
	}
	values = slices.Grow(slices.Clip(values), int(n)-len(values))
	for int64(len(values)) < n {
		values = append(values, values[len(values)-1])
	}
	return values, nil
}

func elementBytes(p *tfpb.TensorProto, dtype DataType, n int64) ([]byte, error) {
	switch dtype {
	case Float32:
		return appendFilled(p.GetFloatVal(), n, func(b []byte, v float32) []byte {
			return binary.NativeEndian.AppendUint32(b, math.Float32bits(v))
		})
	case Float64:
		return appendFilled(p.GetDoubleVal(), n, func(b []byte, v float64) []byte {
			return binary.NativeEndian.AppendUint64(b, math.Float64bits(v))
		})
	case Int64:
		return appendFilled(p.GetInt64Val(), n, func(b []byte, v int64) []byte { return binary.NativeEndian.AppendUint64(b, uint64(v)) })
	case Int32:
		return appendFilled(p.GetIntVal(), n, func(b []byte, v int32) []byte { return binary.NativeEndian.AppendUint32(b, uint32(v)) })
	case UInt8:
		return appendFilled(p.GetIntVal(), n, func(b []byte, v int32) []byte { return append(b, byte(v)) })
	case Bool:
		return appendFilled(p.GetBoolVal(), n, func(b []byte, v bool) []byte {
			if v {
				return append(b, 1)
			}
			return append(b, 0)
		})
	}
	return nil, fmt.Errorf("tensor of type %v", dtype)
}

// appendFilled are the bytes of n values.
func appendFilled[T any](values []T, n int64, add func([]byte, T) []byte) ([]byte, error) {
	values, err := filled(values, n, 8)
	var b []byte
	for _, v := range values {
		b = add(b, v)
	}
	return b, err
}
