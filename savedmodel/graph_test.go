package savedmodel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"inceptor/savedmodel/tfpb"
)

// A testGraph is a graph with one signature, "s". Its inputs and outputs have the names of their
// tensors.
type testGraph struct {
	inputs, outputs []string
	nodes           []*tfpb.NodeDef
	functions       []*tfpb.FunctionDef
	strings         bool // the inputs are strings; otherwise float32
}

func (g testGraph) meta() *tfpb.MetaGraphDef {
	dtype := dtFloat
	if g.strings {
		dtype = tfpb.DataType_DT_STRING
	}
	sig := &tfpb.SignatureDef{Inputs: make(map[string]*tfpb.TensorInfo), Outputs: make(map[string]*tfpb.TensorInfo)}
	info := func(name string) *tfpb.TensorInfo {
		if !strings.Contains(name, ":") {
			name += ":0"
		}
		return &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: name}, Dtype: dtype}
	}
	for _, name := range g.inputs {
		sig.Inputs[name] = info(name)
	}
	for _, name := range g.outputs {
		sig.Outputs[name] = info(name)
	}
	return &tfpb.MetaGraphDef{
		MetaInfoDef:  &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}},
		GraphDef:     &tfpb.GraphDef{Node: g.nodes, Library: &tfpb.FunctionDefLibrary{Function: g.functions}},
		SignatureDef: map[string]*tfpb.SignatureDef{"s": sig},
	}
}

// writeGraphs writes graphs as a version's directory.
func writeGraphs(tb testing.TB, graphs ...*tfpb.MetaGraphDef) string {
	tb.Helper()
	dir := tb.TempDir()
	must(tb, os.WriteFile(filepath.Join(dir, graphFile), []byte(message(&tfpb.SavedModel{MetaGraphs: graphs})), 0o600))
	return dir
}

func (g testGraph) read(tb testing.TB) *Graph {
	tb.Helper()
	graph, err := ReadGraph(writeGraphs(tb, g.meta()), nil)
	must(tb, err)
	return graph
}

// functionOf returns a function of a graph's library. The list returns names tensors of its body.
func functionOf(name, args string, returns []string, nodes ...*tfpb.NodeDef) *tfpb.FunctionDef {
	f := &tfpb.FunctionDef{Signature: &tfpb.OpDef{Name: name}, Ret: make(map[string]string), NodeDef: nodes}
	for _, arg := range strings.Fields(args) {
		f.Signature.InputArg = append(f.Signature.InputArg, &tfpb.OpDef_ArgDef{Name: arg})
	}
	for i, tensor := range returns {
		out := fmt.Sprintf("out%d", i)
		f.Signature.OutputArg = append(f.Signature.OutputArg, &tfpb.OpDef_ArgDef{Name: out})
		f.Ret[out] = tensor
	}
	return f
}

func funcAttr(name string) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Func{Func: &tfpb.NameAttrList{Name: name}}}
}

func funcsAttr(names ...string) *tfpb.AttrValue {
	list := &tfpb.AttrValue_ListValue{}
	for _, name := range names {
		list.Func = append(list.Func, &tfpb.NameAttrList{Name: name})
	}
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_List{List: list}}
}

func callNode(name, function string, inputs ...string) *tfpb.NodeDef {
	return op(name, "StatefulPartitionedCall", attrs{"f": funcAttr(function)}, inputs...)
}

// vectorOf returns a float32 constant with all its elements in the last dimension.
func vectorOf(name string, values ...float32) *tfpb.NodeDef {
	return floatConst(name, Shape{1, 1, int64(len(values))}, values)
}

// channelOf takes one channel of the tensor in, as x[..., channel] does.
func channelOf(name string, channel int) *tfpb.NodeDef {
	return op(name, "StridedSlice", attrs{"ellipsis_mask": intAttr(1), "shrink_axis_mask": intAttr(2)}, "in", fmt.Sprintf("at%d", channel), "end", "ones")
}

func scalarOf(name string, value float32) *tfpb.NodeDef {
	return floatConst(name, Shape{}, []float32{value})
}

func TestGraphEncodedImages(t *testing.T) {
	placeholder := op("in", "Placeholder", nil)
	decode := func(name, kind, in string) *tfpb.NodeDef { return op(name, kind, nil, in) }
	tests := []struct {
		name  string
		graph testGraph
		want  InputUse
	}{
		{"decoded at once", testGraph{nodes: []*tfpb.NodeDef{placeholder, op("id", "Identity", nil, "in"), decode("d", "DecodePng", "id")}},
			InputUse{Decoders: []string{"DecodePng"}}},
		{"not decoded", testGraph{nodes: []*tfpb.NodeDef{placeholder, op("h", "StringToHashBucketFast", nil, "in")}}, InputUse{}},
		{"base64", testGraph{nodes: []*tfpb.NodeDef{placeholder, op("b", "DecodeBase64", nil, "in"), decode("d", "DecodeImage", "b")}},
			InputUse{Decoders: []string{"DecodeImage"}, Base64: true}},
		{"base64 in a function", testGraph{
			nodes:     []*tfpb.NodeDef{placeholder, callNode("call", "f", "in"), decode("d", "DecodePng", "call")},
			functions: []*tfpb.FunctionDef{functionOf("f", "x", []string{"b:output:0"}, op("b", "DecodeBase64", nil, "x"))},
		}, InputUse{Decoders: []string{"DecodePng"}, Base64: true}},
		{"base64, or as it came", testGraph{nodes: []*tfpb.NodeDef{
			placeholder, op("b", "DecodeBase64", nil, "in"), decode("d", "DecodeImage", "b"), decode("e", "DecodeJpeg", "in"),
		}}, InputUse{Decoders: []string{"DecodeImage", "DecodeJpeg"}}},
		{"base64 twice", testGraph{nodes: []*tfpb.NodeDef{
			placeholder, op("a", "DecodeBase64", nil, "in"), op("b", "DecodeBase64", nil, "a"), decode("d", "DecodeImage", "b"),
		}}, InputUse{}},
		{"its length alone is looked at", testGraph{nodes: []*tfpb.NodeDef{placeholder, op("n", "StringLength", nil, "in"), op("c", "Const", nil), decode("d", "DecodeImage", "c")}}, InputUse{}},
		{"reshaped, two kinds by the old Switch", testGraph{nodes: []*tfpb.NodeDef{
			placeholder, op("flat", "Reshape", nil, "in", "shape"), op("one", "Squeeze", nil, "flat"), op("sw", "Switch", nil, "one", "p"),
			decode("a", "DecodePng", "sw:1"), decode("b", "DecodeGif", "sw"), decode("c", "DecodeAndCropJpeg", "sw"),
		}}, InputUse{Decoders: []string{"DecodeAndCropJpeg", "DecodeGif", "DecodePng"}}},
		{"map_fn of TensorFlow 1", testGraph{nodes: []*tfpb.NodeDef{
			placeholder, op("ta", "TensorArrayV3", nil, "n"),
			op("scatter", "TensorArrayScatterV3", nil, "ta", "range", "in", "ta:1"),
			op("ta_enter", "Enter", nil, "ta"), op("enter", "Enter", nil, "scatter"),
			op("read", "TensorArrayReadV3", nil, "ta_enter", "i", "enter"), decode("d", "DecodeJpeg", "read"),
			op("out_ta", "TensorArrayV3", nil, "n"), op("loop", "NextIteration", nil, "w"), op("m", "Merge", nil, "e", "loop"),
			op("w", "TensorArrayWriteV3", nil, "out_ta", "i", "d", "m"),
		}}, InputUse{Decoders: []string{"DecodeJpeg"}}},
		{"map_fn of TensorFlow 2, within a function", testGraph{
			nodes: []*tfpb.NodeDef{placeholder, callNode("call", "serve", "in")},
			functions: []*tfpb.FunctionDef{
				functionOf("serve", "images", []string{"loop:output:1"},
					op("list", "TensorListFromTensor", nil, "images", "shape:output:0"),
					op("loop", "StatelessWhile", attrs{"body": funcAttr("body"), "cond": funcAttr("cond")}, "zero:output:0", "acc:handle:0", "list:output_handle:0"),
				),
				functionOf("body", "i acc list", []string{"add:z:0", "set:output_handle:0", "list"},
					op("item", "TensorListGetItem", nil, "list", "i", "shape:output:0"),
					op("decode", "PartitionedCall", attrs{"f": funcAttr("decode")}, "item:item:0"),
					op("set", "TensorListSetItem", nil, "acc", "i", "decode:output:0"),
				),
				functionOf("decode", "x", []string{"d:image:0"}, decode("d", "DecodeImage", "x")),
			},
		}, InputUse{Decoders: []string{"DecodeImage"}}},
		{"decoded in the second round of a loop", testGraph{
			nodes:     []*tfpb.NodeDef{placeholder, op("loop", "While", attrs{"body": funcAttr("body")}, "other", "in")},
			functions: []*tfpb.FunctionDef{functionOf("body", "a b", []string{"b", "b"}, decode("d", "DecodeBmp", "a"))},
		}, InputUse{Decoders: []string{"DecodeBmp"}}},
		{"branches", testGraph{
			nodes: []*tfpb.NodeDef{
				placeholder, op("if", "If", attrs{"then_branch": funcAttr("jpeg"), "else_branch": funcAttr("same")}, "p", "in"),
				decode("png", "DecodePng", "if"),
				op("case", "StatelessCase", attrs{"branches": funcsAttr("same", "bmp")}, "p", "in"),
			},
			functions: []*tfpb.FunctionDef{
				functionOf("jpeg", "x", nil, decode("d", "DecodeJpeg", "x")),
				functionOf("bmp", "x", nil, decode("d", "DecodeBmp", "x")),
				functionOf("same", "x", []string{"x"}),
			},
		}, InputUse{Decoders: []string{"DecodeBmp", "DecodeJpeg", "DecodePng"}}},
		{"a function is called as an operation", testGraph{
			nodes:     []*tfpb.NodeDef{placeholder, op("call", "jpeg", nil, "in")},
			functions: []*tfpb.FunctionDef{functionOf("jpeg", "x", nil, decode("d", "DecodeJpeg", "x"))},
		}, InputUse{Decoders: []string{"DecodeJpeg"}}},
		{"a function calls one that is not there", testGraph{nodes: []*tfpb.NodeDef{placeholder, callNode("call", "none", "in")}}, InputUse{}},
		{"returned, as it is and changed", testGraph{
			outputs: []string{"in", "call", "if", "flat", "call:1"},
			nodes: []*tfpb.NodeDef{
				placeholder, op("id", "Identity", nil, "in"), callNode("call", "two", "other", "id"), op("flat", "Reshape", nil, "in", "shape"),
				op("if", "If", attrs{"then_branch": funcAttr("same"), "else_branch": funcAttr("same")}, "p", "in"),
			},
			functions: []*tfpb.FunctionDef{
				functionOf("two", "a b", []string{"a", "id:output:0"}, op("id", "Identity", nil, "b")),
				functionOf("same", "x", []string{"x"}),
			},
		}, InputUse{Returned: []string{"call:1", "in"}}},
		{"returned and computed with", testGraph{
			outputs: []string{"in", "call"},
			nodes:   []*tfpb.NodeDef{placeholder, callNode("call", "two", "in")},
			functions: []*tfpb.FunctionDef{
				functionOf("two", "a", []string{"id:output:0"}, op("n", "StringLength", nil, "a"), op("id", "Identity", nil, "n:output:0")),
			},
		}, InputUse{Returned: []string{"in"}, Computed: true}},
		{"returned, and computed with for nothing", testGraph{
			outputs: []string{"in", "call"},
			nodes:   []*tfpb.NodeDef{placeholder, callNode("call", "two", "in"), op("hash", "StringToHashBucketFast", nil, "in"), op("rows", "Shape", nil, "in")},
			functions: []*tfpb.FunctionDef{
				functionOf("two", "a", []string{"a"}, op("n", "StringLength", nil, "a"), op("id", "Identity", nil, "n:output:0")),
			},
		}, InputUse{Returned: []string{"call", "in"}}},
		{"it decides between branches", testGraph{
			outputs:   []string{"in", "if"},
			nodes:     []*tfpb.NodeDef{placeholder, op("c", "Const", nil), op("if", "If", attrs{"then_branch": funcAttr("same"), "else_branch": funcAttr("same")}, "in", "c")},
			functions: []*tfpb.FunctionDef{functionOf("same", "x", []string{"x"})},
		}, InputUse{Returned: []string{"in"}, Computed: true}},
		{"with a default", testGraph{nodes: []*tfpb.NodeDef{op("c", "Const", nil), op("in", "PlaceholderWithDefault", nil, "c")}},
			InputUse{HasDefault: true}},
		{"a constant", testGraph{nodes: []*tfpb.NodeDef{op("in", "Const", nil)}}, InputUse{HasDefault: true}},
		{"computed from another input", testGraph{nodes: []*tfpb.NodeDef{op("x", "Placeholder", nil), op("in", "Identity", nil, "x")}}, InputUse{}},
		{"computed from a queue", testGraph{nodes: []*tfpb.NodeDef{op("q", "FIFOQueueV2", nil), op("in", "QueueDequeueV2", nil, "q")}}, InputUse{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.graph.strings, test.graph.inputs = true, []string{"in"}
			got, err := test.graph.read(t).Input("s", "in")
			must(t, err)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A tf.Example is parsed, and one of its features decoded.
func TestGraphExamples(t *testing.T) {
	str, flt, i64 := tfpb.DataType_DT_STRING, tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_INT64
	shapes := &tfpb.AttrValue{Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{Shape: []*tfpb.TensorShapeProto{shapeMessage(nil), shapeMessage(Shape{2})}}}}
	common := attrs{
		"Tdense": typesAttr([]tfpb.DataType{str, flt}), "dense_shapes": shapes, "sparse_types": typesAttr([]tfpb.DataType{i64}),
		"num_sparse": intAttr(1), "Nsparse": intAttr(1), "Ndense": intAttr(2), "ragged_value_types": typesAttr([]tfpb.DataType{flt}),
		"sparse_keys": wordsAttr("tags"), "dense_keys": wordsAttr("image/encoded", "weights"),
	}
	want := map[string]Feature{
		"image/encoded": {DType: String, Shape: Shape{}, Required: true, Decoders: []string{"DecodeJpeg"}},
		"weights":       {DType: Float32, Shape: Shape{2}},
		"tags":          {DType: Int64},
	}
	ragged := map[string]Feature{"list": {DType: Float32}}
	for key, f := range want {
		ragged[key] = f
	}
	constants := []*tfpb.NodeDef{
		op("in", "Placeholder", nil), stringConst("none"), floatConst("default", Shape{2}, []float32{1, 2}),
		stringConst("tags", "tags"), stringConst("image", "image/encoded"), stringConst("weights", "weights"),
		stringConst("dense", "image/encoded", "weights"), stringConst("lists", "list"),
		op("image/read", "Identity", nil, "image"),
	}
	tests := []struct {
		name  string
		nodes []*tfpb.NodeDef
		want  map[string]Feature
	}{
		{"ParseExample", []*tfpb.NodeDef{
			op("p", "ParseExample", common, "in", "none", "tags", "image/read", "weights", "none", "default"),
			op("d", "DecodeJpeg", nil, "p:3"), op("e", "DecodeRaw", nil, "p:4"),
		}, want},
		{"ParseExampleV2", []*tfpb.NodeDef{
			op("p", "ParseExampleV2", common, "in", "none", "tags", "dense", "lists", "none", "default"), op("d", "DecodeJpeg", nil, "p:3"),
		}, ragged},
		{"ParseSingleExample", []*tfpb.NodeDef{op("p", "ParseSingleExample", common, "in", "none", "default"), op("d", "DecodeJpeg", nil, "p:3")}, want},
		{"ParseSingleExample in a function", []*tfpb.NodeDef{callNode("call", "f", "in", "none", "default"), op("d", "DecodeJpeg", nil, "call:1")}, want},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := testGraph{
				strings: true, inputs: []string{"in"}, nodes: slices.Concat(constants, test.nodes),
				functions: []*tfpb.FunctionDef{functionOf("f", "x none default", []string{"p:sparse_values:0", "p:dense_values:0"},
					op("p", "ParseSingleExample", common, "x", "none", "default"))},
			}
			got, err := g.read(t).Input("s", "in")
			must(t, err)
			if diff := cmp.Diff(InputUse{Features: test.want}, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("names that are no constants", func(t *testing.T) {
		g := testGraph{strings: true, inputs: []string{"in"}, nodes: append(constants[:1:1], op("p", "ParseExampleV2", common, "in", "in", "in", "in", "in"))}
		if _, err := g.read(t).Input("s", "in"); !errors.Is(err, errFeatureNames) {
			t.Errorf("error %v", err)
		}
	})
}

// Models that TensorFlow and Keras wrote; see testdata/make.py.
func TestGraphOfExports(t *testing.T) {
	jpeg := []string{"DecodeJpeg"}
	tests := []struct {
		dir, signature, input string
		tf2                   bool
		want                  InputUse
	}{
		{"classic", "predict_images", "images", false, InputUse{Decoders: jpeg}},
		{"classic", "serving_default", "inputs", false, InputUse{Features: map[string]Feature{
			"image/encoded": {DType: String, Shape: Shape{}, Required: true, Decoders: jpeg},
			"image/format":  {DType: String, Shape: Shape{}},
		}}},
		{"keras", "serving_default", "images", true, InputUse{Computed: true, Pixels: &Affine{Scale: []float64{1}, Offset: []float64{-123.68, -116.779, -103.939}}}},
		{"tiny", "serving_default", "features", true, InputUse{Computed: true}},
	}
	for _, test := range tests {
		t.Run(test.dir+" "+test.signature, func(t *testing.T) {
			g, err := ReadGraph(filepath.Join("testdata", test.dir), nil)
			must(t, err)
			got, err := g.Input(test.signature, test.input)
			must(t, err)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty(), cmpopts.EquateApprox(0, 1e-5)); diff != "" || g.TF2 != test.tf2 {
				t.Errorf("TF2 %t (-want +got):\n%s", g.TF2, diff)
			}
		})
	}
}

// Following an input is bounded, however many functions call one another.
func TestGraphBounded(t *testing.T) {
	fans := make([]*tfpb.FunctionDef, 0, 41) // each calls the next one twice
	for i := range 40 {
		next := fmt.Sprintf("f%d", i+1)
		fans = append(fans, functionOf(fmt.Sprintf("f%d", i), "x", []string{"b:output:0"}, callNode("a", next, "x"), callNode("b", next, "a:output:0")))
	}
	fans = append(fans, functionOf("f40", "x", []string{"x"}))
	doubled := []*tfpb.NodeDef{op("in", "Placeholder", nil), scalarOf("n0", 1)} // each adds the last one twice
	for i := range 60 {
		before := fmt.Sprintf("n%d", i)
		doubled = append(doubled, op(fmt.Sprintf("n%d", i+1), "Add", nil, before, before))
	}
	call := []*tfpb.NodeDef{op("in", "Placeholder", nil), callNode("call", "f0", "in")}
	tests := []struct {
		name  string
		graph testGraph
		want  string
	}{
		{"functions that call one another twice", testGraph{nodes: call, functions: fans}, `input "in" of signature "s": it leads through more than 100000 operations`},
		{"a function that calls itself", testGraph{nodes: call, functions: []*tfpb.FunctionDef{functionOf("f0", "x", []string{"x"}, callNode("a", "f0", "x"))}},
			`input "in" of signature "s": calls of functions are more than 64 deep`},
		{"sums of sums", testGraph{outputs: []string{"m"}, nodes: append(doubled, op("m", "Mul", nil, "in", "n60"))}, `input "in" of signature "s": it leads through more than 100000 operations`},
		{"a loop", testGraph{outputs: []string{"a"}, nodes: []*tfpb.NodeDef{op("in", "Placeholder", nil), op("a", "Identity", nil, "b"), op("b", "Merge", nil, "in", "a")}}, ""},
		{"a loop of calls", testGraph{outputs: []string{"a"}, nodes: []*tfpb.NodeDef{op("in", "Placeholder", nil), callNode("a", "f", "in", "a")},
			functions: []*tfpb.FunctionDef{functionOf("f", "x y", []string{"m:z:0"}, op("m", "Mul", nil, "x", "y"))}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.graph.inputs = []string{"in"}
			_, err := test.graph.read(t).Input("s", "in")
			if got := fmt.Sprint(err); err == nil && test.want != "" || err != nil && got != test.want {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestReadGraph(t *testing.T) {
	serve := testGraph{inputs: []string{"in"}, nodes: []*tfpb.NodeDef{op("in", "Placeholder", nil)}}.meta()
	gpu := testGraph{nodes: []*tfpb.NodeDef{op("in", "Placeholder", nil)}}.meta()
	gpu.MetaInfoDef.Tags = []string{"serve", "gpu"}
	dir := writeGraphs(t, gpu, serve)
	g, err := ReadGraph(dir, nil)
	must(t, err)
	if _, ok := g.Signatures["s"].Inputs["in"]; !ok || g.TF2 {
		t.Errorf("signatures %v, TF2 %t", g.Signatures, g.TF2)
	}
	if g, err = ReadGraph(dir, []string{"gpu", "serve"}); err != nil || len(g.Signatures["s"].Inputs) != 0 {
		t.Errorf("tags gpu and serve: %v, %v", g, err)
	}
	wrong := (*TagsError)(nil)
	if _, err := ReadGraph(dir, []string{"train"}); !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), dir) {
		t.Errorf("tag train: %v", err)
	}
	if _, err := ReadGraph(t.TempDir(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	text := t.TempDir()
	must(t, os.WriteFile(filepath.Join(text, "saved_model.pbtxt"), nil, 0o600))
	if _, err := ReadGraph(text, nil); !errors.Is(err, os.ErrNotExist) || !strings.HasSuffix(err.Error(), "cd "+text+" && "+convertText) {
		t.Errorf("as text: %v", err)
	}
	for _, miss := range [][2]string{{"s", "x"}, {"x", "in"}} {
		if _, err := g.Input(miss[0], miss[1]); err == nil {
			t.Errorf("signature %q has an input %q", miss[0], miss[1])
		}
	}

	must(t, os.WriteFile(filepath.Join(dir, graphFile), []byte{0x12, 5, 1}, 0o600))
	if _, err := ReadGraph(dir, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a broken file: %v", err)
	}
}

// Weights in the graph are skipped, in nodes of functions too.
func TestReadGraphLargeConstants(t *testing.T) {
	weights := attrs{"value": tensorAttr(&tfpb.TensorProto{Dtype: dtFloat, TensorContent: make([]byte, 32<<20)})}
	g := testGraph{
		inputs: []string{"in"},
		nodes:  []*tfpb.NodeDef{op("w", "Const", weights), op("in", "Placeholder", nil), callNode("call", "f", "in")},
		functions: []*tfpb.FunctionDef{
			functionOf("f", "x", nil, op("w", "Const", weights), op("d", "DecodeJpeg", weights, "x")),
		},
	}
	dir := writeGraphs(t, g.meta())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	graph, err := ReadGraph(dir, nil)
	must(t, err)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes allocated for a graph with 96 MiB of weights", took)
	}
	use, err := graph.Input("s", "in")
	must(t, err)
	if !slices.Equal(use.Decoders, []string{"DecodeJpeg"}) {
		t.Errorf("decoders %v", use.Decoders)
	}
}

// A graph with too many operations is refused before they fill the memory.
func TestReadGraphTooMany(t *testing.T) {
	meta := testGraph{}.meta()
	for range maxStructure/costNode + 1 {
		meta.GraphDef.Node = append(meta.GraphDef.Node, &tfpb.NodeDef{})
	}
	if _, err := ReadGraph(writeGraphs(t, meta), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v", err)
	}
}

func FuzzGraph(f *testing.F) {
	b, err := os.ReadFile("testdata/tiny/" + graphFile)
	must(f, err)
	f.Add(b)
	str := tfpb.DataType_DT_STRING
	f.Add([]byte(message(&tfpb.SavedModel{MetaGraphs: []*tfpb.MetaGraphDef{testGraph{
		inputs: []string{"in"}, outputs: []string{"out"},
		nodes: []*tfpb.NodeDef{
			op("in", "Placeholder", nil), callNode("call", "f", "in", "a"), vectorOf("a", 1, 2, 3), op("out", "Mul", nil, "call", "a"), stringConst("k", "key"),
			op("p", "ParseExample", attrs{"Tdense": typesAttr([]tfpb.DataType{str}), "Ndense": intAttr(1)}, "in", "k", "k", "k"),
			op("q", "ParseExampleV2", attrs{"Tdense": typesAttr([]tfpb.DataType{str}), "num_sparse": intAttr(1)}, "in", "k", "k", "k", "k", "k"),
			op("w", "While", attrs{"body": funcAttr("f"), "cond": funcAttr("f")}, "in", "w:1"),
			op("r", "Reshape", nil, "out", "k"), op("if", "If", attrs{"then_branch": funcAttr("f"), "else_branch": funcAttr("f")}, "a", "in", "in"),
		},
		functions: []*tfpb.FunctionDef{functionOf("f", "x y", []string{"m:z:0", "y"}, op("m", "Sub", nil, "x", "y"), op("d", "DecodeJpeg", nil, "x"))},
	}.meta()}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGraph(bytes.NewReader(b), int64(len(b)), nil)
		if err != nil {
			return
		}
		for signature, sig := range g.Signatures {
			for key := range sig.Inputs {
				_, _ = g.Input(signature, key)
			}
			_ = g.TrainingOps(signature)
			_ = g.Unrestored(signature)
		}
	})
}
