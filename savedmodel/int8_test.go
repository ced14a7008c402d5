package savedmodel

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"inceptor/savedmodel/tfpb"
)

func TestQuantizeFloats(t *testing.T) {
	src := make([]byte, 0, 4*8)
	for _, v := range []float32{0, 10, 0.24, -0.26, 0.25, 0.75, -64, 1e9} {
		src = binary.LittleEndian.AppendUint32(src, math.Float32bits(v))
	}
	dst := make([]byte, 8)
	quantizeFloats(dst, src, []float32{0.5, 10})
	var got []int8
	for _, b := range dst {
		got = append(got, int8(b))
	}
	// The steps take turns. Halves are rounded to the even number; what does not fit is cut off.
	if want := []int8{0, 1, 0, 0, 0, 0, -127, 127}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// spread returns values between -1 and 1, the same ones for the same seed.
func spread(seed uint64, shape ...int64) testVariable {
	n, _ := Shape(shape).Elements()
	r := rand.New(rand.NewPCG(seed, 1))
	values := make([]float32, n)
	for i := range values {
		values[i] = 2*r.Float32() - 1
	}
	return testVariable{shape: shape, values: values}
}

func axisConst(axis int32) *tfpb.NodeDef {
	return op("axis", "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(&tfpb.TensorProto{
		Dtype: dtInt, TensorShape: shapeMessage(nil), IntVal: []int32{axis},
	})}))
}

func concat(name string, of ...string) *tfpb.NodeDef {
	return op(name, "ConcatV2", attrs{"N": intAttr(int64(len(of))), "Tidx": typeAttr(dtInt)}, append(of, "axis")...)
}

// layerOf returns a convolution with its bias and, unless it is empty, an activation, all of which
// begin with the name of the layer. The last one is the layer's.
func layerOf(name, in, w, activation string) []*tfpb.NodeDef {
	conv := op(name+"/conv", "Conv2D", window(nil), in, w+"/read")
	if activation == "" {
		return []*tfpb.NodeDef{conv, op(name, "BiasAdd", nil, name+"/conv", "v/read")}
	}
	return []*tfpb.NodeDef{
		conv, op(name+"/bias", "BiasAdd", nil, name+"/conv", "v/read"), op(name, activation, nil, name+"/bias"),
	}
}

// int8Model has a first layer, "first", and the operations in after, of which output is one.
func int8Model(output string, after ...[]*tfpb.NodeDef) testModel {
	nodes := slices.Concat([]*tfpb.NodeDef{
		input(2, 9, 9, 3), readOf("u"), readOf("w"), readOf("v"), readOf("wide"), axisConst(3),
	}, layerOf("first", "in", "u", "Relu"), slices.Concat(after...))
	return testModel{
		variables: map[string]testVariable{
			"u": spread(1, 3, 3, 3, 8), "w": spread(2, 3, 3, 8, 8), "v": spread(3, 8), "wide": spread(4, 1, 1, 16, 8),
		},
		output: output + ":0", nodes: nodes,
	}
}

// int8Input returns an input of int8Model.
func int8Input(tb testing.TB, seed uint64) *Tensor {
	tb.Helper()
	return tensorOf(tb, Float32, spread(seed, 2, 9, 9, 3).values, 2, 9, 9, 3)
}

// rangesOf returns the ranges of a model's layers on a few inputs.
func rangesOf(tb testing.TB, m *Model, inputs ...*Tensor) Ranges {
	tb.Helper()
	var names []string
	for _, l := range m.Layers() {
		names = append(names, l.Name)
	}
	f, err := m.LayerFunction("serving_default", []string{"x"}, []string{"y"}, names)
	must(tb, err)
	ranges := make(Ranges)
	for _, in := range inputs {
		results := run(tb, f, in)
		for i, name := range names {
			values, err := Data[float32](results[1+i])
			must(tb, err)
			for _, v := range values {
				ranges[name] = max(ranges[name], float32(math.Abs(float64(v))))
			}
		}
	}
	return ranges
}

func TestInt8(t *testing.T) {
	openLibrary(t)
	one := func(name, kind string, a attrs, inputs ...string) []*tfpb.NodeDef {
		return []*tfpb.NodeDef{op(name, kind, a, inputs...)}
	}
	pooled := func(name, kind, of string) []*tfpb.NodeDef { return []*tfpb.NodeDef{pool(name, kind, of, nil)} }
	second := layerOf("second", "first", "w", "Relu")
	rowAxis := axisConst(1)
	rowAxis.Name = "rows"
	for _, test := range []struct {
		name   string
		model  testModel
		layers []string // whose ranges are needed
		want   []string // operations in int8
	}{
		{"two layers", int8Model("out", second, one("out", "Neg", nil, "second")),
			[]string{"first", "second"}, []string{"second"}},
		{"the output", int8Model("second", second), []string{"first", "second"}, []string{"second"}},
		{"only a first layer", int8Model("first"), nil, nil},
		{"pools, a concatenation and a layer", int8Model("out", second, pooled("max", "MaxPool", "second"), pooled("avg", "AvgPool", "second"),
			[]*tfpb.NodeDef{concat("both", "max", "avg")}, layerOf("third", "both", "wide", "Relu"), one("out", "Neg", nil, "third")),
			[]string{"first", "second", "third"}, []string{"avg", "both", "max", "second", "third"}},
		{"a pool of the first layer, in float32", int8Model("out", pooled("max", "MaxPool", "first"), layerOf("second", "max", "w", "Relu"),
			one("out", "Neg", nil, "second")), []string{"first", "second"}, []string{"second"}},
		{"a concatenation with float32", int8Model("out", second, []*tfpb.NodeDef{concat("both", "second", "first")},
			layerOf("third", "both", "wide", "Relu"), one("out", "Neg", nil, "third")),
			[]string{"first", "second", "third"}, []string{"second", "third"}},
		{"a concatenation of rows", int8Model("out", second, []*tfpb.NodeDef{
			rowAxis, op("both", "ConcatV2", attrs{"N": intAttr(2), "Tidx": typeAttr(dtInt)}, "second", "second", "rows"),
		}, one("out", "Neg", nil, "both")), []string{"first", "second"}, []string{"second"}},
		{"Relu6", int8Model("out", layerOf("second", "first", "w", "Relu6"), layerOf("third", "second", "w", "Relu6"), one("out", "Neg", nil, "third")),
			[]string{"first", "second", "third"}, []string{"second", "third"}},
		{"Relu and Relu6 together", int8Model("out", second, layerOf("six", "first", "w", "Relu6"), []*tfpb.NodeDef{concat("both", "second", "six")},
			one("out", "Neg", nil, "both")), []string{"first", "second", "six"}, []string{"second", "six"}},
		{"residual", int8Model("out", second, layerOf("third", "second", "w", ""), one("sum", "AddV2", nil, "third", "first"),
			one("relu", "Relu", nil, "sum"), layerOf("fourth", "relu", "w", "Relu"), one("out", "Neg", nil, "fourth")),
			[]string{"first", "second", "third", "relu", "fourth"}, []string{"fourth", "second", "third"}},
		{"behind negative numbers", int8Model("out", one("less", "Neg", nil, "first"), layerOf("second", "less", "w", "Relu"),
			one("out", "Neg", nil, "second")), nil, nil},
		{"used twice", int8Model("out", second, layerOf("third", "second", "w", "Relu"), one("out", "AddV2", nil, "second", "third")),
			[]string{"first", "second", "third"}, []string{"second", "third"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := test.model.save(t)
			float := loadWith(t, dir, Options{Optimize: true})
			var layers []string
			for _, l := range float.Layers() {
				layers = append(layers, l.Name)
			}
			slices.Sort(layers)
			if slices.Sort(test.layers); !slices.Equal(layers, test.layers) {
				t.Errorf("needs the ranges of %q, not %q", layers, test.layers)
			}
			ranges := Ranges{"another": 1}
			for seed := range uint64(4) {
				for name, v := range rangesOf(t, float, int8Input(t, seed)) {
					ranges[name] = max(ranges[name], v)
				}
			}
			m := loadWith(t, dir, Options{Optimize: true, Precision: PrecisionInt8, Ranges: ranges})
			if got := int8Nodes(t, dir, ranges); !slices.Equal(got, test.want) {
				t.Errorf("%q are in int8, not %q", got, test.want)
			}
			if test.want == nil {
				if m.Precision != PrecisionFloat32 || m.WhyFloat32 != "no convolution can be computed in int8" || m.Int8 != 0 {
					t.Errorf("%v: %q, %v", m.Precision, m.WhyFloat32, m.Int8)
				}
				return
			}
			if m.Precision != PrecisionInt8 || m.WhyFloat32 != "" || m.Int8 <= 0 || m.Int8 >= 1 || m.Layers() != nil {
				t.Errorf("%v: %q, %v, %v", m.Precision, m.WhyFloat32, m.Int8, m.Layers())
			}
			want, got := answer(t, float, int8Input(t, 1)), answer(t, m, int8Input(t, 1))
			largest, squares := 0.0, 0.0
			for i := range want {
				largest = max(largest, math.Abs(float64(want[i])))
				squares += math.Pow(float64(got[i]-want[i]), 2)
			}
			if off := math.Sqrt(squares / float64(len(want))); off > 0.015*largest || off == 0 {
				t.Errorf("differs by %v (root of the mean square), the numbers are up to %v", off, largest)
			}
		})
	}
}

// int8Nodes lists the operations of a model that run in int8, by their names in float32.
func int8Nodes(t *testing.T, dir string, ranges Ranges) []string {
	t.Helper()
	g := frozenOf(t, dir, KernelsOneDNN)
	_, err := g.quantize(ranges)
	must(t, err)
	var names []string
	for _, name := range g.order {
		n := g.nodes[name]
		if plain, ok := strings.CutSuffix(name, "/int8"); ok && n.GetOp() != quantizeOp && n.GetOp() != "VarHandleOp" {
			names = append(names, plain)
		}
		for _, in := range n.GetInput() {
			if g.nodes[nodeOf(in)] == nil {
				t.Errorf("%q needs %q, which is gone", name, in)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Filters have the numbers that do not overflow the sums of the processor's instructions.
func TestFilterLimit(t *testing.T) {
	t.Setenv("DNNL_MAX_CPU_ISA", "")
	t.Setenv("ONEDNN_MAX_CPU_ISA", "")
	own := filterLimit()
	if runtime.GOARCH != "amd64" {
		if own != 127 {
			t.Errorf("%v, want 127", own)
		}
		return
	}
	for capped, want := range map[string]float64{"avx2": 63, "AVX512_CORE": 63, "AVX2_VNNI": own, "ALL": own} {
		t.Setenv("ONEDNN_MAX_CPU_ISA", capped)
		if got := filterLimit(); got != want {
			t.Errorf("%s: %v, want %v", capped, got, want)
		}
	}
}

// A convolution without its own range, or that of its input, stays in float32. So does one of which
// only zeros were seen, since others would be cut off.
func TestInt8Ranges(t *testing.T) {
	openLibrary(t)
	dir := int8Model("out", layerOf("second", "first", "w", "Relu"), layerOf("third", "second", "w", "Relu"),
		[]*tfpb.NodeDef{op("out", "Neg", nil, "third")}).save(t)
	all := Ranges{"first": 1, "second": 1, "third": 1}
	with := func(layer string, v float32) Ranges {
		r := Ranges{"first": 1, "second": 1, "third": 1}
		if r[layer] = v; v < 0 {
			delete(r, layer)
		}
		return r
	}
	nan, infinity := float32(math.NaN()), float32(math.Inf(1))
	for _, test := range []struct {
		name   string
		ranges Ranges
		want   []string
	}{
		{"all", all, []string{"second", "third"}},
		{"none", nil, nil},
		{"of others", Ranges{"else": 1}, nil},
		{"not of the input", with("first", -1), []string{"third"}},
		{"not of the second", with("second", -1), nil},
		{"not of the third", with("third", -1), []string{"second"}},
		{"only zeros", with("third", 0), []string{"second"}},
		{"not a number", with("third", nan), []string{"second"}},
		{"infinite", with("third", infinity), []string{"second"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := int8Nodes(t, dir, test.ranges); !slices.Equal(got, test.want) {
				t.Errorf("%q are in int8, not %q", got, test.want)
			}
		})
	}
	if m := loadWith(t, dir, Options{Optimize: true, Precision: PrecisionInt8}); m.Precision != PrecisionFloat32 || m.WhyFloat32 != "the ranges of its layers are not known" {
		t.Errorf("runs in %v without ranges: %s", m.Precision, m.WhyFloat32)
	}
}

// What a range cuts off, it cuts off at the range.
func TestInt8CutsOff(t *testing.T) {
	dir := int8Model("second", layerOf("second", "first", "w", "Relu")).save(t)
	m := loadWith(t, dir, Options{Optimize: true, Precision: PrecisionInt8, Ranges: Ranges{"first": 3, "second": 0.5}})
	if got := slices.Max(answer(t, m, int8Input(t, 1))); math.Abs(float64(got)-0.5) > 1e-6 {
		t.Errorf("the largest result is %v", got)
	}
}

// NaN from an input is not hidden by the conversion to int8.
func TestInt8NotFinite(t *testing.T) {
	dir := int8Model("out", layerOf("second", "first", "w", "Relu"), []*tfpb.NodeDef{op("out", "Neg", nil, "second")}).save(t)
	m := loadWith(t, dir, Options{Optimize: true, Precision: PrecisionInt8, Ranges: Ranges{"first": 3, "second": 3}})
	in := int8Input(t, 1)
	copy(in.Bytes()[4*100:], binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.NaN()))))
	if _, err := m.Run(context.Background(), "serving_default", map[string]*Tensor{"x": in}); !errors.Is(err, ErrNotFinite) {
		t.Errorf("got %v", err)
	}
	in.Close()
	for _, v := range answer(t, m, int8Input(t, 2)) {
		if v != v {
			t.Error("the next input gives NaN, too")
		}
	}
}

// Filters of no or hardly any size, and a bias that is much larger than they are, keep their
// results.
func TestInt8Scales(t *testing.T) {
	for _, test := range []struct {
		name         string
		filter, bias float32 // factors
	}{
		{"filter of zeros", 0, 1}, {"small filter", 1e-6, 1}, {"small layer", 1e-6, 1e-6}, {"large layer", 1e5, 1e5}, {"no bias", 1, 0}, {"large bias", 1, 1e5},
	} {
		t.Run(test.name, func(t *testing.T) {
			model := int8Model("out", []*tfpb.NodeDef{readOf("w2"), readOf("v2"),
				op("conv", "Conv2D", window(nil), "first", "w2/read"), op("bias", "BiasAdd", nil, "conv", "v2/read"), op("second", "Relu", nil, "bias"),
				op("out", "Neg", nil, "second"),
			})
			scaled := func(v testVariable, by float32) testVariable {
				for i := range v.values {
					v.values[i] *= by
				}
				return v
			}
			model.variables["w2"], model.variables["v2"] = scaled(spread(7, 3, 3, 8, 8), test.filter), scaled(spread(8, 8), test.bias)
			dir := model.save(t)
			float := loadWith(t, dir, Options{Optimize: true})
			m := loadWith(t, dir, Options{Optimize: true, Precision: PrecisionInt8, Ranges: rangesOf(t, float, int8Input(t, 1))})
			if m.Precision != PrecisionInt8 {
				t.Fatalf("runs in %v: %s", m.Precision, m.WhyFloat32)
			}
			want, got := answer(t, float, int8Input(t, 1)), answer(t, m, int8Input(t, 1))
			largest := float64(-slices.Min(want))
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 0.03*largest {
					t.Fatalf("number %d is %v, not %v; the largest is %v", i, got[i], want[i], largest)
				}
			}
		})
	}
}

// The largest sums that filters and activations can give do not overflow.
func TestInt8LargestSums(t *testing.T) {
	model := int8Model("second", layerOf("second", "first", "w", "Relu"))
	for name, value := range map[string]float32{"u": 0, "v": 1, "w": 1} { // so all of first are its range
		for i := range model.variables[name].values {
			model.variables[name].values[i] = value
		}
	}
	m := loadWith(t, model.save(t), Options{Optimize: true, Precision: PrecisionInt8, Ranges: Ranges{"first": 1, "second": 3*3*8 + 1}})
	if m.Precision != PrecisionInt8 {
		t.Fatalf("runs in %v: %s", m.Precision, m.WhyFloat32)
	}
	if got := slices.Max(answer(t, m, int8Input(t, 1))); math.Abs(float64(got)-73) > 0.5 {
		t.Errorf("the largest sum is %v, not 73", got)
	}
}

// An optimized graph for one signature answers it, and has no other.
func TestOneSignature(t *testing.T) {
	dir := int8Model("first").save(t)
	m := loadWith(t, dir, Options{Optimize: true, Signature: "serving_default"})
	if !m.Frozen || len(m.Signatures) != 1 {
		t.Errorf("frozen %v with %d signatures: %s", m.Frozen, len(m.Signatures), m.WhyNot)
	}
	answer(t, m, int8Input(t, 1))
}
