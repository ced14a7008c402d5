package savedmodel

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

// TensorOf returns a tensor with the value of a message, as Python's tf.make_ndarray does. The
// elements are in tensor_content, or in the field for their type, where the last one stands for all
// that are left out. It supports floats of 16, 32 and 64 bits, integers, bool and string.
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
		if content, err = filledBytes(p, n); err != nil {
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
	// maxFilled bounds the bytes of a tensor whose message leaves elements out.
	maxFilled = 256 << 20
	// stringOverhead is the memory of a string without its bytes, in C and in Go.
	stringOverhead = 48
)

// filled repeats the last value until there are n. Each value takes each bytes.
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

// elementBytes returns the elements in the field for a message's type, in the layout of
// tensor_content. It supports numbers of at least 8 bits, and bool.
func elementBytes(p *tfpb.TensorProto) ([]byte, error) {
	switch d := DataType(p.GetDtype()); d {
	case Float32:
		return bytesOf(p.GetFloatVal(), 4, func(b []byte, v float32) { order.PutUint32(b, math.Float32bits(v)) }), nil
	case Float64:
		return bytesOf(p.GetDoubleVal(), 8, func(b []byte, v float64) { order.PutUint64(b, math.Float64bits(v)) }), nil
	case Float16, BFloat16:
		return bytesOf(p.GetHalfVal(), 2, func(b []byte, v int32) { order.PutUint16(b, uint16(v)) }), nil
	case Int64:
		return bytesOf(p.GetInt64Val(), 8, func(b []byte, v int64) { order.PutUint64(b, uint64(v)) }), nil
	case UInt64:
		return bytesOf(p.GetUint64Val(), 8, func(b []byte, v uint64) { order.PutUint64(b, v) }), nil
	case UInt32:
		return bytesOf(p.GetUint32Val(), 4, func(b []byte, v uint32) { order.PutUint32(b, v) }), nil
	case Int32:
		return bytesOf(p.GetIntVal(), 4, func(b []byte, v int32) { order.PutUint32(b, uint32(v)) }), nil
	case Int16, UInt16:
		return bytesOf(p.GetIntVal(), 2, func(b []byte, v int32) { order.PutUint16(b, uint16(v)) }), nil
	case Int8, UInt8:
		return bytesOf(p.GetIntVal(), 1, func(b []byte, v int32) { b[0] = byte(v) }), nil
	case Bool:
		return bytesOf(p.GetBoolVal(), 1, func(b []byte, v bool) {
			if v {
				b[0] = 1
			}
		}), nil
	default:
		return nil, fmt.Errorf("tensor of type %v", d)
	}
}

// bytesOf encodes values of size bytes each.
func bytesOf[T any](values []T, size int, put func([]byte, T)) []byte {
	b := make([]byte, size*len(values))
	for i, v := range values {
		put(b[i*size:], v)
	}
	return b
}

// filledBytes returns n elements of a message, as elementBytes does. The last one stands for all
// that are left out.
func filledBytes(p *tfpb.TensorProto, n int64) ([]byte, error) {
	b, err := elementBytes(p)
	if err != nil {
		return nil, err
	}
	size := DataType(p.GetDtype()).Size()
	have := int64(len(b) / size)
	switch {
	case have == n:
		return b, nil
	case have == 0 || have > n:
		return nil, fmt.Errorf("tensor of %d elements has %d", n, have)
	case n > maxFilled/int64(size):
		return nil, fmt.Errorf("tensor of %d elements has only %d; at most %d bytes are filled in", n, have, maxFilled)
	}
	return append(b, bytes.Repeat(b[len(b)-size:], int(n-have))...), nil
}
