package savedmodel

import (
	"slices"
	"testing"

	"inceptor/savedmodel/tfpb"
)

func TestGraphTrainingOps(t *testing.T) {
	main := []*tfpb.NodeDef{op("in", "Placeholder", nil), callNode("out", "f", "in")}
	body := func(nodes ...*tfpb.NodeDef) testGraph {
		return testGraph{nodes: main, functions: []*tfpb.FunctionDef{functionOf("f", "x", []string{"y:y:0"}, nodes...)}}
	}
	tests := []struct {
		name  string
		graph testGraph
		want  []string
	}{
		{"none", body(op("y", "Relu", nil, "x"), op("r", "RandomUniform", nil, "x")), nil},
		{"dropout", body(op("r", "RandomUniform", nil, "x"), op("y", "Mul", nil, "x", "r:output:0")), []string{"RandomUniform"}},
		{"in a function that calls itself", body(op("r", "Multinomial", nil, "x"), callNode("y", "f", "r:output:0")), []string{"Multinomial"}},
		{"Keras in training mode", body(
			op("y", "FusedBatchNormV3", nil, "x"), op("a", "AssignVariableOp", nil, "x", "y:batch_mean:0"), op("seed", "AssignVariableOp", nil, "x", "x"),
		), []string{"AssignVariableOp", "FusedBatchNormV3"}},
		{"batch normalization", body(op("y", "FusedBatchNormV3", attrs{"is_training": boolAttr(false)}, "x")), nil},
		{"a branch that is not taken for certain", testGraph{
			nodes:     []*tfpb.NodeDef{op("in", "Placeholder", nil), op("out", "If", attrs{"then_branch": funcAttr("f"), "else_branch": funcAttr("f")}, "p", "in")},
			functions: []*tfpb.FunctionDef{functionOf("f", "x", []string{"y:y:0"}, op("y", "RandomUniform", nil, "x"))},
		}, nil},
		{"TensorFlow 1", testGraph{nodes: []*tfpb.NodeDef{op("in", "Placeholder", nil), op("r", "RandomUniform", nil, "in"), op("out", "Mul", nil, "in", "r")}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.graph.inputs, test.graph.outputs = []string{"in"}, []string{"out"}
			if got := test.graph.read(t).TrainingOps("s"); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
