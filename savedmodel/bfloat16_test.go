package savedmodel

import (
	"encoding/binary"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

func TestNarrowFloats(t *testing.T) {
	for _, test := range []struct {
		name string
		bits uint32
		want uint16
	}{
		{"one", 0x3f80_0000, 0x3f80},
		{"down", 0x3f80_7fff, 0x3f80},
		{"up", 0x3f80_8001, 0x3f81},
		{"half, to the even one below", 0x3f80_8000, 0x3f80},
		{"half, to the even one above", 0x3f81_8000, 0x3f82},
		{"into the exponent", 0x3fff_ffff, 0x4000},
		{"negative", 0xbf80_8001, 0xbf81},
		{"negative zero", 0x8000_0000, 0x8000},
		{"denormal", 0x0000_8001, 0x0001},
		{"too large", 0x7f7f_ffff, 0x7f80},
		{"infinite", 0xff80_0000, 0xff80},
		{"not a number, by its lowest bit", 0x7f80_0001, 0x7fc0},
		{"not a number, all bits", 0xffff_ffff, 0xffff},
	} {
		t.Run(test.name, func(t *testing.T) {
			src, dst := binary.LittleEndian.AppendUint32(nil, test.bits), make([]byte, 2)
			narrowFloats(dst, src)
			if got := binary.LittleEndian.Uint16(dst); got != test.want {
				t.Errorf("%08x is %04x, not %04x", test.bits, got, test.want)
			}
		})
	}
}

// pool pools 2×2 windows of a channel each, unless more says otherwise.
func pool(name, kind, of string, more attrs) *tfpb.NodeDef {
	a := window(attrs{"ksize": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: []int64{1, 2, 2, 1}}}}})
	maps.Copy(a, more)
	return op(name, kind, a, of)
}

// narrowModel has two convolutions, and the operations in after.
func narrowModel(output string, after ...*tfpb.NodeDef) testModel {
	return testModel{
		variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 3), "v": vector(3, 2)},
		output:    output + ":0",
		nodes: slices.Concat([]*tfpb.NodeDef{
			input(2, 5, 5, 3), readOf("w"), readOf("v"),
			op("conv", "Conv2D", window(nil), "in", "w/read"), op("b", "BiasAdd", nil, "conv", "v/read"), op("first", "Relu", nil, "b"),
			op("conv2", "Conv2D", window(nil), "first", "w/read"), op("b2", "BiasAdd", nil, "conv2", "v/read"), op("second", "Relu", nil, "b2"),
		}, after),
	}
}

func TestNarrow(t *testing.T) {
	openLibrary(t)
	axis := op("axis", "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(&tfpb.TensorProto{
		Dtype: dtInt, TensorShape: shapeMessage(nil), IntVal: []int32{3},
	})}))
	join := func(name string, of ...string) *tfpb.NodeDef {
		return op(name, "ConcatV2", attrs{"N": intAttr(int64(len(of))), "Tidx": typeAttr(dtInt)}, append(of, "axis")...)
	}
	deep := attrs{"ksize": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: []int64{1, 1, 1, 3}}}}}
	explicit := attrs{"padding": bytesAttr("EXPLICIT"), "explicit_paddings": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{I: make([]int64, 8)}}}}
	for _, test := range []struct {
		name  string
		model testModel
		want  []string // operations in bfloat16
	}{
		{"pools and joined", narrowModel("out", axis, pool("max", "MaxPool", "second", nil), pool("avg", "AvgPool", "max", nil),
			join("both", "avg", "max"), op("out", "Neg", nil, "both")), []string{"avg", "both", "max", "second"}},
		{"joined with float32", narrowModel("out", axis, join("both", "second", "first"), op("out", "Neg", nil, "both")), []string{"second"}},
		{"before all convolutions", narrowModel("out", pool("max", "MaxPool", "in", nil), op("sum", "AddV2", nil, "second", "max"),
			op("out", "Neg", nil, "sum")), []string{"second"}},
		{"pooled over channels", narrowModel("out", pool("max", "MaxPool", "second", deep), op("out", "Neg", nil, "max")), []string{"second"}},
		{"explicit padding", narrowModel("out", pool("max", "MaxPool", "second", explicit), op("out", "Neg", nil, "max")), []string{"second"}},
		{"used twice", narrowModel("out", op("neg", "Neg", nil, "second"), op("out", "AddV2", nil, "neg", "second")), []string{"second"}},
		{"fetched", narrowModel("second"), nil},
		{"only after others", narrowModel("first"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := frozenOf(t, test.model.save(t), KernelsOneDNN)
			if g.narrow() != (test.want != nil) {
				t.Error("it is the other way round")
			}
			var got []string
			for _, name := range g.order {
				n := g.nodes[name]
				if n.GetAttr()["T"].GetType() == tfpb.DataType_DT_BFLOAT16 {
					got = append(got, name)
				}
				for _, in := range n.GetInput() {
					if g.nodes[nodeOf(in)] == nil {
						t.Errorf("%q needs %q, which is gone", name, in)
					}
				}
			}
			if slices.Sort(got); !slices.Equal(got, test.want) {
				t.Errorf("%q work in bfloat16, not %q", got, test.want)
			}
			def, _ := g.def()
			s, err := NewSession(def, Options{}) // checks that types fit
			must(t, err)
			must(t, s.Close())
		})
	}
}

// Without bfloat16 in the processor, the kernels or the model, it runs in float32 and says why.
func TestBFloat16NotToBeHad(t *testing.T) {
	has := nativeBFloat16
	t.Cleanup(func() { nativeBFloat16 = has })
	dir := narrowModel("second").save(t)
	for _, test := range []struct {
		name    string
		native  bool
		options Options
		want    string
	}{
		{"processor", false, Options{Optimize: true, Kernels: KernelsOneDNN}, "the processor has no instructions for bfloat16"},
		{"kernels", true, Options{Optimize: true, Kernels: KernelsTensorFlow}, "only oneDNN's kernels support bfloat16"},
		{"model", true, Options{Optimize: true, Kernels: KernelsOneDNN}, "no convolution would gain from bfloat16"},
		{"as it is", true, Options{}, "the model is not optimized"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nativeBFloat16 = test.native
			test.options.Precision = PrecisionBFloat16
			m := loadWith(t, dir, test.options)
			if m.Precision != PrecisionFloat32 || m.WhyFloat32 != test.want || m.Frozen != test.options.Optimize || m.WhyNot != "" {
				t.Errorf("%v: %q; frozen %v: %q", m.Precision, m.WhyFloat32, m.Frozen, m.WhyNot)
			}
		})
	}
}

// In bfloat16, Inception gives photos the same best class and nearly the same scores, alone and
// in a batch. On a processor without bfloat16 it runs in float32.
func TestBFloat16Inception(t *testing.T) {
	openLibrary(t)
	dir := filepath.Join(testenv.Model(t), "1")
	single := loadWith(t, dir, Options{Optimize: true, Kernels: KernelsOneDNN})
	half := loadWith(t, dir, Options{Optimize: true, Kernels: KernelsOneDNN, Precision: PrecisionBFloat16})
	if !nativeBFloat16 {
		if half.Precision != PrecisionFloat32 || half.WhyFloat32 == "" {
			t.Errorf("runs in %v: %q", half.Precision, half.WhyFloat32)
		}
	} else if half.Precision != PrecisionBFloat16 || half.WhyFloat32 != "" {
		t.Fatalf("runs in %v: %q", half.Precision, half.WhyFloat32)
	}
	if single.Precision != PrecisionFloat32 || single.WhyFloat32 != "" {
		t.Errorf("runs in %v: %q", single.Precision, single.WhyFloat32)
	}

	names, err := filepath.Glob(filepath.Join(testenv.Photos(t), "*"))
	must(t, err)
	var photos [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		must(t, err)
		photos = append(photos, b)
	}
	scores := func(m *Model, photos ...[]byte) []float32 {
		f, err := m.SignatureFunction("serving_bytes", []string{"image_bytes"}, []string{"scores"})
		must(t, err)
		out := run(t, f, stringsOf(t, photos, int64(len(photos))))
		all, err := Data[float32](out[0])
		must(t, err)
		return all
	}
	// Largest seen: 1.2e-3.
	const tolerance = 0.01
	largest := 0.0
	together := scores(half, photos...)
	for i, photo := range photos {
		want := scores(single, photo)
		for _, got := range [][]float32{scores(half, photo), together[i*len(want) : (i+1)*len(want)]} {
			for class := range want {
				largest = max(largest, math.Abs(float64(got[class]-want[class])))
			}
			if slices.Index(got, slices.Max(got)) != slices.Index(want, slices.Max(want)) {
				t.Errorf("%s: %v in bfloat16, %v in float32", filepath.Base(names[i]), got, want)
			}
		}
	}
	t.Logf("%d photos, largest difference %.1e", len(photos), largest)
	if !(largest <= tolerance) || nativeBFloat16 && largest == 0 {
		t.Errorf("differs by %g", largest)
	}
}
