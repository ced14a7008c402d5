package savedmodel

import "inceptor/savedmodel/tfpb"

// These functions make the attributes of nodes.

func typeAttr(t tfpb.DataType) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Type{Type: t}}
}

func typesAttr(types []tfpb.DataType) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{Type: types}}}
}

func shapeAttr(s Shape) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Shape{Shape: shapeMessage(s)}}
}

func bytesAttr(s string) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_S{S: []byte(s)}}
}

func wordsAttr(words ...string) *tfpb.AttrValue {
	list := &tfpb.AttrValue_ListValue{}
	for _, w := range words {
		list.S = append(list.S, []byte(w))
	}
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_List{List: list}}
}

func intAttr(i int64) *tfpb.AttrValue { return &tfpb.AttrValue{Value: &tfpb.AttrValue_I{I: i}} }
func floatAttr(f float32) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_F{F: f}}
}
func boolAttr(b bool) *tfpb.AttrValue { return &tfpb.AttrValue{Value: &tfpb.AttrValue_B{B: b}} }

func tensorAttr(p *tfpb.TensorProto) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Tensor{Tensor: p}}
}

// shapeMessage converts a known shape to a message.
func shapeMessage(s Shape) *tfpb.TensorShapeProto {
	p := &tfpb.TensorShapeProto{}
	for _, d := range s {
		p.Dim = append(p.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return p
}
