package savedmodel

import (
	"slices"
	"strings"
	"testing"

	"inceptor/savedmodel/tfpb"
)

// A fed value is used, even if the graph could compute the tensor itself.
func TestFreezeFed(t *testing.T) {
	openLibrary(t)
	ones := func(name string, shape ...int64) *tfpb.NodeDef {
		n, _ := Shape(shape).Elements()
		return floatConst(name, shape, slices.Repeat([]float32{1}, int(n)))
	}
	data, w := floatConst("data", Shape{2, 3}, some(6, 7)), filter(1, 3, 4)
	pixels := floatConst("pixels", Shape{1, 4, 4, 3}, some(48, 7))
	four := func(t *testing.T, seed float64) *Tensor { return tensorOf(t, Float32, some(4, seed), 4) }
	tests := []struct {
		name  string
		model testModel
		feed  func(t *testing.T, seed float64) *Tensor
	}{
		{"a constant that scales a product", testModel{
			input: "temp:0", variables: map[string]testVariable{"w": w},
			nodes: []*tfpb.NodeDef{
				data, readOf("w"), ones("temp", 4), op("p", "MatMul", nil, "data", "w/read"), op("out", "Mul", nil, "p", "temp"),
			},
		}, four},
		{"an identity of a constant", testModel{
			input: "temp:0", variables: map[string]testVariable{"w": w},
			nodes: []*tfpb.NodeDef{
				data, readOf("w"), ones("one", 4), op("temp", "Identity", nil, "one"), op("neg", "Neg", nil, "temp"),
				op("p", "MatMul", nil, "data", "w/read"), op("out", "Mul", nil, "neg", "p"),
			},
		}, four},
		{"an identity of a variable that shifts a product", testModel{
			input: "shift:0", variables: map[string]testVariable{"w": w, "v": vector(4, 2)},
			nodes: []*tfpb.NodeDef{
				data, readOf("w"), readOf("v"), op("shift", "Identity", nil, "v/read"),
				op("p", "MatMul", nil, "data", "w/read"), op("m", "Mul", nil, "p", "v/read"), op("out", "AddV2", nil, "m", "shift"),
			},
		}, four},
		{"a constant below another operation", testModel{
			input: "variance:0", variables: map[string]testVariable{"w": w},
			nodes: []*tfpb.NodeDef{
				data, readOf("w"), ones("variance", 4), op("r", "Rsqrt", nil, "variance"),
				op("p", "MatMul", nil, "data", "w/read"), op("out", "Mul", nil, "p", "r"),
			},
		}, four},
		{"a constant that a function takes", func() testModel {
			m := nestedModel()
			m.input, m.nodes[0] = "in:0", ones("in", 2, 3)
			return m
		}(), func(t *testing.T, seed float64) *Tensor { return tensorOf(t, Float32, some(6, seed), 2, 3) }},
		{"the variance of a batch normalization", testModel{
			input: "variance/read:0",
			variables: map[string]testVariable{
				"w": filter(1, 2, 2, 3, 4), "mean": vector(4, 2), "variance": vector(4, 3), "beta": vector(4, 4), "gamma": vector(4, 5),
			},
			nodes: []*tfpb.NodeDef{
				pixels, readOf("w"), readOf("mean"), readOf("variance"), readOf("beta"), readOf("gamma"),
				op("conv", "Conv2D", window(nil), "pixels", "w/read"),
				op("out", "FusedBatchNormV3", attrs{"U": typeAttr(dtFloat), "is_training": boolAttr(false)},
					"conv", "gamma/read", "beta/read", "mean/read", "variance/read"),
			},
		}, four},
		{"the filter of a convolution", testModel{
			input: "w/read:0", variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "v": vector(4, 2)},
			nodes: []*tfpb.NodeDef{
				pixels, readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "pixels", "w/read"),
				op("m", "Mul", nil, "conv", "v/read"), op("b", "BiasAdd", nil, "m", "v/read"), op("out", "Relu", nil, "b"),
			},
		}, func(t *testing.T, seed float64) *Tensor { return tensorOf(t, Float32, some(48, seed), 2, 2, 3, 4) }},
		{"the filter of a convolution and its BiasAdd", testModel{
			input: "w/read:0", variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "v": vector(4, 2)},
			nodes: []*tfpb.NodeDef{
				pixels, readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "pixels", "w/read"),
				op("out", "BiasAdd", nil, "conv", "v/read"),
			},
		}, func(t *testing.T, seed float64) *Tensor { return tensorOf(t, Float32, some(48, seed), 2, 2, 3, 4) }},
		{"what a convolution gives", testModel{
			input: "conv:0", variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "v": vector(4, 2)},
			nodes: []*tfpb.NodeDef{
				pixels, readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "pixels", "w/read"),
				op("m", "Mul", nil, "conv", "v/read"), op("b", "BiasAdd", nil, "m", "v/read"), op("out", "Relu", nil, "b"),
			},
		}, func(t *testing.T, seed float64) *Tensor { return tensorOf(t, Float32, some(64, seed), 1, 4, 4, 4) }},
		{"what is between a convolution and its Relu", testModel{
			input: "b:0", variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "v": vector(4, 2)},
			nodes: []*tfpb.NodeDef{
				pixels, readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "pixels", "w/read"),
				op("m", "Mul", nil, "conv", "v/read"), op("b", "BiasAdd", nil, "m", "v/read"), op("out", "Relu", nil, "b"),
			},
		}, func(t *testing.T, seed float64) *Tensor { return tensorOf(t, Float32, some(64, seed), 1, 4, 4, 4) }},
		{"a new shape", testModel{
			input: "shape:0", dtype: dtInt, variables: map[string]testVariable{"w": w, "v": vector(4, 2)},
			nodes: []*tfpb.NodeDef{
				data, readOf("w"), readOf("v"), intConst("shape", 4, 1),
				op("r", "Reshape", attrs{"Tshape": typeAttr(dtInt)}, "v/read", "shape"),
				op("out", "MatMul", attrs{"transpose_b": boolAttr(true)}, "r", "r"),
			},
		}, func(t *testing.T, seed float64) *Tensor {
			return tensorOf(t, Int32, []int32{int32(seed), 4 / int32(seed)}, 2)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := test.model.save(t)
			plain := loadWith(t, dir, Options{})
			for _, k := range []Kernels{KernelsTensorFlow, KernelsOneDNN} {
				m := loadWith(t, dir, Options{Optimize: true, Kernels: k})
				if !m.Frozen {
					t.Fatal(m.WhyNot)
				}
				for _, seed := range []float64{1, 2} { // one run's feed says nothing about the next one's
					in := test.feed(t, seed)
					if got, want := answer(t, m, in), answer(t, plain, in); !closeTo(got, want) {
						t.Errorf("%v: %v, plain is %v", k, got, want)
					}
				}
			}
		})
	}

	t.Run("without the feed", func(t *testing.T) { // as another signature may have it
		f := function(t, loadWith(t, tests[0].model.save(t), Options{Optimize: true}).Session, nil, []string{"out:0"})
		got, err := Data[float32](run(t, f)[0])
		must(t, err)
		one := tensorOf(t, Float32, []float32{1, 1, 1, 1}, 4)
		if want := answer(t, loadWith(t, tests[0].model.save(t), Options{}), one); !closeTo(got, want) {
			t.Errorf("%v, plain is %v", got, want)
		}
	})
	t.Run("what a function gives", func(t *testing.T) {
		model := nestedModel()
		model.nodes = append(model.nodes, op("out", "Neg", nil, "call"))
		model.input, model.output = "call:0", "out:0"
		m := loadWith(t, model.save(t), Options{Optimize: true})
		if m.Frozen || !strings.Contains(m.WhyNot, `a signature's input is "call", a call of a function`) {
			t.Errorf("frozen %v: %q", m.Frozen, m.WhyNot)
		}
		if got := answer(t, m, four(t, 1)); !closeTo(got, []float32{-some(4, 1)[0], -some(4, 1)[1], -some(4, 1)[2], -some(4, 1)[3]}) {
			t.Errorf("%v", got)
		}
	})
}
