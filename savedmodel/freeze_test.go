package savedmodel

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// answer runs the model's signature on in, which it closes.
func answer(tb testing.TB, m *Model, in *Tensor) []float32 {
	tb.Helper()
	out, err := m.Run(tb.Context(), "serving_default", map[string]*Tensor{"x": in})
	must(tb, err)
	defer out["y"].Close()
	values, err := Data[float32](out["y"])
	must(tb, err)
	return slices.Clone(values)
}

func loadWith(tb testing.TB, dir string, o Options) *Model {
	tb.Helper()
	openLibrary(tb)
	m, err := Load(tb.Context(), dir, o)
	must(tb, err)
	tb.Cleanup(func() { must(tb, m.Close()) })
	return m
}

// closeTo compares values with a tolerance for rounding, relative to their size.
func closeTo(got, want []float32) bool {
	return slices.EqualFunc(got, want, func(a, b float32) bool {
		return math.Abs(float64(a-b)) <= 1e-5*max(1, math.Abs(float64(b)))
	})
}

// frozenOf returns the frozen graph of a version.
func frozenOf(tb testing.TB, dir string, k Kernels) *frozenGraph {
	tb.Helper()
	mg, err := readMetaGraphDef(dir, []string{"serve"})
	must(tb, err)
	ops, err := operations()
	must(tb, err)
	values, err := openCheckpoint(tb.Context(), dir)
	must(tb, err)
	tb.Cleanup(values.close)
	g, err := freeze(mg, ops, values, newLoadBudget(tb.Context()))
	must(tb, err)
	g.fuse(k, nil)
	return g
}

// kinds counts the operations of a frozen graph.
func kinds(tb testing.TB, dir string, k Kernels) map[string]int {
	tb.Helper()
	g := frozenOf(tb, dir, k)
	n := make(map[string]int)
	for _, node := range g.nodes {
		n[node.GetOp()]++
	}
	return n
}

// normalized returns a batch normalization of the tensor x, as Keras writes it.
func normalized(prefix, x string) []*tfpb.NodeDef {
	return []*tfpb.NodeDef{
		readOf("mean"), readOf("variance"), readOf("beta"), floatConst(prefix+"epsilon", Shape{1}, []float32{0.001}),
		op(prefix+"add", "AddV2", nil, "variance/read", prefix+"epsilon"),
		op(prefix+"rsqrt", "Rsqrt", nil, prefix+"add"),
		op(prefix+"mul", "Mul", nil, x, prefix+"rsqrt"),
		op(prefix+"mul_1", "Mul", nil, "mean/read", prefix+"rsqrt"),
		op(prefix+"sub", "Sub", nil, "beta/read", prefix+"mul_1"),
		op(prefix+"bn", "AddV2", nil, prefix+"mul", prefix+"sub"),
	}
}

// Each graph gives the same answer frozen and plain. The frozen one has the expected operations.
func TestFreeze(t *testing.T) {
	openLibrary(t)
	norms := map[string]testVariable{
		"w": filter(1, 2, 2, 3, 4), "mean": vector(4, 2), "variance": vector(4, 3), "beta": vector(4, 4), "gamma": vector(4, 5),
	}
	conv := op("conv", "Conv2D", window(nil), "in", "w/read")
	fused := func(more attrs) *tfpb.NodeDef {
		a := attrs{"U": typeAttr(dtFloat), "is_training": boolAttr(false), "epsilon": {Value: &tfpb.AttrValue_F{F: 0.01}}}
		for key, value := range more {
			a[key] = value
		}
		return op("out", "FusedBatchNormV3", a, "conv", "gamma/read", "beta/read", "mean/read", "variance/read")
	}
	reads := []*tfpb.NodeDef{readOf("w"), readOf("mean"), readOf("variance"), readOf("beta"), readOf("gamma")}
	body := func(nodes ...*tfpb.NodeDef) []*tfpb.NodeDef {
		return slices.Concat([]*tfpb.NodeDef{input(2, 5, 5, 3), readOf("w"), conv}, nodes)
	}
	tests := []struct {
		name  string
		model testModel
		want  map[string]int // numbers of operations, for TensorFlow's kernels
	}{
		{"Keras, Relu", testModel{variables: norms, nodes: slices.Concat(body(normalized("", "conv")...), []*tfpb.NodeDef{op("out", "Relu", nil, "bn")})},
			map[string]int{"_FusedConv2D": 1, "Relu": 0, "Mul": 0, "BiasAdd": 0, "VarHandleOp": 1}},
		{"FusedBatchNormV3", testModel{variables: norms, nodes: slices.Concat(reads, []*tfpb.NodeDef{input(2, 5, 5, 3), conv, fused(nil)})},
			map[string]int{"_FusedConv2D": 1, "FusedBatchNormV3": 0}},
		{"its other results are used", testModel{variables: norms, output: "sum:0", nodes: slices.Concat(reads, []*tfpb.NodeDef{
			input(2, 5, 5, 3), conv, fused(nil), op("sum", "AddV2", nil, "out", "out:1"),
		})}, map[string]int{"Conv2D": 1, "FusedBatchNormV3": 1}},
		{"BiasAdd before, scalar, reversed", testModel{variables: norms, nodes: body(
			readOf("beta"), floatConst("two", Shape{1}, []float32{2}), op("b", "BiasAdd", nil, "conv", "beta/read"),
			op("m", "Mul", nil, "two", "b"), op("out", "Sub", nil, "m", "beta/read"),
		)}, map[string]int{"_FusedConv2D": 1, "Mul": 0, "Sub": 0}},
		{"only a BiasAdd", testModel{variables: norms, nodes: body(readOf("beta"), op("out", "BiasAdd", nil, "conv", "beta/read"))},
			map[string]int{"_FusedConv2D": 1, "VarHandleOp": 2}},
		{"subtracted from", testModel{variables: norms, nodes: body(readOf("beta"), op("out", "Sub", nil, "beta/read", "conv"))},
			map[string]int{"Conv2D": 1, "Sub": 1}},
		{"used twice", testModel{variables: norms, nodes: slices.Concat(body(normalized("", "conv")...), []*tfpb.NodeDef{op("out", "AddV2", nil, "bn", "conv")})},
			map[string]int{"Conv2D": 1, "Mul": 1, "Rsqrt": 0, "VarHandleOp": 1}},
		{"one filter for two, in two scales", testModel{variables: norms, nodes: body(
			readOf("beta"), readOf("gamma"), op("conv2", "Conv2D", window(nil), "in", "w/read"), op("conv3", "Conv2D", window(nil), "in", "w/read"),
			op("m", "Mul", nil, "conv", "beta/read"), op("m2", "Mul", nil, "conv2", "gamma/read"), op("m3", "Mul", nil, "gamma/read", "conv3"),
			op("sum", "AddV2", nil, "m", "m2"), op("out", "AddV2", nil, "sum", "m3"),
		)}, map[string]int{"_FusedConv2D": 3, "VarHandleOp": 2, "Mul": 0}},
		{"reshaped, Relu6", testModel{variables: norms, nodes: body(
			readOf("beta"), op("shape", "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(&tfpb.TensorProto{
				Dtype: dtInt, TensorShape: shapeMessage(Shape{4}), IntVal: []int32{1, 1, -1, 4},
			})})),
			op("r", "Reshape", attrs{"Tshape": typeAttr(dtInt)}, "beta/read", "shape"), op("m", "Mul", nil, "conv", "r"), op("out", "Relu6", nil, "m"),
		)}, map[string]int{"_FusedConv2D": 1, "Relu6": 0, "Reshape": 0}},
		{"scaled before", testModel{variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "v": vector(3, 2)}, nodes: []*tfpb.NodeDef{
			input(2, 5, 5, 3), readOf("w"), readOf("v"), op("r", "Rsqrt", nil, "v/read"), op("m", "Mul", nil, "in", "r"),
			op("out", "Conv2D", window(nil), "m", "w/read"),
		}}, map[string]int{"Conv2D": 1, "Rsqrt": 0, "VarHandleOp": 1}},
		{"along another dimension", testModel{variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 5), "v": filter(2, 5, 1)}, nodes: body(
			readOf("v"), op("out", "Mul", nil, "conv", "v/read"),
		)}, map[string]int{"Conv2D": 1, "Mul": 1}},
		{"grouped", testModel{variables: map[string]testVariable{"w": filter(1, 2, 2, 2, 4), "v": vector(4, 2)}, nodes: []*tfpb.NodeDef{
			input(2, 5, 5, 4), readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "in", "w/read"), op("out", "Mul", nil, "conv", "v/read"),
		}}, map[string]int{"Mul": 0}},
		{"depthwise", testModel{variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 2), "v": vector(6, 2)}, nodes: []*tfpb.NodeDef{
			input(2, 5, 5, 3), readOf("w"), readOf("v"), op("conv", "DepthwiseConv2dNative", window(nil), "in", "w/read"),
			op("out", "Mul", nil, "conv", "v/read"),
		}}, map[string]int{"DepthwiseConv2dNative": 1, "BiasAdd": 1, "Mul": 0}},
		{"product", testModel{variables: map[string]testVariable{"w": filter(1, 3, 4), "v": vector(4, 2)}, nodes: []*tfpb.NodeDef{
			input(2, 3), readOf("w"), readOf("v"), op("p", "MatMul", nil, "in", "w/read"), op("m", "Mul", nil, "p", "v/read"),
			op("b", "AddV2", nil, "v/read", "m"), op("out", "Relu", nil, "b"),
		}}, map[string]int{"_FusedMatMul": 1, "Mul": 0, "Relu": 0}},
		{"product by a transposed matrix", testModel{variables: map[string]testVariable{"w": filter(1, 4, 3), "v": vector(4, 2)}, nodes: []*tfpb.NodeDef{
			input(2, 3), readOf("w"), readOf("v"), op("p", "MatMul", attrs{"transpose_b": boolAttr(true)}, "in", "w/read"),
			op("out", "Mul", nil, "p", "v/read"),
		}}, map[string]int{"MatMul": 1, "Mul": 1}},
		{"product, more dimensions", testModel{variables: map[string]testVariable{"w": filter(1, 3, 4), "v": filter(2, 1, 1, 4)}, nodes: []*tfpb.NodeDef{
			input(2, 3), readOf("w"), readOf("v"), op("p", "MatMul", nil, "in", "w/read"), op("out", "Mul", nil, "p", "v/read"),
		}}, map[string]int{"MatMul": 1, "Mul": 1}},
		{"nested functions", nestedModel(), map[string]int{"_FusedMatMul": 1, "Mul": 0, "Assert": 1, "StatefulPartitionedCall": 0, "Identity": 2}},
		{"a loop reads a variable", loopModel(), map[string]int{"While": 1, "VarHandleOp": 1}},
		{"an empty variable times a number", testModel{variables: map[string]testVariable{"w": vector(3, 1), "e": {shape: Shape{0}}}, nodes: []*tfpb.NodeDef{
			input(3), readOf("w"), readOf("e"), floatConst("two", Shape{1}, []float32{2}), op("m", "Mul", nil, "e/read", "two"),
			intConst("axis"), op("sum", "AddV2", nil, "in", "w/read"),
			op("out", "ConcatV2", attrs{"N": intAttr(2), "Tidx": typeAttr(dtInt)}, "sum", "m", "axis"),
		}}, map[string]int{"Mul": 1}},
		{"one empty variable of another", testModel{variables: map[string]testVariable{"w": vector(3, 1), "e": {shape: Shape{0, 3}}}, nodes: []*tfpb.NodeDef{
			input(3), readOf("w"), readOf("e"), op("r", "Rsqrt", nil, "e/read"), op("d", "Sub", nil, "r", "e/read"),
			op("s", "Sum", attrs{"Tidx": typeAttr(dtInt)}, "d", "axis"), intConst("axis"), op("m", "AddV2", nil, "s", "w/read"),
			op("out", "AddV2", nil, "in", "m"),
		}}, map[string]int{"Rsqrt": 1, "Sub": 1}},
		{"a matrix without columns", testModel{variables: map[string]testVariable{"w": {shape: Shape{3, 0}}, "v": {shape: Shape{0}}}, nodes: []*tfpb.NodeDef{
			input(2, 3), readOf("w"), readOf("v"), op("p", "MatMul", nil, "in", "w/read"),
			op("m", "Mul", nil, "p", "v/read"), op("out", "Relu", nil, "m"),
		}}, map[string]int{"MatMul": 1, "Mul": 1}},
		{"embedding", testModel{variables: map[string]testVariable{"w": filter(1, 5, 2)}, nodes: []*tfpb.NodeDef{
			input(3), op("index", "Cast", noT(attrs{"SrcT": typeAttr(dtFloat), "DstT": typeAttr(dtInt)}), "in"),
			op("out", "ResourceGather", noT(attrs{"dtype": typeAttr(dtFloat), "Tindices": typeAttr(dtInt)}), "w", "index"),
		}}, map[string]int{"ResourceGather": 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			checkFrozen(t, test.model, test.want)
		})
	}
}

// checkFrozen compares a model's optimized answer with its plain one, and counts the operations of
// the graph for TensorFlow's kernels.
func checkFrozen(t *testing.T, model testModel, operations map[string]int) {
	t.Helper()
	dir := model.save(t)
	var shape []int64
	for _, n := range model.nodes {
		if n.GetName() == "in" {
			shape = shapeOf(n.GetAttr()["shape"].GetShape())
		}
	}
	n, _ := Shape(shape).Elements()
	in := tensorOf(t, Float32, some(int(n), 9), shape...)
	plain := loadWith(t, dir, Options{})
	want := answer(t, plain, in)
	for _, k := range []Kernels{KernelsTensorFlow, KernelsOneDNN} {
		m := loadWith(t, dir, Options{Optimize: true, Kernels: k})
		if !m.Frozen || m.Kernels != k {
			t.Fatalf("frozen %v with %v: %s", m.Frozen, m.Kernels, m.WhyNot)
		}
		for range 2 {
			if got := answer(t, m, in); !closeTo(got, want) {
				t.Errorf("%v: %v, plain is %v", k, got, want)
			}
		}
	}
	found := kinds(t, dir, KernelsTensorFlow)
	for kind, n := range operations {
		if found[kind] != n {
			t.Errorf("%d of %s, not %d; there are %v", found[kind], kind, n, found)
		}
	}
}

// TensorFlow 2.21 cannot run this model itself, because its optimizer fuses a grouped convolution.
func TestFreezeKeepsFetched(t *testing.T) {
	openLibrary(t)
	model := testModel{
		variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "v": vector(4, 2)},
		output:    "out:1",
		nodes: []*tfpb.NodeDef{
			input(2, 5, 5, 3), readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "in", "w/read"),
			op("out", "FusedBatchNormV3", attrs{"U": typeAttr(dtFloat), "is_training": boolAttr(false)}, "conv", "v/read", "v/read", "v/read", "v/read"),
		},
	}
	if found := kinds(t, model.save(t), KernelsTensorFlow); found["FusedBatchNormV3"] != 1 {
		t.Errorf("there are %v", found)
	}
}

// Load leaves an unknown graph to TensorFlow's loader and says why.
func TestFreezeRefuses(t *testing.T) {
	add := func(nodes ...*tfpb.NodeDef) testModel {
		return testModel{
			variables: map[string]testVariable{"w": vector(3, 1)},
			nodes:     slices.Concat([]*tfpb.NodeDef{input(3), readOf("w"), op("out", "AddV2", nil, "in", "w/read")}, nodes),
		}
	}
	chain := add()
	chain.nodes[2].Input[1] = "0"
	for i := range maxFlatDepth {
		chain.nodes = append(chain.nodes, op(strconv.Itoa(i), "Identity", nil, strconv.Itoa(i+1)))
	}
	chain.nodes = append(chain.nodes, op(strconv.Itoa(maxFlatDepth), "Identity", nil, "w/read"))
	change := func(m testModel, f func(*testModel)) testModel {
		f(&m)
		return m
	}
	variable := func(v testVariable) testModel {
		return change(add(), func(m *testModel) { m.variables = map[string]testVariable{"w": v} })
	}
	assign := op("set", "AssignVariableOp", noT(attrs{"dtype": typeAttr(dtFloat)}), "w", "in")
	start := op("start", "AssignVariableOp", noT(attrs{"dtype": typeAttr(dtFloat)}), "w", "ones")
	gone := vector(3, 1)
	gone.noKey = true
	lost := vector(3, 1)
	lost.noRestore = true
	other := vector(3, 1)
	other.wrongShape = true
	tests := []struct {
		name  string
		model testModel
		want  string
	}{
		{"no variables", testModel{nodes: []*tfpb.NodeDef{input(3), op("out", "Neg", nil, "in")}}, "the signatures use no variables"},
		{"no value", variable(gone), `variable "w" has no value: the checkpoint has no "w"`},
		{"not restored", variable(lost), `variable "w" is not restored`},
		{"another shape", variable(other), `variable "w" is float32 [7], but its value float32 [3]`},
		{"written", change(add(assign), func(m *testModel) {
			m.nodes[2].Input = append(m.nodes[2].Input, "^set")
		}), `"set" (AssignVariableOp) has state`},
		{"set at start", change(add(floatConst("ones", Shape{3}, []float32{1, 1, 1}), start), func(m *testModel) {
			m.start = "start"
		}), `variable "w" is set when the model starts`},
		{"table", change(add(
			op("table", "HashTableV2", noT(attrs{"key_dtype": typeAttr(dtInt), "value_dtype": typeAttr(dtFloat)})), intConst("key"), floatConst("none", Shape{}, []float32{0}),
			op("found", "LookupTableFindV2", noT(attrs{"Tin": typeAttr(dtInt), "Tout": typeAttr(dtFloat)}), "table", "key", "none"),
		), func(m *testModel) {
			m.nodes[2].Input[0] = "found"
		}), `nothing fills the table "table" when the model starts`},
		{"random", change(add(), func(m *testModel) {
			m.nodes[2] = op("out", "RandomShuffle", nil, "w/read")
		}), `"out" (RandomShuffle) has state`},
		{"loop without end", change(add(), func(m *testModel) {
			m.nodes[2].Input[1] = "out"
		}), `"out" is part of a loop`},
		{"unknown operation", change(add(), func(m *testModel) { m.nodes[2].Op = "Made" }), `TensorFlow has no operation "Made"`},
		{"unknown function", change(add(), func(m *testModel) {
			m.nodes[2] = callOf("out", "none", []tfpb.DataType{dtFloat}, []tfpb.DataType{dtFloat}, "in")
		}), `"out" has no results`},
		{"unknown input", change(add(), func(m *testModel) { m.nodes[2].Input[0] = "nothing" }), `the graph has no operation "nothing"`},
		{"writes in a loop", change(loopModel(), func(m *testModel) {
			m.functions[1].NodeDef[2].Op = "AssignAddVariableOp"
		}), `"body/read" (AssignAddVariableOp) has state`},
		{"function of itself", change(nestedModel(), func(m *testModel) {
			m.functions[1].NodeDef[5] = callOf("m", "body", []tfpb.DataType{dtFloat, dtResource, dtResource}, []tfpb.DataType{dtFloat}, "x", "a", "b")
			m.functions[1].Ret["y"] = "m:output:0"
		}), "calls of functions are more than 64 deep"},
		{"operations one after another", chain, "operations are more than 20000 deep"},
		{"loops one in another", change(loopModel(), func(m *testModel) {
			body := m.functions[1]
			m.nodes[2].Attr["body"] = functionAttr("body0")
			for i := range maxCallDepth + 1 {
				next := proto.Clone(body).(*tfpb.FunctionDef)
				next.Signature.Name = "body" + strconv.Itoa(i)
				next.NodeDef = append(next.NodeDef, op("deeper", "StatelessWhile", attrs{"body": functionAttr("body" + strconv.Itoa(i+1))}))
				m.functions = append(m.functions, next)
			}
		}), "calls of functions are more than 64 deep"},
		{"a number of results that no operation has", change(nestedModel(), func(m *testModel) {
			m.functions[1].NodeDef[5] = op("m", "ParseExample", noT(attrs{"Nsparse": intAttr(math.MinInt64)}))
			m.functions[1].Ret["y"] = "m:dense_values:0"
		}), `"dense_values:0" is no result of "call/call/m"`},
		{"too few arguments", change(nestedModel(), func(m *testModel) {
			m.nodes[1].Input = m.nodes[1].Input[:2]
		}), `"call" gives 2 arguments to the function "wrapper"`},
		{"restored from another file", change(add(stringConst("elsewhere", "x")), func(m *testModel) { m.file = "elsewhere" }),
			`cannot tell which value the restore operation gives to "w"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			openLibrary(t)
			dir := test.model.save(t)
			mg, err := readMetaGraphDef(dir, []string{"serve"})
			must(t, err)
			m, err := loadFrozen(t.Context(), dir, mg, Options{})
			if m != nil {
				must(t, m.Close())
			}
			if !errors.Is(err, errNotOptimized) || err.Error() != fmt.Sprintf("%v: %s", errNotOptimized, test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	t.Run("an asset and a string", func(t *testing.T) {
		m := loadWith(t, "testdata/tiny", Options{Optimize: true})
		if m.Frozen || !strings.Contains(m.WhyNot, `"StatefulPartitionedCall`) && !strings.Contains(m.WhyNot, "variable") {
			t.Errorf("frozen %v: %q", m.Frozen, m.WhyNot)
		}
		features := []float32{0.1, -0.2, 0.3, 0.4}
		out, err := m.Run(t.Context(), "serving_default", map[string]*Tensor{"features": tensorOf(t, Float32, features, 1, 4)})
		must(t, err)
		defer out["scores"].Close()
		if got, _ := Data[float32](out["scores"]); !near(got, wantScores(features)) {
			t.Errorf("scores %v", got)
		}
	})
}

// A damaged checkpoint is an error that says where. Load does not try TensorFlow's loader.
func TestFreezeDamaged(t *testing.T) {
	openLibrary(t)
	model := testModel{
		variables: map[string]testVariable{"v": vector(3, 1), "w": vector(3, 2)},
		nodes: []*tfpb.NodeDef{
			input(3), readOf("v"), readOf("w"), op("sum", "AddV2", nil, "v/read", "w/read"), op("out", "AddV2", nil, "in", "sum"),
		},
	}
	shard := variablesPrefix + ".data-00000-of-00001"
	tests := []struct {
		name   string
		damage func(name string) error
		want   string
	}{
		{"a bit", func(name string) error {
			b, err := os.ReadFile(name)
			must(t, err)
			b[17] ^= 1
			return os.WriteFile(name, b, 0o600)
		}, `variable "w": ` + shard + ": malformed at byte 12: the checksum of 12 bytes is"},
		{"cut off", func(name string) error { return os.Truncate(name, 20) }, `variable "w": ` + shard + ": malformed at byte 20: the file ends"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := model.save(t)
			must(t, test.damage(filepath.Join(dir, shard)))
			_, err := Load(t.Context(), dir, Options{Optimize: true})
			if !errors.Is(err, ErrMalformed) || !strings.HasPrefix(err.Error(), "load "+dir+": "+test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	t.Run("more than is there", func(t *testing.T) { // no memory is taken for it
		model := model
		model.variables = map[string]testVariable{"v": vector(3, 1), "w": {shape: Shape{1 << 38}}}
		model.nodes = []*tfpb.NodeDef{
			input(3), readOf("v"), readOf("w"), intConst("axis"), op("all", "Sum", attrs{"Tidx": typeAttr(dtInt)}, "w/read", "axis"),
			op("sum", "AddV2", nil, "v/read", "all"), op("out", "AddV2", nil, "in", "sum"),
		}
		_, err := Load(t.Context(), model.save(t), Options{Optimize: true})
		if want := `variable "w": ` + shard + ": malformed at byte 12: the file ends"; !errors.Is(err, ErrMalformed) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
	t.Run("no shard", func(t *testing.T) { // TensorFlow tells
		dir := model.save(t)
		must(t, os.Remove(filepath.Join(dir, shard)))
		_, err := Load(t.Context(), dir, Options{Optimize: true})
		var status *Error
		if !errors.As(err, &status) || status.Code != NotFound {
			t.Errorf("got %v", err)
		}
	})
}

func TestFreezeReloadMemory(t *testing.T) {
	openLibrary(t)
	dir := testModel{
		variables: map[string]testVariable{"w": filter(1, 3, 3, 64, 256), "v": vector(256, 2)},
		nodes: []*tfpb.NodeDef{
			input(1, 8, 8, 64), readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "in", "w/read"),
			op("m", "Mul", nil, "conv", "v/read"), op("out", "Relu", nil, "m"),
		},
	}.save(t)
	in := tensorOf(t, Float32, some(8*8*64, 1), 1, 8, 8, 64)
	once := func() {
		m, err := Load(t.Context(), dir, Options{Optimize: true})
		must(t, err)
		defer m.Close()
		answer(t, m, in)
	}
	for range 10 {
		once()
	}
	before := resident(t)
	for range 40 { // each holds the filter, 600 kB, twice
		once()
	}
	if grown := resident(t) - before; grown > 6<<20 {
		t.Errorf("resident memory grew by %d MiB", grown>>20)
	}
}
