package savedmodel

import (
	"errors"
	"math"
	"slices"
	"testing"

	"inceptor/savedmodel/tfpb"
)

// What an input makes NaN is never a number in the end, whichever kernels compute it: outputs have
// NaN, or the run says so. It is told for one of two images.
func TestNotFinite(t *testing.T) {
	openLibrary(t)
	variables := map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "b": vector(4, 2), "v": filter(2, 2, 2, 4, 4), "d": filter(3, 2, 2, 3, 1), "m": filter(4, 75, 4)}
	ksize := attrs{"ksize": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: []int64{1, 2, 2, 1}}}}}
	reads := []*tfpb.NodeDef{readOf("w"), readOf("b"), readOf("v"), readOf("d"), readOf("m")}
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
	// As the standardization of a black image.
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
		}, false, 1},
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
			dir := testModel{variables: variables, nodes: slices.Concat([]*tfpb.NodeDef{input(2, 5, 5, 3)}, reads, test.nodes)}.save(t)
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
					for _, list := range m.watched {
						n += len(list)
					}
					if n != max(test.watches, 0) {
						t.Errorf("%s: watches %v", name, m.watched)
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

// What is finite by its type, or by what is done with it, is not looked at in each run; and an
// output is not refused for the input of another one.
func TestWatched(t *testing.T) {
	openLibrary(t)
	variables := map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "b": vector(4, 2)}
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
		{"less one", []*tfpb.NodeDef{floatConst("one", Shape{}, []float32{1}), op("x", "Sub", nil, "cast", "one")}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nodes := slices.Concat([]*tfpb.NodeDef{bytes, cast, readOf("w"), readOf("b")}, test.nodes, []*tfpb.NodeDef{
				op("conv", "Conv2D", window(nil), "x", "w/read"), op("bias", "BiasAdd", nil, "conv", "b/read"), op("out", "Relu", nil, "bias"),
				op("other", "Identity", nil, "x"),
			})
			g := frozenOf(t, testModel{variables: variables, nodes: nodes, dtype: tfpb.DataType_DT_UINT8}.save(t), KernelsOneDNN)
			must(t, g.watch())
			if list := g.watched["out"]; len(list) != test.want || len(g.watched["in"]) != 0 {
				t.Errorf("got %v", g.watched)
			}
		})
	}
}
