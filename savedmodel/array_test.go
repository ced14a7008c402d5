package savedmodel

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// A tensor and a model server's message, in both of its forms, give the same numbers for every
// type.
func TestArrayTypes(t *testing.T) {
	if err := OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dtype   DataType
		fields  *tfpb.TensorProto
		content []byte
		want    []float32
	}{
		{Float16, &tfpb.TensorProto{HalfVal: []int32{0x3800, 0xc200}}, []byte{0, 0x38, 0, 0xc2}, []float32{0.5, -3}},
		{BFloat16, &tfpb.TensorProto{HalfVal: []int32{0x3f00, 0xc040}}, []byte{0, 0x3f, 0x40, 0xc0}, []float32{0.5, -3}},
		{Float32, &tfpb.TensorProto{FloatVal: []float32{0.5, -3}}, []byte{0, 0, 0, 0x3f, 0, 0, 0x40, 0xc0}, []float32{0.5, -3}},
		{Float64, &tfpb.TensorProto{DoubleVal: []float64{0.5, -3}},
			[]byte{0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 0, 0, 0, 0, 0, 0, 8, 0xc0}, []float32{0.5, -3}},
		{Int8, &tfpb.TensorProto{IntVal: []int32{-128, 127}}, []byte{0x80, 0x7f}, []float32{-128, 127}},
		{UInt8, &tfpb.TensorProto{IntVal: []int32{0, 255}}, []byte{0, 255}, []float32{0, 255}},
		{Int16, &tfpb.TensorProto{IntVal: []int32{-2, 300}}, []byte{0xfe, 0xff, 0x2c, 1}, []float32{-2, 300}},
		{UInt16, &tfpb.TensorProto{IntVal: []int32{65535, 300}}, []byte{0xff, 0xff, 0x2c, 1}, []float32{65535, 300}},
		{Int32, &tfpb.TensorProto{IntVal: []int32{-2, 300}}, []byte{0xfe, 0xff, 0xff, 0xff, 0x2c, 1, 0, 0}, []float32{-2, 300}},
		{UInt32, &tfpb.TensorProto{Uint32Val: []uint32{1 << 31, 300}}, []byte{0, 0, 0, 0x80, 0x2c, 1, 0, 0}, []float32{1 << 31, 300}},
		{Int64, &tfpb.TensorProto{Int64Val: []int64{-2, 300}},
			[]byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x2c, 1, 0, 0, 0, 0, 0, 0}, []float32{-2, 300}},
		{UInt64, &tfpb.TensorProto{Uint64Val: []uint64{1 << 63, 300}},
			[]byte{0, 0, 0, 0, 0, 0, 0, 0x80, 0x2c, 1, 0, 0, 0, 0, 0, 0}, []float32{1 << 63, 300}},
	} {
		t.Run(test.dtype.String(), func(t *testing.T) {
			test.fields.Dtype, test.fields.TensorShape = tfpb.DataType(test.dtype), protoShape(2)
			packed := &tfpb.TensorProto{Dtype: tfpb.DataType(test.dtype), TensorShape: protoShape(2), TensorContent: test.content}
			tensor, err := NewTensor(test.dtype, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer tensor.Close()
			copy(tensor.Bytes(), test.content)
			here, err := tensor.Array()
			if err != nil {
				t.Fatal(err)
			}
			for name, p := range map[string]*tfpb.TensorProto{"fields": test.fields, "tensor_content": packed} {
				a, err := ArrayOf(p)
				if diff := cmp.Diff(here, a); err != nil || diff != "" {
					t.Errorf("%s: %v (-here +message):\n%s", name, err, diff)
				}
			}
			if got, err := here.Row(1).Float32s(); err != nil || !slices.Equal(got, test.want[1:]) {
				t.Errorf("row 1: got %v, %v, want %v", got, err, test.want[1:])
			}
			if got, err := here.Float32s(); err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func protoShape(dims ...int64) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return s
}

// Anything but a whole array of numbers, bools or strings is an error.
func TestArrayRefused(t *testing.T) {
	const half, str = tfpb.DataType_DT_HALF, tfpb.DataType_DT_STRING
	for name, p := range map[string]*tfpb.TensorProto{
		"unknown size":         {Dtype: half, TensorShape: protoShape(-1), HalfVal: []int32{1}},
		"value left out":       {Dtype: half, TensorShape: protoShape(2), HalfVal: []int32{1}},
		"value over":           {Dtype: half, TensorShape: protoShape(1), HalfVal: []int32{1, 2}},
		"bytes missing":        {Dtype: half, TensorShape: protoShape(2), TensorContent: []byte{1, 2}},
		"half an element":      {Dtype: half, TensorShape: protoShape(1), TensorContent: []byte{1, 2, 3}},
		"string left out":      {Dtype: str, TensorShape: protoShape(2), StringVal: [][]byte{nil}},
		"complex":              {Dtype: tfpb.DataType_DT_COMPLEX64, TensorShape: protoShape(1), ScomplexVal: []float32{1, 2}},
		"strings in content":   {Dtype: str, TensorShape: protoShape(1), TensorContent: []byte{1}},
		"type that is unknown": {Dtype: 4711, TensorShape: protoShape(1), TensorContent: []byte{1}},
	} {
		if a, err := ArrayOf(p); err == nil {
			t.Errorf("%s: got %+v", name, a)
		}
	}
	for _, d := range []DataType{Bool, String, Complex64, QInt8, Float8E5M2, Int4, Resource} {
		if _, err := Float32s(d, make([]byte, 16)); err == nil {
			t.Errorf("%v: is taken for numbers", d)
		}
	}
}

// Halves of every kind: numpy.array([bits], numpy.uint16).view(numpy.float16).
func TestFloat16(t *testing.T) {
	for bits, want := range map[uint16]float32{
		0: 0, 0x3c00: 1, 0xbc00: -1, 0x7bff: 65504, 0xfbff: -65504, 0x3555: 0.333251953125,
		0x0400: 6.103515625e-05, 0x03ff: 6.097555160522461e-05, 0x0001: 5.960464477539063e-08, 0x8001: -5.960464477539063e-08,
		0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)),
	} {
		if got := float16(bits); got != want {
			t.Errorf("%#04x: got %v, want %v", bits, got, want)
		}
	}
	if got := float16(0x8000); got != 0 || !math.Signbit(float64(got)) {
		t.Errorf("0x8000: got %v, want -0", got)
	}
	if got := float16(0x7e00); got == got {
		t.Errorf("0x7e00: got %v, want NaN", got)
	}
}
