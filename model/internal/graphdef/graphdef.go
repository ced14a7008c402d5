// Package graphdef writes GraphDefs: the graph that decodes images, and those of tests.
package graphdef

import (
	"encoding/binary"

	"inceptor/savedmodel/tfpb"
)

// producer is the GraphDef version of the operations and attributes here. Any recent one would do.
const producer = 1882

// Attrs are the attributes of a node.
type Attrs map[string]*tfpb.AttrValue

// A Graph is a GraphDef that grows.
type Graph struct{ Def *tfpb.GraphDef }

// New returns an empty graph.
func New() *Graph {
	return &Graph{Def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: producer}}}
}

// Add adds a node.
func (g *Graph) Add(name, op string, inputs []string, a Attrs) {
	g.Def.Node = append(g.Def.Node, &tfpb.NodeDef{Name: name, Op: op, Input: inputs, Attr: a})
}

// Type is a dtype.
func Type(t tfpb.DataType) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Type{Type: t}}
}

// Int is a number.
func Int(i int64) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_I{I: i}}
}

// Bool is true or false.
func Bool(b bool) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_B{B: b}}
}

// ShapeProto is a shape of these dimensions; -1: any.
func ShapeProto(dims ...int64) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return s
}

// Shape is a shape of these dimensions; -1: any.
func Shape(dims ...int64) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Shape{Shape: ShapeProto(dims...)}}
}

// Constant returns the attributes of a constant.
func Constant(t *tfpb.TensorProto) Attrs {
	return Attrs{
		"dtype": Type(t.Dtype),
		"value": {Value: &tfpb.AttrValue_Tensor{Tensor: t}},
	}
}

// Floats returns the attributes of a constant: one number, or a list of several.
func Floats(values ...float32) Attrs {
	t := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: ShapeProto(), FloatVal: values}
	if len(values) > 1 {
		t.TensorShape = ShapeProto(int64(len(values)))
	}
	return Constant(t)
}

// Int32s returns the attributes of a constant of this shape.
func Int32s(shape []int64, values ...int32) Attrs {
	var content []byte
	for _, v := range values {
		content = binary.NativeEndian.AppendUint32(content, uint32(v))
	}
	return Constant(&tfpb.TensorProto{
		Dtype: tfpb.DataType_DT_INT32, TensorShape: ShapeProto(shape...), TensorContent: content,
	})
}
