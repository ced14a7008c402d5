package savedmodel

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

func TestTensorOf(t *testing.T) {
	if err := OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	shape := func(dims ...int64) *tfpb.TensorShapeProto {
		s := &tfpb.TensorShapeProto{}
		for _, d := range dims {
			s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
		}
		return s
	}
	const (
		float = tfpb.DataType_DT_FLOAT
		uint8 = tfpb.DataType_DT_UINT8
		str   = tfpb.DataType_DT_STRING
	)
	for _, test := range []struct {
		name    string
		proto   *tfpb.TensorProto
		shape   Shape
		bytes   []byte
		strings [][]byte
		refused bool
	}{
		{name: "content", proto: &tfpb.TensorProto{Dtype: uint8, TensorShape: shape(2, 2), TensorContent: []byte{1, 2, 3, 4}},
			shape: Shape{2, 2}, bytes: []byte{1, 2, 3, 4}},
		{name: "float values", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(1), FloatVal: []float32{1}},
			shape: Shape{1}, bytes: []byte{0, 0, 0x80, 0x3f}},
		{name: "last value repeated", proto: &tfpb.TensorProto{Dtype: uint8, TensorShape: shape(4), IntVal: []int32{1, 7}},
			shape: Shape{4}, bytes: []byte{1, 7, 7, 7}},
		{name: "scalar", proto: &tfpb.TensorProto{Dtype: uint8, TensorShape: shape(), IntVal: []int32{9}},
			shape: Shape{}, bytes: []byte{9}},
		{name: "empty", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(0, 3)}, shape: Shape{0, 3}},
		{name: "strings", proto: &tfpb.TensorProto{Dtype: str, TensorShape: shape(2), StringVal: [][]byte{[]byte("a"), nil}},
			shape: Shape{2}, strings: [][]byte{[]byte("a"), {}}},
		{name: "short content", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(2), TensorContent: make([]byte, 7)}, refused: true},
		{name: "long content", proto: &tfpb.TensorProto{Dtype: uint8, TensorShape: shape(2), TensorContent: make([]byte, 3)}, refused: true},
		{name: "no values", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(2)}, refused: true},
		{name: "too many values", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(1), FloatVal: []float32{1, 2}}, refused: true},
		{name: "blown up", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(1 << 40), FloatVal: []float32{1}}, refused: true},
		{name: "strings blown up", proto: &tfpb.TensorProto{Dtype: str, TensorShape: shape(1 << 10), StringVal: [][]byte{make([]byte, 1<<20)}}, refused: true},
		{name: "unknown size", proto: &tfpb.TensorProto{Dtype: float, TensorShape: shape(-1), FloatVal: []float32{1}}, refused: true},
		{name: "int64 values", proto: &tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT64, TensorShape: shape(1), Int64Val: []int64{-2}},
			shape: Shape{1}, bytes: []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{name: "int32 values", proto: &tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT32, TensorShape: shape(2), IntVal: []int32{1, -1}},
			shape: Shape{2}, bytes: []byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
		{name: "double values", proto: &tfpb.TensorProto{Dtype: tfpb.DataType_DT_DOUBLE, TensorShape: shape(1), DoubleVal: []float64{1}},
			shape: Shape{1}, bytes: []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}},
		{name: "truth", proto: &tfpb.TensorProto{Dtype: tfpb.DataType_DT_BOOL, TensorShape: shape(2), BoolVal: []bool{true, false}},
			shape: Shape{2}, bytes: []byte{1, 0}},
		{name: "half values", proto: &tfpb.TensorProto{Dtype: tfpb.DataType_DT_HALF, TensorShape: shape(3), HalfVal: []int32{0x3c00, 0xc000}},
			shape: Shape{3}, bytes: []byte{0, 0x3c, 0, 0xc0, 0, 0xc0}},
		{name: "other type", proto: &tfpb.TensorProto{Dtype: tfpb.DataType_DT_COMPLEX64, TensorShape: shape(1), ScomplexVal: []float32{1, 2}}, refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := TensorOf(test.proto)
			if (err != nil) != test.refused {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			defer got.Close()
			if diff := cmp.Diff(test.shape, got.Shape()); diff != "" {
				t.Errorf("shape: %s", diff)
			}
			if test.strings != nil {
				values, err := got.Strings()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.strings, values); diff != "" {
					t.Errorf("strings: %s", diff)
				}
				return
			}
			if diff := cmp.Diff(test.bytes, append([]byte(nil), got.Bytes()...)); diff != "" {
				t.Errorf("bytes: %s", diff)
			}
		})
	}
}
