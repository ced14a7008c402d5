package savedmodel

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"unsafe"

	"inceptor/savedmodel/internal/ctf"
)

var errTensorClosed = errors.New("tensor is closed")

var liveTensors, leakedTensors atomic.Int64

// LiveTensors returns the number of tensors that are not closed yet. It is zero when a program has
// closed all of them.
func LiveTensors() int64 { return liveTensors.Load() }

// LeakedTensors returns the number of tensors that the garbage collector closed because the program
// had lost them. Each one is a bug.
func LeakedTensors() int64 { return leakedTensors.Load() }

// A Tensor is an array in TensorFlow's memory, which the garbage collector does not see: Close it
// on every path. It is not for concurrent use, except that several runs may read it at once.
type Tensor struct {
	c     ctf.Tensor
	dtype DataType
	shape Shape
	dims  [4]int64        // the memory of shape, if it fits
	leak  runtime.Cleanup // closes and counts a tensor that the program lost
	freed bool
}

// newTensor becomes the owner of c and copies shape.
func newTensor(c ctf.Tensor, dtype DataType, shape []int64) *Tensor {
	t := &Tensor{c: c, dtype: dtype}
	t.shape = append(t.dims[:0], shape...)
	liveTensors.Add(1)
	t.leak = runtime.AddCleanup(t, func(c ctf.Tensor) {
		leakedTensors.Add(1)
		liveTensors.Add(-1)
		c.Delete()
	}, c)
	return t
}

// wrapTensor becomes the owner of a run's result.
func wrapTensor(c ctf.Tensor) *Tensor {
	var dims [4]int64
	shape := dims[:0]
	for i := range c.NumDims() {
		shape = append(shape, c.Dim(i))
	}
	return newTensor(c, DataType(c.Type()), shape)
}

// Close frees the tensor's memory, so slices from Bytes and Data must not be used any more. Closing
// again does nothing.
func (t *Tensor) Close() {
	if t.freed {
		return
	}
	t.freed = true
	t.leak.Stop()
	t.c.Delete()
	liveTensors.Add(-1)
	runtime.KeepAlive(t) // or the garbage collector might free it a second time
}

// NewTensor allocates a tensor of a dtype with a fixed size. The memory is not cleared: write all
// of it, through Data or Bytes, before use. The library must be open.
func NewTensor(dtype DataType, shape ...int64) (*Tensor, error) {
	if dtype.Size() == 0 {
		return nil, fmt.Errorf("new tensor: %v has no fixed size", dtype)
	}
	n, err := elements(shape)
	if err != nil {
		return nil, err
	}
	if LibraryPath() == "" {
		return nil, ErrNoRuntime
	}
	if n > math.MaxInt/dtype.Size() {
		return nil, fmt.Errorf("new tensor: %v %v is too large", dtype, Shape(shape))
	}
	c, err := ctf.AllocateTensor(int32(dtype), shape, n*dtype.Size())
	if err != nil {
		return nil, fmt.Errorf("new tensor: %v %v: %w", dtype, Shape(shape), err)
	}
	return newTensor(c, dtype, shape), nil
}

// NewStringTensor returns a tensor with copies of values, which are in row-major order. The library
// must be open.
func NewStringTensor(values [][]byte, shape ...int64) (*Tensor, error) {
	n, err := elements(shape)
	if err != nil {
		return nil, err
	}
	if n != len(values) {
		return nil, fmt.Errorf("new tensor: %d strings do not fill shape %v", len(values), Shape(shape))
	}
	if LibraryPath() == "" {
		return nil, ErrNoRuntime
	}
	c, err := ctf.AllocateTensor(int32(String), shape, n*ctf.StringSize)
	if err != nil {
		return nil, fmt.Errorf("new tensor: string %v: %w", Shape(shape), err)
	}
	for i, v := range values {
		c.StringInit(i)
		c.StringCopy(i, v)
	}
	return newTensor(c, String, shape), nil
}

// elements returns the number of elements, which is 1 for a scalar.
func elements(shape []int64) (int, error) {
	if len(shape) > maxRank { // TensorFlow would end the process
		return 0, fmt.Errorf("new tensor: %d dimensions are too many", len(shape))
	}
	n := int64(1)
	for _, d := range shape {
		if d < 0 || (d > 0 && n > math.MaxInt64/d) {
			return 0, fmt.Errorf("new tensor: shape %v is not possible", Shape(shape))
		}
		n *= d
	}
	return int(n), nil
}

// DType returns the type of the elements.
func (t *Tensor) DType() DataType { return t.dtype }

// Shape returns the number of elements in each dimension. Do not change it.
func (t *Tensor) Shape() Shape { return t.shape }

// Bytes returns the elements, in row-major order and the machine's byte order, without a copy.
// The slice is valid until t is closed: the call of Close keeps t alive that long. It is nil if
// there are no elements, if the dtype has no fixed size, as strings, and after Close.
func (t *Tensor) Bytes() []byte {
	if t.freed || t.dtype.Size() == 0 {
		return nil
	}
	b := t.c.Data()
	runtime.KeepAlive(t)
	return b
}

// Strings returns copies of the elements of a tensor of strings, in row-major order.
func (t *Tensor) Strings() ([][]byte, error) {
	if t.dtype != String {
		return nil, fmt.Errorf("tensor holds %v, not strings", t.dtype)
	}
	if t.freed {
		return nil, errTensorClosed
	}
	n, err := elements(t.shape)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, n)
	for i := range values {
		// Not slices.Clone: it would keep C's pointer for an empty string.
		values[i] = append([]byte{}, t.c.String(i)...)
	}
	runtime.KeepAlive(t)
	return values, nil
}

// A Number is a Go type with the memory layout of a dtype.
type Number interface {
	bool | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64 | complex64 | complex128
}

// Data returns the elements of t in row-major order, without a copy. The slice is valid until t is
// closed, as that of Bytes. T must be the Go type of t's dtype: uint16 for 16-bit floats, and the
// plain integer for a quantized type. Use Bytes for floats of 8 bits and integers of 4 or 2 bits.
func Data[T Number](t *Tensor) ([]T, error) {
	if !sameLayout[T](t.dtype) {
		var zero T
		return nil, fmt.Errorf("tensor holds %v, not %T", t.dtype, zero)
	}
	if t.freed {
		return nil, errTensorClosed
	}
	b := t.Bytes()
	if len(b) == 0 {
		return nil, nil
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero))), nil
}

func sameLayout[T Number](d DataType) bool {
	var zero T
	switch any(zero).(type) {
	case bool:
		return d == Bool
	case int8:
		return d == Int8 || d == QInt8
	case int16:
		return d == Int16 || d == QInt16
	case int32:
		return d == Int32 || d == QInt32
	case int64:
		return d == Int64
	case uint8:
		return d == UInt8 || d == QUInt8
	case uint16:
		return d == UInt16 || d == QUInt16 || d == BFloat16 || d == Float16
	case uint32:
		return d == UInt32
	case uint64:
		return d == UInt64
	case float32:
		return d == Float32
	case float64:
		return d == Float64
	case complex64:
		return d == Complex64
	default:
		return d == Complex128
	}
}
