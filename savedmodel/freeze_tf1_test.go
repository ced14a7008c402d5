package savedmodel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"inceptor/savedmodel/tfpb"
)

const (
	dtLong   = tfpb.DataType_DT_INT64
	dtString = tfpb.DataType_DT_STRING
)

// Operations as TensorFlow 1 writes them.

func reference(v testVariable) testVariable {
	v.reference = "VariableV2"
	return v
}

func identityOf(variable string) *tfpb.NodeDef {
	return op(variable+"/read", "Identity", nil, variable)
}

func boolConst(name string, yes bool, inputs ...string) *tfpb.NodeDef {
	return op(name, "Const", noT(attrs{"dtype": typeAttr(dtBool), "value": tensorAttr(&tfpb.TensorProto{
		Dtype: dtBool, TensorShape: shapeMessage(nil), BoolVal: []bool{yes},
	})}), inputs...)
}

// number returns a constant integer scalar.
func number(name string, i int32, inputs ...string) *tfpb.NodeDef {
	return op(name, "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(&tfpb.TensorProto{
		Dtype: dtInt, TensorShape: shapeMessage(nil), IntVal: []int32{i},
	})}), inputs...)
}

func floatIn(name string, v float32, inputs ...string) *tfpb.NodeDef {
	n := floatConst(name, Shape{}, []float32{v})
	n.Input = inputs
	return n
}

// condition computes y from x: yes(x) if x's sum is large enough, else no(x).
func condition(x, y, yes, no string) []*tfpb.NodeDef {
	return []*tfpb.NodeDef{
		intConst("all", 0, 1, 2, 3), op("sum", "Sum", attrs{"Tidx": typeAttr(dtInt)}, x, "all"), floatIn("limit", 1),
		op("more", "Greater", nil, "sum", "limit"), op("pred", "Identity", attrs{"T": typeAttr(dtBool)}, "more"),
		op("pivot", "Switch", attrs{"T": typeAttr(dtBool)}, "more", "more"),
		op("pivot_t", "Identity", attrs{"T": typeAttr(dtBool)}, "pivot:1"), op("pivot_f", "Identity", attrs{"T": typeAttr(dtBool)}, "pivot"),
		op("switch", "Switch", nil, x, "pred"), op(y, "Merge", attrs{"N": intAttr(2)}, no, yes),
	}
}

// loopOf runs a body a number of times, from "turn/x" to the tensor that it names.
func loopOf(x, y string, turns int32, result string, body ...*tfpb.NodeDef) []*tfpb.NodeDef {
	ints, frame := attrs{"T": typeAttr(dtInt)}, attrs{"frame_name": bytesAttr("frame")}
	two := attrs{"N": intAttr(2)}
	with := func(all ...attrs) attrs {
		made := attrs{}
		for _, a := range all {
			for k, v := range a {
				made[k] = v
			}
		}
		return made
	}
	return append(body,
		number("zero", 0), op("enter/i", "Enter", with(ints, frame), "zero"), op("enter/x", "Enter", frame, x),
		op("merge/i", "Merge", with(ints, two), "enter/i", "next/i"), op("merge/x", "Merge", two, "enter/x", "next/x"),
		number("turns", turns, "^merge/i"), op("less", "Less", ints, "merge/i", "turns"), op("go", "LoopCond", noT(nil), "less"),
		op("switch/i", "Switch", ints, "merge/i", "go"), op("switch/x", "Switch", nil, "merge/x", "go"),
		op("turn/i", "Identity", ints, "switch/i:1"), op("turn/x", "Identity", nil, "switch/x:1"),
		number("one", 1, "^turn/i"), op("add", "AddV2", ints, "turn/i", "one"),
		op("next/i", "NextIteration", ints, "add"), op("next/x", "NextIteration", nil, result), op(y, "Exit", nil, "switch/x"),
	)
}

func enterConst(name, of string) *tfpb.NodeDef {
	return op(name, "Enter", attrs{"frame_name": bytesAttr("frame"), "is_constant": boolAttr(true)}, of)
}

// mappedModel multiplies each row of its input by a matrix, as map_fn does it.
func mappedModel() testModel {
	handle := func(name string) *tfpb.NodeDef {
		return op(name, "TensorArrayV3", noT(attrs{"dtype": typeAttr(dtFloat), "clear_after_read": boolAttr(true)}), "rows")
	}
	enter := func(name, of string, dtype tfpb.DataType) *tfpb.NodeDef {
		n := enterConst(name, of)
		n.Attr["T"] = typeAttr(dtype)
		return n
	}
	array := noT(attrs{"dtype": typeAttr(dtFloat)})
	return testModel{
		variables: map[string]testVariable{"w": reference(filter(1, 3, 4)), "v": reference(vector(4, 2))},
		nodes: append(loopOf("to:1", "flow", 2, "write",
			enter("from/handle", "from", dtResource), enterConst("from/flow", "unpack"), enter("to/handle", "to", dtResource), enterConst("w/in", "w/read"),
			op("row", "TensorArrayReadV3", array, "from/handle", "turn/i", "from/flow"), number("front", 0, "^turn/i"),
			op("matrix", "ExpandDims", attrs{"Tdim": typeAttr(dtInt)}, "row", "front"), op("product", "MatMul", nil, "matrix", "w/in"),
			op("vector", "Squeeze", nil, "product"),
			op("write", "TensorArrayWriteV3", nil, "to/handle", "turn/i", "vector", "turn/x"),
		),
			input(2, 3), identityOf("w"), identityOf("v"), number("rows", 2), handle("from"), handle("to"), intConst("range", 0, 1),
			op("unpack", "TensorArrayScatterV3", nil, "from", "range", "in", "from:1"),
			op("pack", "TensorArrayGatherV3", array, "to", "range", "flow"),
			op("out", "Mul", nil, "pack", "v/read"),
		),
	}
}

// tableModel looks words up by number, then numbers by word, and adds a variable.
func tableModel(more ...*tfpb.NodeDef) testModel {
	table := func(name string, from, to tfpb.DataType, more attrs) *tfpb.NodeDef {
		a := attrs{"key_dtype": typeAttr(from), "value_dtype": typeAttr(to)}
		for k, v := range more {
			a[k] = v
		}
		return op(name, "HashTableV2", noT(a))
	}
	find := func(name, table string, from, to tfpb.DataType, key, or string) *tfpb.NodeDef {
		return op(name, "LookupTableFindV2", noT(attrs{"Tin": typeAttr(from), "Tout": typeAttr(to)}), table, key, or)
	}
	scalar := stringConst("nothing", "none")
	scalar.Attr["value"].GetTensor().TensorShape = shapeMessage(nil)
	cast := func(name, of string, from, to tfpb.DataType) *tfpb.NodeDef {
		return op(name, "Cast", noT(attrs{"SrcT": typeAttr(from), "DstT": typeAttr(to)}), of)
	}
	return testModel{
		variables: map[string]testVariable{"w": reference(vector(3, 1))}, start: "start",
		nodes: append([]*tfpb.NodeDef{
			input(3), identityOf("w"), floatConst("numbers", Shape{3}, []float32{1, 2, 7}), op("scaled", "Mul", nil, "in", "numbers"),
			cast("keys_in", "scaled", dtFloat, dtLong),
			table("words", dtLong, dtString, attrs{"shared_name": bytesAttr("shared")}), scalar, find("word", "words", dtLong, dtString, "keys_in", "nothing"),
			table("back", dtString, dtLong, attrs{"use_node_name_sharing": boolAttr(true)}), number("seven", -7), cast("minus", "seven", dtInt, dtLong),
			find("number", "back", dtString, dtLong, "word", "minus"), cast("y", "number", dtLong, dtFloat), op("out", "AddV2", nil, "y", "w/read"),
			// The operations that fill the tables.
			table("words_too", dtLong, dtString, attrs{"shared_name": bytesAttr("shared")}),
			stringConst("values", "zero", "one", "two"), number("first", 0), number("step", 1), op("size", "Size", attrs{"T": typeAttr(dtString)}, "values"),
			op("range", "Range", noT(attrs{"Tidx": typeAttr(dtInt)}), "first", "size", "step"), cast("keys64", "range", dtInt, dtLong),
			op("fill", "LookupTableImportV2", noT(attrs{"Tin": typeAttr(dtLong), "Tout": typeAttr(dtString)}), "words_too", "keys64", "values"),
			op("fill_back", "InitializeTableV2", noT(attrs{"Tkey": typeAttr(dtString), "Tval": typeAttr(dtLong)}), "back", "values", "keys64"),
			op("start", "NoOp", noT(nil), "^fill", "^fill_back"),
		}, more...),
	}
}

// fileModel is tableModel with its words in a file.
func fileModel(asset testAsset) testModel {
	m := tableModel(stringConst("path", ""))
	m.nodes[len(m.nodes)-1].Attr["value"].GetTensor().TensorShape = shapeMessage(nil)
	for _, n := range m.nodes {
		if n.GetName() == "fill" {
			n.Op, n.Input = "InitializeTableFromTextFileV2", []string{"words_too", "path"}
			n.Attr = attrs{"key_index": intAttr(-1), "value_index": intAttr(-2)}
		}
	}
	m.assets = map[string]testAsset{"path": asset}
	return m
}

// twiceModel calls a function with a loop twice.
func twiceModel() testModel {
	// Names of the first output, which other operations call "output".
	first := map[string]string{"AddV2": "z", "Mul": "z", "Less": "z", "Switch": "output_false"}
	body := loopOf("x", "y", 2, "scaled", floatIn("half", 0.5, "^turn/i"), op("scaled", "Mul", nil, "turn/x", "half"))
	kinds := make(map[string]string)
	for _, n := range body {
		kinds[n.GetName()] = n.GetOp()
	}
	for _, n := range body {
		for i, in := range n.GetInput() {
			name, second := strings.CutSuffix(in, ":1")
			result, ok := first[kinds[name]]
			switch {
			case kinds[name] == "":
				continue // the argument, or a control input
			case second:
				result = "output_true"
			case !ok:
				result = "output"
			}
			n.Input[i] = name + ":" + result + ":0"
		}
	}
	floats := []tfpb.DataType{dtFloat}
	return testModel{
		variables: map[string]testVariable{"w": reference(vector(3, 1))},
		functions: []*tfpb.FunctionDef{{
			Signature: &tfpb.OpDef{Name: "quarter", InputArg: []*tfpb.OpDef_ArgDef{arg("x", Float32)}, OutputArg: []*tfpb.OpDef_ArgDef{arg("y", Float32)}},
			NodeDef:   body, Ret: map[string]string{"y": "y:output:0"},
		}},
		nodes: []*tfpb.NodeDef{
			input(3), op("a", "AddV2", nil, "in", "w"),
			callOf("one", "quarter", floats, floats, "in"), callOf("two", "quarter", floats, floats, "a"), op("out", "Sub", nil, "one", "two"),
		},
	}
}

// Graphs of TensorFlow 1 give the same answers frozen and plain.
func TestFreezeTensorFlow1(t *testing.T) {
	norms := map[string]testVariable{
		"w": reference(filter(1, 2, 2, 3, 4)), "mean": reference(vector(4, 2)), "variance": reference(vector(4, 3)),
		"beta": reference(vector(4, 4)), "gamma": reference(vector(4, 5)),
	}
	reads := []*tfpb.NodeDef{input(2, 5, 5, 3), identityOf("w"), identityOf("mean"), identityOf("variance"), identityOf("beta"), identityOf("gamma")}
	norm := func(name, x string, inputs ...string) *tfpb.NodeDef {
		return op(name, "FusedBatchNormV3", attrs{"U": typeAttr(dtFloat), "is_training": boolAttr(false)}, append([]string{x}, inputs...)...)
	}
	all := []string{"gamma/read", "beta/read", "mean/read", "variance/read"}
	conv := func(name, x, w string) *tfpb.NodeDef { return op(name, "Conv2D", window(nil), x, w) }
	net := func(x string) []*tfpb.NodeDef {
		return []*tfpb.NodeDef{conv("conv", x, "w/read"), norm("bn", "conv", all...), op("out", "Relu", nil, "bn")}
	}
	part := func(v testVariable, of string, whole Shape, slice ...extent) testVariable {
		v.of, v.whole, v.slice = of, whole, slice
		return v
	}
	old := reference(vector(4, 2))
	old.reference = "Variable"
	// training returns a batch normalization under a condition, as Keras wrote it.
	training := func(is *tfpb.NodeDef) []*tfpb.NodeDef {
		nodes := slices.Concat(reads, []*tfpb.NodeDef{
			boolConst("no", false), is, op("pred", "Identity", attrs{"T": typeAttr(dtBool)}, "training"),
			op("pivot", "Switch", attrs{"T": typeAttr(dtBool)}, "training", "training"),
			op("pivot_t", "Identity", attrs{"T": typeAttr(dtBool)}, "pivot:1"), op("pivot_f", "Identity", attrs{"T": typeAttr(dtBool)}, "pivot"),
			conv("conv", "in", "w/read"), op("conv/s", "Switch", nil, "conv", "pred"), op("rate", "Const", noT(nil), "^pivot_t"),
			op("bn/train", "FusedBatchNormV3", attrs{"U": typeAttr(dtFloat), "is_training": boolAttr(true)}, "conv/s:1", "gamma/s:1", "beta/s:1", "rate", "rate"),
			norm("bn/serve", "conv/s", "gamma/s", "beta/s", "mean/s", "variance/s"),
			op("bn", "Merge", attrs{"N": intAttr(2)}, "bn/serve", "bn/train"), op("out", "Relu", nil, "bn"),
		})
		for _, v := range []string{"gamma", "beta", "mean", "variance"} {
			nodes = append(nodes, op(v+"/s", "Switch", nil, v+"/read", "pred"))
		}
		for _, n := range nodes {
			if n.GetName() == "rate" {
				n.Attr = floatConst("rate", Shape{0}, nil).GetAttr()
			}
		}
		return nodes
	}
	tests := []struct {
		name  string
		model testModel
		want  map[string]int
	}{
		{"references", testModel{variables: norms, nodes: slices.Concat(reads, net("in"))},
			map[string]int{"_FusedConv2D": 1, "VarHandleOp": 1, "VariableV2": 0, "Relu": 0, "FusedBatchNormV3": 0}},
		{"a reference without a read, and one of any shape", testModel{variables: map[string]testVariable{"w": norms["w"], "v": old}, nodes: []*tfpb.NodeDef{
			input(2, 5, 5, 3), conv("conv", "in", "w"), op("out", "Mul", nil, "conv", "v"),
		}}, map[string]int{"Mul": 0, "Variable": 0, "VarHandleOp": 1}},
		{"a reference under a condition", testModel{variables: norms, nodes: slices.Concat(reads[:2], condition("in", "out", "yes", "switch"), []*tfpb.NodeDef{
			identityOf("beta"), op("w/s", "RefSwitch", nil, "w", "pred"), op("w/s/read", "RefIdentity", nil, "w/s:1"),
			conv("c", "switch:1", "w/s/read"), op("three", "Slice", attrs{"Index": typeAttr(dtInt)}, "c", "begin", "size"),
			intConst("begin", 0, 0, 0, 0), intConst("size", 2, 5, 5, 3), op("yes", "Relu", nil, "three"),
		})}, map[string]int{"RefSwitch": 0, "Switch": 2, "Merge": 1, "Conv2D": 1}},
		{"a reference of a part, along the outputs", testModel{variables: map[string]testVariable{
			"a": part(reference(filter(1, 2, 2, 3, 1)), "w", Shape{2, 2, 3, 4}, extent{0, 2}, extent{0, 2}, extent{0, 3}, extent{0, 1}),
			"b": part(reference(filter(2, 2, 2, 3, 3)), "w", Shape{2, 2, 3, 4}, extent{0, 2}, extent{0, 2}, extent{0, 3}, extent{1, 3}),
			"v": reference(vector(4, 3)),
		}, nodes: []*tfpb.NodeDef{
			input(2, 5, 5, 3), identityOf("a"), identityOf("b"), identityOf("v"), number("axis", 3),
			op("cat", "ConcatV2", attrs{"N": intAttr(2), "Tidx": typeAttr(dtInt)}, "a/read", "b/read", "axis"), op("w", "Identity", nil, "cat"),
			conv("conv", "in", "w"), op("out", "Mul", nil, "conv", "v/read"),
		}}, map[string]int{"ConcatV2": 0, "VarHandleOp": 1, "Mul": 0}},
		{"parts along the inputs, one used by itself too", testModel{variables: map[string]testVariable{
			"a": part(filter(1, 1, 100), "w", Shape{3, 100}, extent{0, 1}, extent{0, 100}),
			"b": part(filter(2, 2, 100), "w", Shape{3, 100}, extent{1, 2}, extent{0, 100}),
		}, nodes: []*tfpb.NodeDef{
			input(2, 3), readOf("a"), readOf("b"), number("axis", -2),
			op("cat", "ConcatV2", attrs{"N": intAttr(2), "Tidx": typeAttr(dtInt)}, "a/read", "b/read", "axis"),
			op("p", "MatMul", nil, "in", "cat"), op("out", "Mul", nil, "p", "a/read"),
		}}, map[string]int{"ConcatV2": 0, "MatMul": 0, "_FusedMatMul": 1}},
		{"tables of constants, one shared", tableModel(), map[string]int{"HashTableV2": 3, "LookupTableImportV2": 1, "InitializeTableV2": 1}},
		{"tables of TensorFlow 0.12", func() testModel {
			m := tableModel()
			for _, n := range m.nodes {
				switch n.Op {
				case "HashTableV2", "LookupTableFindV2", "InitializeTableV2":
					n.Op = strings.TrimSuffix(n.Op, "V2")
				case "LookupTableImportV2":
					n.Op, n.Attr = "InitializeTable", noT(attrs{"Tkey": typeAttr(dtLong), "Tval": typeAttr(dtString)})
					delete(n.Attr, "T")
				}
			}
			return m
		}(), map[string]int{"HashTable": 3, "InitializeTable": 2}},
		{"a table of a file", fileModel(testAsset{name: "words.txt", text: "zero\none\ntwo\n"}), map[string]int{"InitializeTableFromTextFileV2": 1}},
		{"a table of a file, as TensorFlow 1 names it", fileModel(testAsset{name: "words.txt", text: "two\none\nzero\n", collection: true}), nil},
		{"a condition before", testModel{variables: norms, nodes: slices.Concat(reads, condition("in", "x", "yes", "switch"), []*tfpb.NodeDef{
			floatIn("two", 2, "^pivot_t"), op("yes", "Mul", nil, "switch:1", "two"),
		}, net("x"))}, map[string]int{"_FusedConv2D": 1, "Relu": 0, "Merge": 1, "FusedBatchNormV3": 0}},
		{"a constant in a branch", testModel{variables: norms, nodes: slices.Concat(reads[:1], []*tfpb.NodeDef{
			identityOf("beta"), floatConst("pixels", Shape{2, 5, 5, 3}, some(150, 3)), op("x", "Mul", nil, "merged", "eight"), floatIn("eight", 8),
			op("branch", "Identity", nil, "pixels", "^pivot_f"), op("yes", "Neg", nil, "switch:1"), identityOf("w"),
			conv("conv", "x", "w/read"), op("out", "BiasAdd", nil, "conv", "beta/read"),
		}, condition("in", "merged", "yes", "branch"))}, map[string]int{"Merge": 1}},
		{"not in training", testModel{variables: norms, nodes: training(op("training", "PlaceholderWithDefault", attrs{
			"T": {}, "dtype": typeAttr(dtBool), "shape": shapeAttr(Shape{}),
		}, "no"))}, map[string]int{"_FusedConv2D": 1, "Switch": 0, "Merge": 0, "FusedBatchNormV3": 0, "VarHandleOp": 1}},
		{"not in training, by a negation", testModel{variables: norms, nodes: append(
			training(op("training", "LogicalNot", noT(nil), "serving")), boolConst("serving", true),
		)}, map[string]int{"_FusedConv2D": 1, "Switch": 0, "Merge": 0}},
		{"a loop before", testModel{variables: norms, nodes: slices.Concat(reads, loopOf("in", "x", 3, "scaled",
			floatIn("half", 0.5, "^turn/i"), op("scaled", "Mul", nil, "turn/x", "half"),
		), net("x"))}, map[string]int{"_FusedConv2D": 1, "Exit": 1, "FusedBatchNormV3": 0}},
		{"a convolution in a loop", testModel{variables: map[string]testVariable{"w": reference(filter(1, 2, 2, 3, 3)), "v": reference(vector(3, 2))},
			nodes: append(loopOf("in", "out", 3, "scaled",
				enterConst("w/in", "w/read"), enterConst("v/in", "v/read"), conv("conv", "turn/x", "w/in"), op("b", "BiasAdd", nil, "conv", "v/in"),
				op("relu", "Relu", nil, "b"), floatIn("tenth", 0.1, "^turn/i"), op("scaled", "Mul", nil, "relu", "tenth"),
			), input(2, 5, 5, 3), identityOf("w"), identityOf("v"))}, map[string]int{"_FusedConv2D": 1, "Relu": 1, "NextIteration": 2}},
		{"a function with a loop, twice", twiceModel(), map[string]int{"Exit": 2}},
		{"map_fn", mappedModel(), map[string]int{"TensorArrayV3": 2, "MatMul": 1}},
		{"dropout that keeps all", testModel{variables: norms, nodes: slices.Concat(reads, []*tfpb.NodeDef{
			op("keep", "PlaceholderWithDefault", noT(attrs{"dtype": typeAttr(dtFloat), "shape": shapeAttr(Shape{})}), "one"), floatIn("one", 1),
			op("shape", "Shape", attrs{"out_type": typeAttr(dtInt)}, "in"),
			op("random", "RandomUniform", attrs{"T": typeAttr(dtInt), "dtype": typeAttr(dtFloat)}, "shape"), op("sum", "AddV2", nil, "random", "keep"),
			op("mask", "Floor", nil, "sum"), op("kept", "Mul", nil, "in", "mask"), op("x", "RealDiv", nil, "kept", "keep"),
		}, net("x"))}, map[string]int{"_FusedConv2D": 1, "RandomUniform": 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			openLibrary(t)
			checkFrozen(t, test.model, test.want)
		})
	}
}

// NaN and infinity from an input are not hidden in a branch or a loop, where no check can be
// fetched.
func TestFreezeKeepsNaN(t *testing.T) {
	openLibrary(t)
	variables := map[string]testVariable{"w": reference(filter(1, 2, 2, 3, 3)), "v": reference(vector(3, 2))}
	layers := func(x, w, v string) []*tfpb.NodeDef {
		return []*tfpb.NodeDef{op("conv", "Conv2D", window(nil), x, w), op("b", "BiasAdd", nil, "conv", v), op("relu", "Relu", nil, "b")}
	}
	reads := []*tfpb.NodeDef{input(1, 5, 5, 3), identityOf("w"), identityOf("v")}
	for name, nodes := range map[string][]*tfpb.NodeDef{
		"branch": slices.Concat(reads, condition("in", "out", "switch:1", "relu"), layers("switch", "w/read", "v/read")),
		"loop": slices.Concat(reads, loopOf("in", "out", 1, "relu",
			append(layers("turn/x", "w/in", "v/in"), enterConst("w/in", "w/read"), enterConst("v/in", "v/read"))...)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := testModel{variables: variables, nodes: nodes}.save(t)
			in := tensorOf(t, Float32, slices.Repeat([]float32{float32(math.NaN())}, 75), 1, 5, 5, 3)
			for _, k := range []Kernels{KernelsTensorFlow, KernelsOneDNN} {
				m := loadWith(t, dir, Options{Optimize: true, Kernels: k})
				if !m.Frozen {
					t.Fatal(m.WhyNot)
				}
				out, err := m.Run(t.Context(), "serving_default", map[string]*Tensor{"x": in})
				if errors.Is(err, ErrNotFinite) {
					continue
				}
				must(t, err)
				defer out["y"].Close()
				if got, _ := Data[float32](out["y"]); slices.ContainsFunc(got, func(v float32) bool { return v == v }) {
					t.Errorf("%v: %v", k, got)
				}
			}
		})
	}
}

func TestFreezeRefusesTensorFlow1(t *testing.T) {
	change := func(m testModel, f func(nodes map[string]*tfpb.NodeDef)) testModel {
		nodes := make(map[string]*tfpb.NodeDef)
		for _, n := range m.nodes {
			nodes[n.GetName()] = n
		}
		f(nodes)
		return m
	}
	file := func(name string) testModel { return fileModel(testAsset{name: name, text: "zero\n"}) }
	simple := testModel{variables: map[string]testVariable{"w": reference(vector(3, 1))}, nodes: []*tfpb.NodeDef{
		input(3), op("out", "AddV2", nil, "in", "w"),
	}}
	missing := file("words.txt")
	missing.assets = map[string]testAsset{"path": {name: "../words.txt"}}
	sliced := reference(vector(3, 1))
	sliced.of, sliced.whole, sliced.slice = "whole", Shape{6}, []extent{{0, 3}}
	tests := []struct {
		name  string
		model testModel
		want  string
	}{
		{"a reference is set", testModel{variables: simple.variables, nodes: []*tfpb.NodeDef{
			input(3), op("set", "AssignAdd", nil, "w", "in"), op("out", "AddV2", nil, "in", "set"),
		}}, `"set" (AssignAdd) may change a variable`},
		{"a reference is set at start", testModel{start: "start", variables: simple.variables, nodes: append(slices.Clone(simple.nodes),
			floatConst("ones", Shape{3}, []float32{1, 1, 1}), op("start", "Assign", nil, "w", "ones"),
		)}, `variable "w" is set when the model starts`},
		{"a part of another variable", testModel{variables: map[string]testVariable{"w": sliced, "v": func() testVariable {
			v := vector(3, 2)
			v.of, v.whole, v.slice, v.noKey = "whole", Shape{6}, []extent{{3, 3}}, true
			return v
		}()}, nodes: []*tfpb.NodeDef{input(3), readOf("v"), op("sum", "AddV2", nil, "v/read", "w"), op("out", "AddV2", nil, "in", "sum")}},
			`variable "v" has no value: the checkpoint does not have this part of "whole"`},
		{"a file that is no asset", change(file("words.txt"), func(n map[string]*tfpb.NodeDef) {
			n["fill"].Input[1] = "elsewhere"
			n["step"].Name, n["step"].Op = "elsewhere", "Const"
			n["range"].Input[2] = "first"
		}), `"fill" reads a file that is not one of the model's`},
		{"a file elsewhere", missing, `the asset "../words.txt" is outside assets`},
		{"a range without end", change(tableModel(), func(n map[string]*tfpb.NodeDef) {
			n["first"].Attr = number("", math.MinInt32).Attr
		}), "tables may have more than 4194304 elements"},
		{"a constant without end", change(tableModel(), func(n map[string]*tfpb.NodeDef) {
			n["values"].Attr["value"].GetTensor().TensorShape = shapeMessage(Shape{1 << 40})
		}), "tables may have more than 4194304 elements"},
		{"filled by more than constants", change(tableModel(), func(n map[string]*tfpb.NodeDef) { n["keys64"].Op = "Square" }), `"keys64" (Square) fills a table`},
		{"another table", change(tableModel(), func(n map[string]*tfpb.NodeDef) { n["words_too"].Attr["shared_name"] = bytesAttr("other") }),
			`nothing fills the table "words" when the model starts`},
		{"a table that a run may fill", change(tableModel(), func(n map[string]*tfpb.NodeDef) { n["words"].Op = "MutableHashTableV2" }),
			`"words" (MutableHashTableV2) has state`},
		{"a loop without NextIteration", testModel{variables: simple.variables, nodes: append(loopOf("in", "x", 2, "turn/x"),
			input(3), op("again", "AddV2", nil, "merge", "x"), op("merge", "Merge", attrs{"N": intAttr(2)}, "again", "x"), op("out", "AddV2", nil, "merge", "w"),
		)}, `"merge" is part of a loop`},
		{"a loop that never starts", testModel{variables: simple.variables, nodes: append(loopOf("never", "x", 2, "turn/x"),
			input(3), boolConst("no", false), op("s", "Switch", nil, "in", "no"), op("never", "Identity", nil, "s:1"),
			op("out", "AddV2", nil, "x", "w"), op("random", "RandomShuffle", nil, "x"),
		), output: "random:0"}, `"random" (RandomShuffle) has state`},
		{"a function in a loop", func() testModel {
			m := nestedModel()
			m.nodes = append(loopOf("in", "x", 2, "result",
				callOf("call", "wrapper", []tfpb.DataType{dtFloat, dtResource, dtResource}, []tfpb.DataType{dtFloat}, "turn/x", "w", "v"),
				op("result", "Identity", nil, "call"),
			), input(2, 3), op("out", "Identity", nil, "x"))
			m.output = "out:0"
			return m
		}(), `"call" calls a function under a condition or in a loop`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			openLibrary(t)
			dir := test.model.save(t)
			mg, err := readMetaGraphDef(dir, []string{"serve"})
			must(t, err)
			m, err := loadFrozen(context.Background(), dir, mg, Options{})
			if m != nil {
				must(t, m.Close())
			}
			if !errors.Is(err, errNotOptimized) || err.Error() != fmt.Sprintf("%v: %s", errNotOptimized, test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// Following a graph that TensorFlow refuses ends.
func TestFreezeManyWays(t *testing.T) {
	openLibrary(t)
	m := tableModel()
	for i := range 50 { // 2⁵⁰ ways lead to the first
		from := "way" + strconv.Itoa(i+1)
		m.nodes = append(m.nodes, op("way"+strconv.Itoa(i), "Identity", attrs{"T": typeAttr(dtString)}, from, from))
	}
	m.nodes = append(m.nodes, stringConst("way50", "zero"))
	for _, n := range m.nodes {
		if n.GetName() == "fill" {
			n.Input[2] = "way0"
		}
	}
	dir := m.save(t)
	mg, err := readMetaGraphDef(dir, []string{"serve"})
	must(t, err)
	frozen, err := loadFrozen(context.Background(), dir, mg, Options{})
	if err == nil {
		must(t, frozen.Close())
		t.Error("loaded")
	}
}

// Keys of parts, as Python's TensorFlow 2.21 wrote them. The last two have large numbers.
func TestSliceKey(t *testing.T) {
	tests := []struct {
		slice []extent
		want  string
	}{
		{[]extent{{0, 4}}, "\x00net/b0\x00\x01\x01\x01\x80\x84"},
		{[]extent{{4, 4}}, "\x00net/b0\x00\x01\x01\x01\x84\x84"},
		{[]extent{{0, -1}}, "\x00net/b0\x00\x01\x01\x01\x80\x7f"},
		{[]extent{{64, 8192}, {0, 1 << 40}}, "\x00net/b0\x00\x01\x01\x02\xc0\x40\xe0\x20\x00\x80\xfd\x00\x00\x00\x00\x00"},
	}
	for _, test := range tests {
		if got := sliceKey("net/b0", test.slice); got != test.want {
			t.Errorf("%v: %q, want %q", test.slice, got, test.want)
		}
	}
	if got := sliceKey("a\x00b\xff", nil); !strings.HasPrefix(got, "\x00a\x00\xffb\xff\x00\x00\x01") {
		t.Errorf("%q", got)
	}
}
