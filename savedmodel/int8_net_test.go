package savedmodel

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// netsVariable makes TestInt8Nets run the nets in its own process.
const netsVariable = "INCEPTOR_TEST_NETS"

// A net is a small model of convolutions.
type net struct {
	name string
	testModel
	sizes [][]int64 // height and width of its inputs
	// convolutions that run in int8; 0: the model stays in float32.
	convolutions int
	// within is how far int8's results may be from float32's, as a part of the largest of those; 0:
	// 0.03, or 0.06 if filters have 7 bits.
	within float64
	// ranges change what calibration found.
	ranges func(Ranges)
	more   map[string]*tfpb.SignatureDef // besides serving_default
	fails  bool                          // to load, in float32 too
	refuse bool                          // inputs of the last size
}

// A netBuilder grows a net with three channels as its input.
type netBuilder struct{ net }

func newNet(name string, convolutions int) *netBuilder {
	b := &netBuilder{net{name: name, convolutions: convolutions, sizes: [][]int64{{9, 8}}}}
	b.variables = make(map[string]testVariable)
	return b.add(input(-1, -1, -1, 3))
}

func (b *netBuilder) add(nodes ...*tfpb.NodeDef) *netBuilder {
	b.nodes = append(b.nodes, nodes...)
	return b
}

func (b *netBuilder) with(change func(*net)) *netBuilder {
	change(&b.net)
	return b
}

// variable adds a variable of normal values, and what reads it.
func (b *netBuilder) variable(name string, deviation float64, shape ...int64) *netBuilder {
	n, _ := Shape(shape).Elements()
	random := rand.New(rand.NewPCG(uint64(len(b.variables)), uint64(n)))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(deviation * random.NormFloat64())
	}
	b.variables[name] = testVariable{shape: shape, values: values}
	return b.add(readOf(name))
}

// conv adds a convolution with a bias and an activation: Relu, Relu6 or none.
func (b *netBuilder) conv(name, in string, shape []int64, activation string, more attrs) *netBuilder {
	b.variable(name+"/w", math.Sqrt(2/float64(shape[0]*shape[1]*shape[2])), shape...)
	return b.around(name, in, name+"/w/read", shape[3], activation, more)
}

// around adds the operations of conv for the filter that a tensor holds.
func (b *netBuilder) around(name, in, filter string, channels int64, activation string, more attrs) *netBuilder {
	b.variable(name+"/b", 0.1, channels)
	last := name
	if activation != "" {
		last = name + "/biased"
	}
	b.add(op(name+"/conv", "Conv2D", window(more), in, filter), op(last, "BiasAdd", nil, name+"/conv", name+"/b/read"))
	if activation != "" {
		b.add(op(name, activation, nil, last))
	}
	return b
}

// begin is a net with a first convolution, which stays in float32, of 8 channels.
func begin(name string, convolutions int) *netBuilder {
	return newNet(name, convolutions).conv("first", "in", []int64{3, 3, 3, 8}, "Relu", nil)
}

// signature returns a signature of the tensors x and y.
func signature(x, y string) *tfpb.SignatureDef {
	info := func(name string) map[string]*tfpb.TensorInfo {
		return map[string]*tfpb.TensorInfo{name[:1]: {Encoding: &tfpb.TensorInfo_Name{Name: name[2:] + ":0"}, Dtype: dtFloat}}
	}
	return &tfpb.SignatureDef{Inputs: info("x " + x), Outputs: info("y " + y)}
}

func joined(name, axis string, of ...string) *tfpb.NodeDef {
	return op(name, "ConcatV2", attrs{"N": intAttr(int64(len(of))), "Tidx": typeAttr(dtInt)}, append(of, axis)...)
}

func scalarInt(name string, v int32) *tfpb.NodeDef {
	return op(name, "Const", noT(attrs{"dtype": typeAttr(dtInt), "value": tensorAttr(&tfpb.TensorProto{
		Dtype: dtInt, TensorShape: shapeMessage(nil), IntVal: []int32{v},
	})}))
}

// fusedInFile returns a convolution that the file itself holds fused.
func fusedInFile(name, in, filter, bias string, more attrs, words ...string) *tfpb.NodeDef {
	a := window(attrs{"fused_ops": wordsAttr(words...), "num_args": intAttr(1), "TArgs": typesAttr([]tfpb.DataType{dtFloat})})
	for k, v := range more {
		a[k] = v
	}
	return op(name, fusedConv, a, in, filter, bias)
}

var (
	shape3 = []int64{3, 3, 8, 8}
	shape1 = []int64{1, 1, 8, 8}
)

// batches are the numbers of images in the runs that are compared. An oneDNN kernel is kept from
// one run to the next, and made anew for another size.
var batches = []int64{1, 2, 8, 1}

// images returns random pixels for a net, in a batch. A signature that does not begin with the
// pixels takes 8 channels.
func (n net) images(tb testing.TB, batch int64, size []int64, signature string) *Tensor {
	tb.Helper()
	channels := int64(3)
	if in := n.more[signature].GetInputs()["x"].GetName(); in != "" && in != "in:0" {
		channels = 8
	}
	pixels := make([]float32, batch*size[0]*size[1]*channels)
	random := rand.New(rand.NewPCG(uint64(batch), 3))
	for i := range pixels {
		pixels[i] = random.Float32()
	}
	return tensorOf(tb, Float32, pixels, batch, size[0], size[1], channels)
}

// addSignatures adds the net's other signatures to its version in dir.
func (n net) addSignatures(tb testing.TB, dir string) {
	tb.Helper()
	file := filepath.Join(dir, graphFile)
	b, err := os.ReadFile(file)
	must(tb, err)
	var m tfpb.SavedModel
	must(tb, proto.Unmarshal(b, &m))
	maps.Copy(m.GetMetaGraphs()[0].GetSignatureDef(), n.more)
	must(tb, os.WriteFile(file, []byte(message(&m)), 0o600))
}

func (n net) load(tb testing.TB, dir string, p Precision, r Ranges) (*Model, error) {
	tb.Helper()
	m, err := Load(tb.Context(), dir, Options{Optimize: true, Kernels: KernelsOneDNN, Precision: p, Ranges: r})
	if err == nil {
		tb.Cleanup(func() { must(tb, m.Close()) })
	}
	return m, err
}

// calibrate returns the ranges of the net's layers.
func (n net) calibrate(tb testing.TB, m *Model) Ranges {
	tb.Helper()
	var names []string
	for _, layer := range m.Layers() {
		names = append(names, layer.Name)
	}
	r := make(Ranges)
	f, err := m.LayerFunction(defaultSignature, []string{"x"}, []string{"y"}, names)
	must(tb, err)
	for i, size := range n.sizes {
		if n.refuse && i == len(n.sizes)-1 {
			continue
		}
		for _, batch := range batches {
			results := run(tb, f, n.images(tb, batch, size, defaultSignature))
			for i, name := range names {
				values, err := Data[float32](results[1+i])
				must(tb, err)
				for _, v := range values {
					r[name] = max(r[name], float32(math.Abs(float64(v))))
				}
			}
		}
	}
	if n.ranges != nil {
		n.ranges(r)
	}
	return r
}

func (n net) test(t *testing.T) {
	n.output = "out:0"
	dir := n.save(t)
	n.addSignatures(t, dir)
	single, err := n.load(t, dir, PrecisionFloat32, nil)
	if n.fails {
		if err == nil {
			t.Error("it loads in float32")
		}
		if _, err := n.load(t, dir, PrecisionInt8, Ranges{"first": 1, "out": 1}); err == nil {
			t.Error("it loads in int8")
		}
		return
	}
	must(t, err)
	ranges := n.calibrate(t, single)
	small, err := n.load(t, dir, PrecisionInt8, ranges)
	must(t, err)
	if got := int8Convolutions(t, dir, ranges); got != n.convolutions {
		t.Errorf("%d convolutions run in int8, want %d", got, n.convolutions)
	}
	ops, err := operations()
	must(t, err)
	if want := n.convolutions > 0 && int8Missing(ops) == ""; (small.Precision == PrecisionInt8) != want || (small.WhyFloat32 == "") != want {
		t.Errorf("runs in %v: %q", small.Precision, small.WhyFloat32)
	}
	var group sync.WaitGroup
	for i, size := range n.sizes {
		for _, batch := range batches {
			for _, signature := range append(slices.Collect(maps.Keys(n.more)), defaultSignature) {
				x := n.images(t, batch, size, signature)
				group.Go(func() { n.compare(t, single, small, signature, x, n.refuse && i == len(n.sizes)-1) })
			}
		}
	}
	group.Wait()
	n.testOddInputs(t, single, small)
}

// testOddInputs runs inputs of which both precisions may say what they like, except that NaN is
// found in both.
func (n net) testOddInputs(t *testing.T, single, small *Model) {
	t.Helper()
	none, infinite, nan := n.images(t, 0, n.sizes[0], defaultSignature), n.images(t, 1, n.sizes[0], defaultSignature), n.images(t, 1, n.sizes[0], defaultSignature)
	for x, v := range map[*Tensor]float64{infinite: math.Inf(1), nan: math.NaN()} {
		pixels, err := Data[float32](x)
		must(t, err)
		pixels[len(pixels)/2] = float32(v)
	}
	for _, x := range []*Tensor{none, infinite, nan} {
		var found [2]bool
		for i, m := range []*Model{single, small} {
			out, err := m.Run(t.Context(), defaultSignature, map[string]*Tensor{"x": x})
			if found[i] = errors.Is(err, ErrNotFinite); err == nil {
				out["y"].Close()
			}
		}
		if x == nan && found[0] != found[1] {
			t.Errorf("NaN in an image: is refused in float32: %v, in int8: %v", found[0], found[1])
		}
	}
}

// int8Convolutions counts the convolutions that the graph with these ranges computes in int8.
func int8Convolutions(tb testing.TB, dir string, ranges Ranges) (count int) {
	tb.Helper()
	g := frozenOf(tb, dir, KernelsOneDNN)
	_, err := g.quantize(ranges)
	must(tb, err)
	for _, n := range g.nodes {
		if n.GetOp() == quantizedConv {
			count++
		}
	}
	return count
}

// compare compares the results for an input. It may run on any goroutine.
func (n net) compare(t *testing.T, single, small *Model, signature string, x *Tensor, refused bool) {
	var results [2][]float32
	var failed [2]error
	for i, m := range []*Model{single, small} {
		out, err := m.Run(t.Context(), signature, map[string]*Tensor{"x": x})
		if failed[i] = err; err != nil {
			continue
		}
		values, err := Data[float32](out["y"])
		if failed[i] = err; err == nil {
			results[i] = slices.Clone(values)
		}
		out["y"].Close()
	}
	if refused {
		if failed[0] == nil || failed[1] == nil {
			t.Errorf("input %v: float32: %v, int8: %v", x.Shape(), failed[0], failed[1])
		}
		return
	}
	if failed[0] != nil || failed[1] != nil || len(results[0]) != len(results[1]) {
		t.Errorf("input %v: float32: %d values, %v; int8: %d values, %v", x.Shape(), len(results[0]), failed[0], len(results[1]), failed[1])
		return
	}
	most, off := 0.0, 0.0
	for i, v := range results[0] {
		most, off = max(most, math.Abs(float64(v))), max(off, math.Abs(float64(v-results[1][i])))
		if d := float64(results[1][i]); math.IsNaN(d) || math.IsInf(d, 0) {
			t.Errorf("input %v: int8 gives %v, float32 %v", x.Shape(), d, v)
			return
		}
	}
	within := n.within
	if within == 0 {
		within = 0.03 * 127 / filterLimit()
	}
	if !(off <= within*most) {
		t.Errorf("input %v: int8 is %.4f of the largest value off, want %.4f", x.Shape(), off/most, within)
	}
}

// Nets of all kinds run in int8 nearly as in float32, or stay in float32, and none ends the
// process, as TensorFlow's kernels do when they get types or shapes that they do not expect.
func TestInt8Nets(t *testing.T) {
	openLibrary(t)
	if os.Getenv(netsVariable) != "" {
		for _, n := range nets() {
			t.Run(n.name, n.test)
		}
		return
	}
	// A processor without VNNI, and one with what there is.
	for _, instructions := range []string{"AVX2", "ALL"} {
		t.Run(instructions, func(t *testing.T) { runNets(t, netsVariable+"=1", "ONEDNN_MAX_CPU_ISA="+instructions) })
	}
}

// runNets runs TestInt8Nets in other processes, with these variables: the first one, and another
// one after each that died.
func runNets(t *testing.T, variables ...string) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	var skip []string
	passed := 0
	for {
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestInt8Nets$", "-test.v", "-test.skip=^TestInt8Nets$/^("+strings.Join(skip, "|")+")$")
		cmd.Env = append(os.Environ(), variables...)
		out, err := cmd.CombinedOutput()
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^    --- PASS: TestInt8Nets/(.*) \(`).FindAllSubmatch(out, -1) {
			skip, passed = append(skip, regexp.QuoteMeta(string(found[1]))), passed+1
		}
		if err == nil {
			break
		}
		begun := regexp.MustCompile(`(?m)^=== RUN   TestInt8Nets/(.*)$`).FindAllSubmatch(out, -1)
		if len(begun) == 0 || bytes.Contains(out, []byte("\n--- FAIL: TestInt8Nets ")) {
			t.Fatalf("%s", shortened(out))
		}
		last := string(begun[len(begun)-1][1])
		t.Errorf("the process died in %q: %v\n%s", last, err, shortened(out))
		skip = append(skip, regexp.QuoteMeta(last))
	}
	if n := len(nets()); passed != n {
		t.Errorf("%d of %d nets passed", passed, n)
	}
}

// shortened returns what a test's output says of failures.
func shortened(out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "=== RUN") && !strings.Contains(line, "--- PASS") {
			fmt.Fprint(&b, line)
		}
	}
	text := b.String()
	return text[max(0, len(text)-8000):]
}
