package savedmodel

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"inceptor/savedmodel/tfpb"
)

func TestGraphUnrestored(t *testing.T) {
	variable := func(name, shared string) *tfpb.NodeDef {
		return op(name, "VarHandleOp", attrs{"shared_name": &tfpb.AttrValue{Value: &tfpb.AttrValue_S{S: []byte(shared)}}})
	}
	nodes := []*tfpb.NodeDef{
		op("in", "Placeholder", nil), variable("w", "w"), variable("b", "bias"), variable("b2", "bias"), variable("copy", "copy"),
		callNode("out", "f", "in", "w", "b"), callNode("start", "f", "in", "w"), op("read", "ReadVariableOp", nil, "w"),
	}
	for _, test := range []struct {
		name    string
		restore *tfpb.NodeDef
		start   string // what else runs at load
		tf1     bool
		want    []string
	}{
		{name: "all are restored", restore: callNode("restore", "f", "in", "w", "b")},
		{name: "by another handle of the same name", restore: callNode("restore", "f", "in", "w", "b2")},
		{name: "copies are restored", restore: callNode("restore", "f", "in", "copy"), want: []string{"bias", "w"}},
		{name: "one is missing", restore: callNode("restore", "f", "in", "w"), want: []string{"bias"}},
		{name: "one is set at the start", restore: callNode("restore", "f", "in", "b"), start: "start:0"},
		{name: "what restores is not known", restore: op("restore", "NoOp", nil, "^w", "^b")},
		{name: "nothing is restored"},
		{name: "TensorFlow 1", restore: callNode("restore", "f", "in", "copy"), tf1: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := testGraph{inputs: []string{"in"}, outputs: []string{"out"}, nodes: nodes}
			meta := g.meta()
			meta.SaverDef = &tfpb.SaverDef{RestoreOpName: "restore"}
			if test.restore != nil {
				meta.GraphDef.Node = append(slices.Clone(nodes), test.restore)
			}
			if !test.tf1 {
				meta.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, fieldObjects, protowire.BytesType), nil))
			}
			if test.start != "" {
				meta.SignatureDef[initOpKey] = &tfpb.SignatureDef{Outputs: map[string]*tfpb.TensorInfo{
					initOpKey: {Encoding: &tfpb.TensorInfo_Name{Name: test.start}},
				}}
			}
			read, err := ReadGraph(writeGraphs(t, meta), nil)
			must(t, err)
			if got := read.Unrestored("s"); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
