package savedmodel

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"inceptor/savedmodel/tfpb"
)

func TestGraphPixels(t *testing.T) {
	affine := func(scale, offset float64) *Affine {
		return &Affine{Scale: []float64{scale}, Offset: []float64{offset}}
	}
	in := op("in", "Placeholder", nil)
	conv := func(x string) *tfpb.NodeDef { return op("out", "Conv2D", nil, x, "w") }
	nodes := func(list ...*tfpb.NodeDef) testGraph { return testGraph{nodes: append(list, in)} }
	tests := []struct {
		name  string
		graph testGraph
		want  *Affine
	}{
		{"nothing", nodes(conv("in")), nil},
		{"a cast alone", nodes(op("c", "Cast", nil, "in"), conv("c")), nil},
		{"times and plus", nodes(scalarOf("a", 2), scalarOf("b", -1), op("m", "Mul", nil, "a", "in"), op("p", "AddV2", nil, "m", "b"), conv("p")), affine(2, -1)},
		{"divided, less", nodes(scalarOf("a", 4), scalarOf("b", 1), op("m", "RealDiv", nil, "in", "a"), op("p", "Sub", nil, "m", "b"), conv("p")), affine(0.25, -1)},
		{"a number less the pixel", nodes(scalarOf("a", 255), op("m", "Sub", nil, "a", "in"), conv("m")), affine(-1, 255)},
		{"a number by the pixel", nodes(scalarOf("a", 255), op("m", "RealDiv", nil, "a", "in"), conv("m")), nil},
		{"the pixel by itself", nodes(op("m", "Mul", nil, "in", "in"), conv("m")), nil},
		{"only up to the first other operation", nodes(scalarOf("a", 2), op("m", "Mul", nil, "in", "a"), op("r", "Relu", nil, "m"), op("p", "Mul", nil, "r", "a"), conv("p")), affine(2, 0)},
		{"two ways", nodes(scalarOf("a", 2), op("m", "Mul", nil, "in", "a"), op("n", "Mul", nil, "in", "m"), conv("n")), nil},
		{"ways that no output needs, and the shape", nodes(
			scalarOf("a", 2), op("m", "Mul", nil, "in", "a"), op("summary", "ImageSummary", nil, "tag", "in"), op("s", "Shape", nil, "in"),
			op("r", "Reshape", nil, "m", "s"), conv("r"),
		), affine(2, 0)},
		{"each channel", nodes(
			vectorOf("mean", 1, 2, 3), vectorOf("variance", 4, 16, 64), scalarOf("tiny", 1e-7), op("std", "Sqrt", nil, "variance"), op("safe", "Maximum", nil, "std", "tiny"),
			op("m", "Sub", nil, "in", "mean"), op("p", "RealDiv", nil, "m", "safe"), conv("p"),
		), &Affine{Scale: []float64{0.5, 0.25, 0.125}, Offset: []float64{-0.5, -0.5, -0.375}}},
		{"each channel, reshaped", nodes(
			floatConst("c", Shape{3}, []float32{1, 2, 3}), intConst("s", 1, 1, -1), op("r", "Reshape", nil, "c", "s"), op("m", "BiasAdd", nil, "in", "r"), conv("m"),
		), &Affine{Scale: []float64{1}, Offset: []float64{1, 2, 3}}},
		{"channels in another place", nodes(floatConst("c", Shape{3, 1, 1}, []float32{1, 2, 3}), op("m", "Mul", nil, "in", "c"), conv("m")), nil},
		{"channels moved to another place", nodes(vectorOf("c", 1, 2, 3), op("t", "Transpose", nil, "in", "perm"), op("m", "Mul", nil, "t", "c"), conv("m")), nil},
		{"not a constant", nodes(op("v", "VarHandleOp", nil), op("r", "ReadVariableOp", nil, "v"), op("m", "Mul", nil, "in", "r"), conv("m")), nil},
		{"uint8, resized, through calls; the numbers come from the caller", testGraph{
			nodes: []*tfpb.NodeDef{in, scalarOf("scale", 0.5), scalarOf("offset", -1), callNode("call", "outer", "in", "scale", "offset"), op("id", "Identity", nil, "call"), op("q", "Mul", nil, "id", "scale"), conv("q")},
			functions: []*tfpb.FunctionDef{
				functionOf("outer", "x a b", []string{"m:z:0"}, callNode("c", "inner", "x", "a"), op("m", "AddV2", nil, "c:output:0", "b")),
				functionOf("inner", "x a", []string{"m:z:0"}, op("c", "Cast", nil, "x"), op("r", "ResizeBilinear", nil, "c:y:0", "size"), op("m", "Mul", nil, "r:resized_images:0", "a")),
			},
		}, affine(0.25, -0.5)},
		{"BGR by single channels", nodes(
			channelOf("b", 2), channelOf("g", 1), channelOf("r", 0), op("bgr", "Pack", attrs{"axis": intAttr(-1)}, "b", "g", "r"),
			intConst("at0", 0, 0), intConst("at1", 0, 1), intConst("at2", 0, 2), vectorOf("mean", -103, -116, -123), op("m", "BiasAdd", nil, "bgr", "mean"), conv("m"),
		), &Affine{Scale: []float64{1}, Offset: []float64{-123, -116, -103}}},
		{"two channels alone", nodes(
			channelOf("b", 2), channelOf("g", 1), op("bgr", "Pack", attrs{"axis": intAttr(-1)}, "b", "g"),
			intConst("at1", 0, 1), intConst("at2", 0, 2), scalarOf("two", 2), op("m", "Mul", nil, "bgr", "two"), conv("m"),
		), nil},
		{"single channels, put together elsewhere", nodes(
			channelOf("b", 2), channelOf("g", 1), channelOf("r", 0), op("bgr", "Pack", attrs{"axis": intAttr(1)}, "b", "g", "r"),
			intConst("at0", 0, 0), intConst("at1", 0, 1), intConst("at2", 0, 2), scalarOf("two", 2), op("m", "Mul", nil, "bgr", "two"), conv("m"),
		), nil},
		{"BGR by a stride of -1, and back", nodes(
			intConst("zero", 0, 0), intConst("back", 1, -1), intConst("axis", 3), vectorOf("a", 1, 2, 3), vectorOf("b", 10, 20, 30),
			op("bgr", "StridedSlice", attrs{"ellipsis_mask": intAttr(1), "begin_mask": intAttr(2), "end_mask": intAttr(2)}, "in", "zero", "zero", "back"),
			op("m", "Mul", nil, "bgr", "a"), op("rgb", "ReverseV2", nil, "m", "axis"), op("p", "Add", nil, "rgb", "b"), conv("p"),
		), &Affine{Scale: []float64{3, 2, 1}, Offset: []float64{10, 20, 30}}},
		{"rows upside down", nodes(
			intConst("axis", 1), scalarOf("two", 2), op("r", "ReverseV2", nil, "in", "axis"), op("m", "Mul", nil, "r", "two"), conv("m"),
		), nil},
		{"a part of the image", nodes(
			intConst("zero", 0, 0, 0, 0), intConst("one", 1, 1, 1, -1), scalarOf("two", 2),
			op("part", "StridedSlice", attrs{"begin_mask": intAttr(13), "end_mask": intAttr(15)}, "in", "zero", "zero", "one"), op("m", "Mul", nil, "part", "two"), conv("m"),
		), nil},
		{"the number is an input too", testGraph{inputs: []string{"in", "a"}, nodes: []*tfpb.NodeDef{in, scalarOf("a", 2), op("m", "Mul", nil, "in", "a"), conv("m")}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := test.graph
			if g.inputs == nil {
				g.inputs = []string{"in"}
			}
			g.outputs = []string{"out"}
			got, err := g.read(t).Input("s", "in")
			must(t, err)
			if diff := cmp.Diff(test.want, got.Pixels, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Constants of each type are read, whether they are numbers or bytes.
func TestChannelNumbers(t *testing.T) {
	shape := shapeMessage(Shape{1, 2})
	tests := []struct {
		name  string
		value *tfpb.TensorProto
		want  []float64
	}{
		{"float32", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, FloatVal: []float32{1.5}}, []float64{1.5, 1.5}},
		{"float64", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_DOUBLE, DoubleVal: []float64{1.5, 2}}, []float64{1.5, 2}},
		{"float16", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_HALF, HalfVal: []int32{0x3e00, 0xc000}}, []float64{1.5, -2}},
		{"float16 bytes", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_HALF, TensorContent: []byte{0, 0x3e, 1, 0}}, []float64{1.5, 0x1p-24}},
		{"bfloat16", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_BFLOAT16, HalfVal: []int32{0x3fc0}}, []float64{1.5, 1.5}},
		{"int32", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT32, IntVal: []int32{-1, 2}}, []float64{-1, 2}},
		{"int64 bytes", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT64, TensorContent: []byte{255, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0}}, []float64{-1, 2}},
		{"string", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, StringVal: [][]byte{[]byte("1")}}, nil},
		{"too few bytes", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorContent: []byte{1}}, nil},
		{"no value", &tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.value.TensorShape = shape
			if diff := cmp.Diff(test.want, channelNumbers(test.value)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
