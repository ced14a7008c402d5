package savedmodel

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// NaN that comes from an input is never hidden, whatever the kernels: the outputs have NaN, or the
// run fails. It also fails if only one of two images in a batch is the cause.
func TestNotFinite(t *testing.T) {
	openLibrary(t)
	variables := map[string]testVariable{
		"w": filter(1, 2, 2, 3, 4), "b": vector(4, 2), "v": filter(2, 2, 2, 4, 4), "d": filter(3, 2, 2, 3, 1), "m": filter(4, 75, 4),
		"k": filter(6, 1, 2, 2, 3, 4), "long": vector(75, 3),
	}
	ksize := attrs{"ksize": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: []int64{1, 2, 2, 1}}}}}
	reads := []*tfpb.NodeDef{readOf("w"), readOf("b"), readOf("v"), readOf("d"), readOf("m"), readOf("k"), readOf("long")}
	layer := func(prefix, in, w, activation string) []*tfpb.NodeDef {
		return []*tfpb.NodeDef{
			op(prefix+"conv", "Conv2D", window(nil), in, w), op(prefix+"bias", "BiasAdd", nil, prefix+"conv", "b/read"),
			op(prefix+"out", activation, nil, prefix+"bias"),
		}
	}
	flat := []*tfpb.NodeDef{intConst("shape", 2, 75), op("flat", "Reshape", attrs{"Tshape": typeAttr(dtInt)}, "in", "shape")}
	product := func(activation string) []*tfpb.NodeDef {
		return append(slices.Clone(flat), op("p", "MatMul", nil, "flat", "m/read"), op("biased", "BiasAdd", nil, "p", "b/read"), op("out", activation, nil, "biased"))
	}
	// The standardization of a black image divides by zero.
	byZero := []*tfpb.NodeDef{op("less", "Sub", nil, "in", "in"), op("x", "RealDiv", nil, "less", "less")}
	tests := []struct {
		name    string
		nodes   []*tfpb.NodeDef
		all     bool // finite inputs give NaN
		watches int  // -1: none, since outputs have NaN
	}{
		{"Relu", []*tfpb.NodeDef{op("out", "Relu", nil, "in")}, false, -1},
		{"Relu6", []*tfpb.NodeDef{op("out", "Relu6", nil, "in")}, false, -1},
		{"convolution", []*tfpb.NodeDef{op("out", "Conv2D", window(nil), "in", "w/read")}, false, -1},
		{"convolution, Relu", []*tfpb.NodeDef{op("conv", "Conv2D", window(nil), "in", "w/read"), op("out", "Relu", nil, "conv")}, false, -1},
		{"convolution, bias, Relu", layer("", "in", "w/read", "Relu"), false, 1},
		{"convolution, bias, Relu6", layer("", "in", "w/read", "Relu6"), false, 1},
		{"convolution, bias, Elu", layer("", "in", "w/read", "Elu"), false, -1},
		{"fused by TensorFlow's optimizer", []*tfpb.NodeDef{
			op("conv", "Conv2D", window(attrs{"padding": bytesAttr("EXPLICIT"), "explicit_paddings": {Value: &tfpb.AttrValue_List{
				List: &tfpb.AttrValue_ListValue{I: []int64{0, 0, 1, 0, 1, 0, 0, 0}},
			}}}), "in", "w/read"), op("bias", "BiasAdd", nil, "conv", "b/read"), op("relu", "Relu", nil, "bias"), op("out", "Elu", nil, "relu"),
		}, false, -1},
		{"3D convolution, bias, Relu", []*tfpb.NodeDef{
			number("front", 1), op("deep", "ExpandDims", attrs{"Tdim": typeAttr(dtInt)}, "in", "front"),
			op("conv", "Conv3D", attrs{"strides": intsAttr(1, 1, 1, 1, 1), "padding": bytesAttr("SAME")}, "deep", "k/read"),
			op("bias", "BiasAdd", nil, "conv", "b/read"), op("relu", "Relu", nil, "bias"), op("out", "Elu", nil, "relu"),
		}, false, -1},
		{"a product of two inputs", append(slices.Clone(flat),
			op("square", "MatMul", attrs{"transpose_a": boolAttr(true)}, "flat", "flat"), op("p", "MatMul", nil, "ones", "square"),
			op("biased", "BiasAdd", nil, "p", "long/read"), op("out", "Relu", nil, "biased"), floatConst("ones", Shape{1, 75}, slices.Repeat([]float32{1}, 75)),
		), false, 1},
		{"two layers", append(layer("1", "in", "w/read", "Relu"), layer("", "1out", "v/read", "Relu")...), false, 1},
		{"depthwise", []*tfpb.NodeDef{op("dw", "DepthwiseConv2dNative", window(nil), "in", "d/read"), op("out", "Relu", nil, "dw")}, false, -1},
		{"product, bias, Relu", product("Relu"), false, 1},
		{"product, bias, Relu6", product("Relu6"), false, 1},
		{"average pool", []*tfpb.NodeDef{op("out", "AvgPool", window(ksize), "in")}, false, -1},
		{"by zero", append(slices.Clone(byZero), layer("", "x", "w/read", "Relu")...), true, 1},
		{"by zero, later", append(append(layer("1", "in", "w/read", "Relu"),
			op("less", "Sub", nil, "1out", "1out"), op("x", "RealDiv", nil, "less", "less")), layer("", "x", "v/read", "Relu")...), true, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nodes := slices.Concat([]*tfpb.NodeDef{input(2, 5, 5, 3)}, reads, test.nodes)
			dir := testModel{variables: variables, nodes: nodes}.save(t)
			good := tensorOf(t, Float32, some(2*75, 9), 2, 5, 5, 3)
			for name, o := range map[string]Options{
				"as it is": {}, "TensorFlow": {Optimize: true, Kernels: KernelsTensorFlow}, "oneDNN": {Optimize: true, Kernels: KernelsOneDNN},
				"bfloat16": {Optimize: true, Kernels: KernelsOneDNN, Precision: PrecisionBFloat16},
			} {
				m := loadWith(t, dir, o)
				told := func(in *Tensor) bool {
					out, err := m.Run(t.Context(), "serving_default", map[string]*Tensor{"x": in})
					if errors.Is(err, ErrNotFinite) {
						return true
					}
					must(t, err)
					defer out["y"].Close()
					values, err := Data[float32](out["y"])
					must(t, err)
					return slices.ContainsFunc(values, func(v float32) bool { return math.IsNaN(float64(v)) })
				}
				if m.Frozen {
					n := 0
					for _, list := range m.finiteChecks {
						n += len(list)
					}
					if n != max(test.watches, 0) {
						t.Errorf("%s: watches %v", name, m.finiteChecks)
					}
				}
				if got := told(good); got != test.all {
					t.Errorf("%s, finite: told %v", name, got)
				}
				for at := range 3 {
					values := some(2*75, 9)
					values[40+30*at] = nan
					if !told(tensorOf(t, Float32, values, 2, 5, 5, 3)) {
						t.Errorf("%s: NaN at %d is lost", name, 40+30*at)
					}
				}
			}
		})
	}
}

func intsAttr(values ...int64) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: values}}}
}

// A signature may be fed a tensor that another one computes. Its runs do not need the other one's
// input, and check the tensor itself.
func TestWatchedFedBetween(t *testing.T) {
	openLibrary(t)
	layer := func(prefix, in, w string) []*tfpb.NodeDef {
		return []*tfpb.NodeDef{
			op(prefix+"conv", "Conv2D", window(nil), in, w), op(prefix+"bias", "BiasAdd", nil, prefix+"conv", "b/read"),
			op(prefix+"out", "Relu", nil, prefix+"bias"),
		}
	}
	dir := testModel{
		variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "b": vector(4, 2), "v": filter(2, 2, 2, 4, 4)},
		nodes: slices.Concat([]*tfpb.NodeDef{input(1, 5, 5, 3), readOf("w"), readOf("b"), readOf("v")},
			layer("first_", "in", "w/read"), layer("", "first_out", "v/read")),
	}.save(t)
	addSignature(t, dir, "between", "first_out:0", "out:0")
	values := some(100, 7)
	fed, first := tensorOf(t, Float32, values, 1, 5, 5, 4), tensorOf(t, Float32, some(75, 9), 1, 5, 5, 3)
	plain := loadWith(t, dir, Options{})
	want, err := plain.Run(t.Context(), "between", map[string]*Tensor{"x": fed})
	must(t, err)
	defer want["y"].Close()
	values[40] = nan
	bad := tensorOf(t, Float32, values, 1, 5, 5, 4)
	for _, k := range []Kernels{KernelsTensorFlow, KernelsOneDNN} {
		m := loadWith(t, dir, Options{Optimize: true, Kernels: k})
		if !m.Frozen {
			t.Fatal(m.WhyNot)
		}
		if got, want := answer(t, m, first), answer(t, plain, first); !closeTo(got, want) {
			t.Errorf("%v: %v, plain is %v", k, got, want)
		}
		got, err := m.Run(t.Context(), "between", map[string]*Tensor{"x": fed})
		must(t, err)
		a, err := Data[float32](got["y"])
		must(t, err)
		b, err := Data[float32](want["y"])
		must(t, err)
		if !closeTo(a, b) {
			t.Errorf("%v, between: %v, plain is %v", k, a, b)
		}
		got["y"].Close()
		if _, err := m.Run(t.Context(), "between", map[string]*Tensor{"x": bad}); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%v, NaN between: %v", k, err)
		}
	}
}

// addSignature gives a saved model another signature, of float32 tensors x and y.
func addSignature(t *testing.T, dir, key, in, out string) {
	t.Helper()
	name := filepath.Join(dir, graphFile)
	b, err := os.ReadFile(name)
	must(t, err)
	var file tfpb.SavedModel
	must(t, proto.Unmarshal(b, &file))
	info := func(name string) map[string]*tfpb.TensorInfo {
		return map[string]*tfpb.TensorInfo{"x": {Encoding: &tfpb.TensorInfo_Name{Name: name}, Dtype: dtFloat}}
	}
	def := &tfpb.SignatureDef{Inputs: info(in), Outputs: map[string]*tfpb.TensorInfo{"y": info(out)["x"]}}
	file.MetaGraphs[0].SignatureDef[key] = def
	b, err = proto.Marshal(&file)
	must(t, err)
	must(t, os.WriteFile(name, b, 0o600))
}

// Numbers of every type are checked, not only float32's: the file may fuse any.
func TestInfiniteConstant(t *testing.T) {
	one := func(p *tfpb.TensorProto, dtype DataType) *tfpb.TensorProto {
		p.Dtype, p.TensorShape = tfpb.DataType(dtype), shapeMessage(nil)
		return p
	}
	tests := []struct {
		name  string
		value *tfpb.TensorProto
		want  bool
	}{
		{"1", one(&tfpb.TensorProto{FloatVal: []float32{1}}, Float32), false},
		{"NaN", one(&tfpb.TensorProto{FloatVal: []float32{nan}}, Float32), true},
		{"+Inf as bytes", one(&tfpb.TensorProto{TensorContent: []byte{0, 0, 0x80, 0x7f}}, Float32), true},
		{"-Inf as float64", one(&tfpb.TensorProto{DoubleVal: []float64{math.Inf(-1)}}, Float64), true},
		{"+Inf as float16", one(&tfpb.TensorProto{HalfVal: []int32{0x7c00}}, Float16), true},
		{"1 as bfloat16", one(&tfpb.TensorProto{HalfVal: []int32{0x3f80}}, BFloat16), false},
		{"an integer", one(&tfpb.TensorProto{IntVal: []int32{0x7f80_0000}}, Int32), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := hasNonFinite(test.value); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A run does not check tensors that are always finite, by their type or by the operations on them.
// It does not fail because of another output's input.
func TestWatched(t *testing.T) {
	openLibrary(t)
	variables := map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "b": vector(4, 2), "mask": withAt(vector(3, 2), 1, -inf), "shift": vector(3, 5)}
	bytes := op("in", "Placeholder", noT(attrs{"dtype": typeAttr(tfpb.DataType_DT_UINT8), "shape": shapeAttr(Shape{2, 5, 5, 3})}))
	cast := op("cast", "Cast", noT(attrs{"SrcT": typeAttr(tfpb.DataType_DT_UINT8), "DstT": typeAttr(dtFloat)}), "in")
	by := func(v float32) []*tfpb.NodeDef {
		return []*tfpb.NodeDef{floatConst("by", Shape{}, []float32{v}), op("x", "RealDiv", nil, "cast", "by")}
	}
	tests := []struct {
		name  string
		nodes []*tfpb.NodeDef
		want  int
	}{
		{"bytes by 255", by(255), 0},
		{"bytes by 0", by(0), 1},
		{"logarithm", []*tfpb.NodeDef{op("x", "Log", nil, "cast")}, 1},
		{"a constant that is no number", []*tfpb.NodeDef{floatConst("odd", Shape{}, []float32{inf}), op("x", "Mul", nil, "cast", "odd")}, 1},
		{"a mask", []*tfpb.NodeDef{readOf("mask"), op("x", "AddV2", nil, "cast", "mask/read")}, 1},
		{"what could be a mask", []*tfpb.NodeDef{readOf("shift"), op("x", "AddV2", nil, "cast", "shift/read")}, 0},
		{"less one", []*tfpb.NodeDef{floatConst("one", Shape{}, []float32{1}), op("x", "Sub", nil, "cast", "one")}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nodes := slices.Concat([]*tfpb.NodeDef{bytes, cast, readOf("w"), readOf("b")}, test.nodes, []*tfpb.NodeDef{
				op("conv", "Conv2D", window(nil), "x", "w/read"), op("bias", "BiasAdd", nil, "conv", "b/read"), op("out", "Relu", nil, "bias"),
				op("other", "Identity", nil, "x"),
			})
			g := frozenOf(t, testModel{variables: variables, nodes: nodes, dtype: tfpb.DataType_DT_UINT8}.save(t), KernelsOneDNN)
			must(t, g.addFiniteChecks())
			if list := g.finiteChecks[signatureOutput{"serving_default", "out"}]; len(list) != test.want || len(g.finiteChecks) > 1 {
				t.Errorf("got %v", g.finiteChecks)
			}
		})
	}
}
