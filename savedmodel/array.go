package savedmodel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"inceptor/savedmodel/tfpb"
)

// An Array is a tensor's value in Go's memory. It needs no Close. The elements are in row-major
// order.
type Array struct {
	DType   DataType
	Shape   Shape
	Bytes   []byte   // the elements of numbers and bools, in the machine's byte order
	Strings [][]byte // the elements of strings
}

// Array returns a copy of a tensor of numbers, bools or strings.
func (t *Tensor) Array() (Array, error) {
	a := Array{DType: t.dtype, Shape: append(Shape{}, t.shape...)}
	if t.freed {
		return Array{}, errTensorClosed
	}
	if t.dtype == String {
		var err error
		a.Strings, err = t.Strings()
		return a, err
	}
	if t.dtype.Size() == 0 {
		return Array{}, fmt.Errorf("tensor of type %v", t.dtype)
	}
	a.Bytes = append([]byte{}, t.Bytes()...)
	return a, nil
}

// ArrayOf converts a message that holds every element, as a model server's answer does. The
// elements are in tensor_content or in the field for their type. The result may share the message's
// memory.
func ArrayOf(p *tfpb.TensorProto) (Array, error) {
	a := Array{DType: DataType(p.GetDtype()), Shape: shapeOf(p.GetTensorShape())}
	n, ok := a.Shape.Elements()
	if !ok {
		return Array{}, fmt.Errorf("tensor of shape %v", a.Shape)
	}
	if a.DType == String {
		a.Strings = p.GetStringVal()
		if int64(len(a.Strings)) != n {
			return Array{}, fmt.Errorf("it has %d values, want %d", len(a.Strings), n)
		}
		return a, nil
	}
	size := int64(a.DType.Size())
	a.Bytes = p.GetTensorContent()
	if len(a.Bytes) > 0 {
		if size == 0 || int64(len(a.Bytes))%size != 0 || int64(len(a.Bytes))/size != n {
			return Array{}, fmt.Errorf("it has %d bytes, want %d", len(a.Bytes), n*size)
		}
		return a, nil
	}
	var err error
	if a.Bytes, err = elementBytes(p); err != nil {
		return Array{}, err
	}
	if got := int64(len(a.Bytes)) / size; got != n { // elementBytes has refused types without a size
		return Array{}, fmt.Errorf("it has %d values, want %d", got, n)
	}
	return a, nil
}

// Len returns the number of elements.
func (a Array) Len() int {
	if a.DType == String {
		return len(a.Strings)
	}
	return len(a.Bytes) / max(a.DType.Size(), 1)
}

// Row returns element i of the first dimension, such as one record of a batch. It shares the
// array's memory.
func (a Array) Row(i int) Array {
	each := a.Len() / int(a.Shape[0])
	row := Array{DType: a.DType, Shape: a.Shape[1:]}
	if a.DType == String {
		row.Strings = a.Strings[i*each:][:each:each]
		return row
	}
	each *= a.DType.Size()
	row.Bytes = a.Bytes[i*each:][:each:each]
	return row
}

// Float32s returns the elements as float32. That rounds float64 and large integers.
func (a Array) Float32s() ([]float32, error) { return Float32s(a.DType, a.Bytes) }

// errNoNumbers is returned for types other than those of IsNumber.
var errNoNumbers = errors.New("no numbers")

// Float32s converts elements, in the layout of Tensor.Bytes, to float32. It takes the types of
// IsNumber.
func Float32s(d DataType, b []byte) ([]float32, error) {
	if !d.IsNumber() {
		return nil, fmt.Errorf("%v: %w", d, errNoNumbers)
	}
	values := make([]float32, len(b)/d.Size())
	switch d {
	case Float32: // the common case, without a call for each element
		for i := range values {
			values[i] = math.Float32frombits(order.Uint32(b[4*i:]))
		}
	case UInt64:
		for i := range values {
			values[i] = float32(order.Uint64(b[8*i:]))
		}
	case Float16, BFloat16, Float64:
		a := Array{DType: d, Bytes: b}
		for i := range values {
			values[i] = float32(a.Float(i))
		}
	default:
		a := Array{DType: d, Bytes: b}
		for i := range values {
			values[i] = float32(a.Integer(i))
		}
	}
	return values, nil
}

var order = binary.NativeEndian

// IsFloat says whether the type is a float of 16, 32 or 64 bits.
func (t DataType) IsFloat() bool {
	switch t {
	case Float16, BFloat16, Float32, Float64:
		return true
	}
	return false
}

// IsInteger says whether the type is an integer of 8 to 64 bits that is not quantized.
func (t DataType) IsInteger() bool {
	switch t {
	case Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64:
		return true
	}
	return false
}

// IsNumber says whether the type is a float or an integer in the sense of IsFloat and IsInteger.
func (t DataType) IsNumber() bool { return t.IsFloat() || t.IsInteger() }

// Float returns element i of an array of floats, exactly.
func (a Array) Float(i int) float64 {
	switch a.DType {
	case Float16:
		return float64(float16(order.Uint16(a.Bytes[2*i:])))
	case BFloat16:
		return float64(math.Float32frombits(uint32(order.Uint16(a.Bytes[2*i:])) << 16))
	case Float32:
		return float64(math.Float32frombits(order.Uint32(a.Bytes[4*i:])))
	}
	return math.Float64frombits(order.Uint64(a.Bytes[8*i:]))
}

// Integer returns element i of an array of integers or bools. For uint64 it returns the bits.
func (a Array) Integer(i int) int64 {
	switch a.DType {
	case Int8:
		return int64(int8(a.Bytes[i]))
	case UInt8, Bool:
		return int64(a.Bytes[i])
	case Int16:
		return int64(int16(order.Uint16(a.Bytes[2*i:])))
	case UInt16:
		return int64(order.Uint16(a.Bytes[2*i:]))
	case Int32:
		return int64(int32(order.Uint32(a.Bytes[4*i:])))
	case UInt32:
		return int64(order.Uint32(a.Bytes[4*i:]))
	}
	return int64(order.Uint64(a.Bytes[8*i:]))
}

// float16 converts an IEEE 754 half.
func float16(bits uint16) float32 {
	sign, exponent, fraction := uint32(bits>>15)<<31, uint32(bits>>10)&0x1f, uint32(bits)&0x3ff
	switch exponent {
	case 0: // zero or subnormal
		f := float32(fraction) / (1 << 24)
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}
