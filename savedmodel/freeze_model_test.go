package savedmodel

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"inceptor/savedmodel/tfpb"
)

const (
	dtFloat    = tfpb.DataType_DT_FLOAT
	dtInt      = tfpb.DataType_DT_INT32
	dtBool     = tfpb.DataType_DT_BOOL
	dtResource = tfpb.DataType_DT_RESOURCE
)

type attrs = map[string]*tfpb.AttrValue

// op returns a node with attributes. T is float32 unless they say otherwise.
func op(name, kind string, a attrs, inputs ...string) *tfpb.NodeDef {
	all := attrs{"T": typeAttr(dtFloat)}
	maps.Copy(all, a)
	if all["T"].GetValue() == nil {
		delete(all, "T")
	}
	return &tfpb.NodeDef{Name: name, Op: kind, Input: inputs, Attr: all}
}

// noT is for operations without the attribute T.
func noT(a attrs) attrs {
	all := attrs{"T": {}}
	maps.Copy(all, a)
	return all
}

// A variable of a testModel. Its node and its key have its name.
type testVariable struct {
	shape  Shape
	values []float32 // fewer than shape says: the shard lacks them
	// Faults.
	noKey, noRestore, wrongShape bool
	// reference is the operation of a variable of TensorFlow 1.
	reference string
	// A part of a variable in the checkpoint: its name, shape, and the part.
	of    string
	whole Shape
	slice []extent
}

// sliceText returns RestoreV2's description of a part.
func (v testVariable) sliceText() string {
	if v.slice == nil {
		return ""
	}
	var dims, extents []string
	for i, e := range v.slice {
		dims, extents = append(dims, strconv.FormatInt(v.whole[i], 10)), append(extents, fmt.Sprintf("%d,%d", e.start, e.length))
	}
	return strings.Join(dims, " ") + " " + strings.Join(extents, ":")
}

// A testModel is a model that save writes. It adds the variables and the operations that restore
// them.
type testModel struct {
	nodes     []*tfpb.NodeDef
	functions []*tfpb.FunctionDef
	variables map[string]testVariable
	input     string        // fed as "x"; "in:0" if it is empty
	dtype     tfpb.DataType // of the input; float32 if it is 0
	output    string        // fetched as "y"; "out:0" if it is empty
	start     string        // operation that initializes
	file      string        // what is restored; what the loader feeds if it is empty
	// assets are files, by the operation that gives their path.
	assets map[string]testAsset
}

type testAsset struct {
	name, text string
	collection bool // the graph has it where TensorFlow 1 had it
}

func (v testVariable) bytes() int64 {
	n, _ := v.shape.Elements()
	return 4 * n
}

// readOf reads a variable.
func readOf(variable string) *tfpb.NodeDef {
	return op(variable+"/read", "ReadVariableOp", noT(attrs{"dtype": typeAttr(dtFloat)}), variable)
}

func stringConst(name string, values ...string) *tfpb.NodeDef {
	p := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: shapeMessage(Shape{int64(len(values))})}
	for _, v := range values {
		p.StringVal = append(p.StringVal, []byte(v))
	}
	return op(name, "Const", noT(attrs{"dtype": typeAttr(tfpb.DataType_DT_STRING), "value": tensorAttr(p)}))
}

// intConst returns a constant vector of integers, or a scalar zero for no integers.
func intConst(name string, values ...int32) *tfpb.NodeDef {
	p := &tfpb.TensorProto{Dtype: dtInt, TensorShape: shapeMessage(nil), IntVal: []int32{0}}
	if len(values) > 0 {
		p.TensorShape, p.IntVal = shapeMessage(Shape{int64(len(values))}), values
	}
	return op(name, "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(p)}))
}

// save writes the model as a version's directory.
func (m testModel) save(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	must(tb, os.Mkdir(filepath.Join(dir, "variables"), 0o700))
	var (
		nodes   = slices.Clone(m.nodes)
		entries = []tableEntry{header(1)}
		data    []byte
		keys    []string
		parts   []string
		types   []tfpb.DataType
	)
	dtype := attrs{"dtype": typeAttr(dtFloat)}
	restore := op("restore_all", "NoOp", noT(nil))
	for _, name := range slices.Sorted(maps.Keys(m.variables)) {
		v := m.variables[name]
		shape := v.shape
		if v.wrongShape {
			shape = Shape{7}
		}
		kind, assign := "VarHandleOp", op(name+"/assign", "AssignVariableOp", noT(dtype))
		if v.reference != "" {
			kind, assign = v.reference, op(name+"/assign", "Assign", nil)
		}
		nodes = append(nodes, op(name, kind, noT(attrs{
			"dtype": dtype["dtype"], "shape": shapeAttr(shape), "shared_name": bytesAttr(name),
		})))
		at := len(data)
		for _, x := range v.values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		if !v.noKey {
			key := name
			if v.slice != nil {
				key = sliceKey(v.of, v.slice)
				whole := &tfpb.BundleEntryProto{Dtype: dtFloat, Shape: shapeMessage(v.whole), Slices: []*tfpb.TensorSliceProto{{}}}
				for _, e := range v.slice {
					whole.Slices[0].Extent = append(whole.Slices[0].Extent, &tfpb.TensorSliceProto_Extent{
						Start: e.start, HasLength: &tfpb.TensorSliceProto_Extent_Length{Length: e.length},
					})
				}
				if at := slices.IndexFunc(entries, func(e tableEntry) bool { return e.key == v.of }); at < 0 {
					entries = append(entries, tableEntry{v.of, message(whole)})
				} else {
					entries[at].value += message(&tfpb.BundleEntryProto{Slices: whole.Slices}) // which are added
				}
			}
			entries = append(entries, tableEntry{key, message(&tfpb.BundleEntryProto{
				Dtype: dtFloat, Shape: shapeMessage(v.shape), Offset: int64(at), Size: v.bytes(),
				Crc32C: maskCRC(crc32.Checksum(data[at:], castagnoli)),
			})})
		}
		if v.noRestore {
			continue
		}
		from := output("restore", len(keys))
		keys, parts, types = append(keys, cmp.Or(v.of, name)), append(parts, v.sliceText()), append(types, dtFloat)
		assign.Input = []string{name, from}
		nodes = append(nodes, assign)
		restore.Input = append(restore.Input, "^"+name+"/assign")
	}
	nodes = append(
		nodes, restore,
		op("file", "Placeholder", noT(attrs{"dtype": typeAttr(tfpb.DataType_DT_STRING), "shape": shapeAttr(Shape{})})),
		stringConst("keys", keys...), stringConst("slices", parts...),
	)
	if len(keys) > 0 {
		nodes = append(nodes, op("restore", "RestoreV2", noT(attrs{"dtypes": typesAttr(types)}), cmp.Or(m.file, "file"), "keys", "slices"))
	}
	info := func(name, or string) *tfpb.TensorInfo {
		return &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: cmp.Or(name, or)}, Dtype: dtFloat}
	}
	fed := info(m.input, "in:0")
	fed.Dtype = cmp.Or(m.dtype, dtFloat)
	mg := &tfpb.MetaGraphDef{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}},
		GraphDef: &tfpb.GraphDef{
			Node: nodes, Library: &tfpb.FunctionDefLibrary{Function: m.functions}, Versions: &tfpb.VersionDef{Producer: 1900},
		},
		SaverDef: &tfpb.SaverDef{FilenameTensorName: "file:0", RestoreOpName: "restore_all", Version: tfpb.SaverDef_V2},
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			Inputs:  map[string]*tfpb.TensorInfo{"x": fed},
			Outputs: map[string]*tfpb.TensorInfo{"y": info(m.output, "out:0")},
		}},
	}
	if m.start != "" {
		mg.SignatureDef[initOpKey] = &tfpb.SignatureDef{Outputs: map[string]*tfpb.TensorInfo{initOpKey: info(m.start, "")}}
	}
	for node, a := range m.assets {
		must(tb, os.MkdirAll(filepath.Join(dir, assetsDir), 0o700))
		if filepath.IsLocal(a.name) {
			must(tb, os.WriteFile(filepath.Join(dir, assetsDir, a.name), []byte(a.text), 0o600))
		}
		file := &tfpb.AssetFileDef{TensorInfo: &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: node + ":0"}}, Filename: a.name}
		if !a.collection {
			mg.AssetFileDef = append(mg.AssetFileDef, file)
			continue
		}
		packed, err := anypb.New(file)
		must(tb, err)
		mg.CollectionDef = map[string]*tfpb.CollectionDef{"saved_model_assets": {
			Kind: &tfpb.CollectionDef_AnyList_{AnyList: &tfpb.CollectionDef_AnyList{Value: []*anypb.Any{packed}}},
		}}
	}
	b, err := proto.Marshal(&tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{mg}})
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(dir, graphFile), b, 0o600))
	slices.SortFunc(entries, func(a, b tableEntry) int { return strings.Compare(a.key, b.key) })
	index := new(tableBuilder).data(blockOf(entries), tableUncompressed)
	index.handles[0].key = "~" // not before the last key, or TensorFlow does not look there
	must(tb, os.WriteFile(filepath.Join(dir, indexFile), index.finish(), 0o600))
	must(tb, os.WriteFile(filepath.Join(dir, variablesPrefix+".data-00000-of-00001"), data, 0o600))
	return dir
}

// input returns the placeholder that a signature feeds.
func input(shape ...int64) *tfpb.NodeDef {
	return op("in", "Placeholder", noT(attrs{"dtype": typeAttr(dtFloat), "shape": shapeAttr(shape)}))
}

// some returns different values between 0.5 and 1.5.
func some(n int, seed float64) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(1 + math.Sin(seed+float64(i))/2)
	}
	return values
}

func vector(n int, seed float64) testVariable {
	return testVariable{shape: Shape{int64(n)}, values: some(n, seed)}
}

func filter(seed float64, shape ...int64) testVariable {
	n, _ := Shape(shape).Elements()
	return testVariable{shape: shape, values: some(int(n), seed)}
}

// window returns the attributes of a convolution.
func window(more attrs) attrs {
	a := attrs{
		"strides": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: []int64{1, 1, 1, 1}}}},
		"padding": bytesAttr("SAME"),
	}
	maps.Copy(a, more)
	return a
}

// arg returns an argument or a result of a function.
func arg(name string, dtype DataType) *tfpb.OpDef_ArgDef {
	return &tfpb.OpDef_ArgDef{Name: name, Type: tfpb.DataType(dtype)}
}

func functionAttr(name string) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Func{Func: &tfpb.NameAttrList{Name: name}}}
}

// callOf returns a node that calls a function.
func callOf(name, f string, in, out []tfpb.DataType, inputs ...string) *tfpb.NodeDef {
	return op(name, "StatefulPartitionedCall", noT(attrs{"f": functionAttr(f), "Tin": typesAttr(in), "Tout": typesAttr(out)}), inputs...)
}

// nestedModel has nested functions: wrapper(in, w) = body(in, w), and body(x, w) = assert(x·w) * v.
// The variable v is captured by body.
func nestedModel() testModel {
	in := []tfpb.DataType{dtFloat, dtResource, dtResource}
	out := []tfpb.DataType{dtFloat}
	args := []*tfpb.OpDef_ArgDef{arg("x", Float32), arg("a", Resource), arg("b", Resource)}
	result := []*tfpb.OpDef_ArgDef{arg("y", Float32)}
	read := func(name, of string) *tfpb.NodeDef {
		return op(name, "ReadVariableOp", noT(attrs{"dtype": typeAttr(dtFloat)}), of)
	}
	yes := op("yes", "Const", noT(attrs{"dtype": typeAttr(dtBool), "value": tensorAttr(&tfpb.TensorProto{
		Dtype: dtBool, TensorShape: shapeMessage(nil), BoolVal: []bool{true},
	})}))
	return testModel{
		variables: map[string]testVariable{"w": filter(1, 3, 4), "v": vector(4, 2)},
		input:     "in:0", output: "call:0",
		nodes: []*tfpb.NodeDef{input(2, 3), callOf("call", "wrapper", in, out, "in", "w", "v")},
		functions: []*tfpb.FunctionDef{
			{
				Signature: &tfpb.OpDef{Name: "wrapper", InputArg: args, OutputArg: result, ControlOutput: []string{"call"}, IsStateful: true},
				NodeDef: []*tfpb.NodeDef{
					callOf("call", "body", in, out, "x", "a", "b"),
					op("wait", "NoOp", noT(nil), "^call"),
					op("y", "Identity", nil, "call:output:0", "^wait"),
				},
				Ret: map[string]string{"y": "y:output:0"}, ControlRet: map[string]string{"call": "call"},
			},
			{
				Signature: &tfpb.OpDef{Name: "body", InputArg: args, OutputArg: result, ControlOutput: []string{"assert", "read"}, IsStateful: true},
				NodeDef: []*tfpb.NodeDef{
					yes, op("assert", "Assert", attrs{"T": typesAttr(out)}, "yes:output:0", "x"),
					read("read", "a"), read("scale", "b"),
					op("p", "MatMul", nil, "x", "read:value:0"),
					op("m", "Mul", nil, "p:product:0", "scale:value:0"),
				},
				Ret: map[string]string{"y": "m:z:0"}, ControlRet: map[string]string{"assert": "assert", "read": "read"},
			},
		},
	}
}

// loopModel adds a variable to the input three times, in a loop.
func loopModel() testModel {
	types := []tfpb.DataType{dtInt, dtFloat, dtResource}
	args := []*tfpb.OpDef_ArgDef{arg("i", Int32), arg("x", Float32), arg("w", Resource)}
	number := func(name string, i int32) *tfpb.NodeDef {
		return op(name, "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(&tfpb.TensorProto{
			Dtype: dtInt, TensorShape: shapeMessage(nil), IntVal: []int32{i},
		})}))
	}
	ints := attrs{"T": typeAttr(dtInt)}
	return testModel{
		variables: map[string]testVariable{"w": vector(3, 1)},
		output:    "loop:1",
		nodes: []*tfpb.NodeDef{
			input(3), number("zero", 0),
			op("loop", "While", attrs{"T": typesAttr(types), "cond": functionAttr("cond"), "body": functionAttr("body")}, "zero", "in", "w"),
		},
		functions: []*tfpb.FunctionDef{
			{
				Signature: &tfpb.OpDef{Name: "cond", InputArg: args, OutputArg: []*tfpb.OpDef_ArgDef{arg("go", Bool)}},
				NodeDef:   []*tfpb.NodeDef{number("three", 3), op("less", "Less", ints, "i", "three:output:0")},
				Ret:       map[string]string{"go": "less:z:0"},
			},
			{
				Signature: &tfpb.OpDef{Name: "body", InputArg: args, OutputArg: []*tfpb.OpDef_ArgDef{
					arg("i_out", Int32), arg("x_out", Float32), arg("w_out", Resource),
				}, IsStateful: true},
				NodeDef: []*tfpb.NodeDef{
					number("one", 1), op("next", "AddV2", ints, "i", "one:output:0"),
					op("read", "ReadVariableOp", noT(attrs{"dtype": typeAttr(dtFloat)}), "w"),
					op("sum", "AddV2", nil, "x", "read:value:0"),
				},
				Ret: map[string]string{"i_out": "next:z:0", "x_out": "sum:z:0", "w_out": "w"},
			},
		},
	}
}
