package savedmodel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/savedmodel/tfpb"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

func TestOddNumber(t *testing.T) {
	types := map[DataType]struct{ nan, plus, minus, largest uint64 }{
		Float16:  {0x7e01, 0x7c00, 0xfc00, 0xfbff},
		BFloat16: {0xffc0, 0x7f80, 0xff80, 0xff7f},
		Float32:  {0x7f80_0001, 0x7f80_0000, 0xff80_0000, 0xff7f_ffff},
		Float64:  {0xfff8_0000_0000_0000, 0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000, 0xffef_ffff_ffff_ffff},
	}
	for dtype, bits := range types {
		t.Run(dtype.String(), func(t *testing.T) {
			const length = 23
			values := make([]byte, length*dtype.Size())
			set := func(at int, v uint64) {
				b := binary.LittleEndian.AppendUint64(nil, v)
				copy(values[at*dtype.Size():][:dtype.Size()], b)
			}
			for i := range length {
				set(i, bits.largest)
			}
			if at, name := firstNonFinite(values, dtype, false); at >= 0 {
				t.Fatalf("all finite: %s at %d", name, at)
			}
			for i := range length {
				for v, want := range map[uint64]string{bits.nan: "NaN", bits.plus: "+Inf", bits.minus: "-Inf"} {
					set(i, v)
					if at, name := firstNonFinite(values, dtype, false); at != i || name != want {
						t.Errorf("%s at %d: got %q at %d", want, i, name, at)
					}
					at, name := firstNonFinite(values, dtype, true)
					if want == "NaN" && (at != i || name != want) || want != "NaN" && at >= 0 {
						t.Errorf("%s at %d, where ±Inf is no fault: got %q at %d", want, i, name, at)
					}
				}
				set(i, bits.largest)
			}
		})
	}
	if at, _ := firstNonFinite([]byte{255, 255, 255, 255}, Int32, false); at >= 0 {
		t.Error("an integer is not finite")
	}
}

// withAt returns a variable with another value at one place.
func withAt(v testVariable, at int, value float32) testVariable {
	v.values = slices.Clone(v.values)
	v.values[at] = value
	return v
}

// A model with NaN or infinity in a weight is refused, optimized or not, and the error names the
// weight. Masks, and weights that no signature uses, may hold anything.
func TestDiverged(t *testing.T) {
	openLibrary(t)
	scalar := floatConst("odd", Shape{}, []float32{nan})
	base := func(change func(map[string]testVariable), more ...*tfpb.NodeDef) testModel {
		m := testModel{
			variables: map[string]testVariable{
				"w": filter(1, 2, 2, 3, 4), "mean": vector(4, 2), "variance": vector(4, 3), "beta": vector(4, 4), "mask": vector(4, 5),
			},
			nodes: slices.Concat([]*tfpb.NodeDef{input(2, 5, 5, 3), readOf("w"), op("conv", "Conv2D", window(nil), "in", "w/read")},
				normalized("", "conv"), []*tfpb.NodeDef{op("relu", "Relu", nil, "bn")}),
		}
		if change != nil {
			change(m.variables)
		}
		if len(more) == 0 {
			more = []*tfpb.NodeDef{op("out", "Identity", nil, "relu")}
		}
		m.nodes = append(m.nodes, more...)
		return m
	}
	with := func(name string, at int, value float32) func(map[string]testVariable) {
		return func(v map[string]testVariable) { v[name] = withAt(v[name], at, value) }
	}
	masked := []*tfpb.NodeDef{readOf("mask"), op("out", "AddV2", nil, "relu", "mask/read")}
	inFunction := loopModel()
	inFunction.variables["w"] = withAt(inFunction.variables["w"], 2, -inf)
	loopWith := func(kind string) testModel {
		return testModel{
			variables: map[string]testVariable{"w": withAt(vector(3, 1), 2, -inf)},
			nodes:     append(loopOf("in", "out", 2, "y", enterConst("w/in", "w/read"), op("y", kind, nil, "turn/x", "w/in")), input(3), readOf("w")),
		}
	}
	inLoop, filterInLoop := loopWith("AddV2"), loopWith("Mul")
	nested := nestedModel()
	nested.variables["v"] = withAt(nested.variables["v"], 3, nan)
	loop := base(with("w", 5, nan))
	loop.nodes[0].Input = []string{"out"}
	tests := []struct {
		name  string
		model testModel
		want  string // empty: it loads
	}{
		{"finite", base(nil), ""},
		{"NaN in a filter", base(with("w", 17, nan)), `variable "w" has NaN at element 17 of [2, 2, 3, 4]`},
		{"-Inf in a filter", base(with("w", 47, -inf)), `variable "w" has -Inf at element 47 of [2, 2, 3, 4]`},
		{"+Inf in a variance", base(with("variance", 1, inf)), `variable "variance" has +Inf at element 1 of [4]`},
		{"NaN in a mean", base(with("mean", 0, nan)), `variable "mean" has NaN at element 0 of [4]`},
		{"in a function", nested, `variable "v" has NaN at element 3 of [4]`},
		{"in a graph with a loop", loop, `variable "w" has NaN at element 5 of [2, 2, 3, 4]`},
		{"NaN in no signature's variable", base(with("mask", 0, nan)), ""},
		{"-Inf in a mask", base(with("mask", 2, -inf), masked...), ""},
		{"+Inf to compare with", base(with("mask", 2, inf), readOf("mask"), op("less", "Less", nil, "relu", "mask/read"),
			op("out", "SelectV2", nil, "less", "relu", "bn")), ""},
		{"-Inf in a mask in a function", inFunction, ""},
		{"-Inf in a mask in a loop", inLoop, ""},
		{"-Inf in a filter in a loop", filterInLoop, `variable "w" has -Inf at element 2 of [3]`},
		{"NaN in a mask", base(with("mask", 2, nan), masked...), `variable "mask" has NaN at element 2 of [4]`},
		{"-Inf in a constant", base(nil, floatConst("c", Shape{4}, []float32{0, 0, -inf, 0}), op("out", "AddV2", nil, "relu", "c")), ""},
		{"NaN in a constant", base(nil, floatConst("c", Shape{4}, []float32{0, 0, nan, 0}), op("out", "AddV2", nil, "relu", "c")),
			`constant "c" has NaN at element 2 of [4]`},
		{"NaN as a value to choose", base(nil, scalar, op("less", "Less", nil, "relu", "odd"), op("out", "SelectV2", nil, "less", "odd", "relu")), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := test.model.save(t)
			for _, optimize := range []bool{true, false} {
				m, err := Load(t.Context(), dir, Options{Optimize: optimize})
				if m != nil {
					if optimize && !m.Frozen {
						t.Errorf("not optimized: %s", m.WhyNot)
					}
					must(t, m.Close())
				}
				if test.want == "" {
					must(t, err)
					continue
				}
				want := "load " + dir + ": " + test.want + ": the model has diverged; publish a version with finite weights"
				if !errors.Is(err, ErrDiverged) || err.Error() != want {
					t.Errorf("optimize %v: got  %v\nwant %s", optimize, err, want)
				}
			}
		})
	}
}

// The parts of a variable are found, and named, by its key.
func TestPieces(t *testing.T) {
	key := func(name, rest string) string { return "\x00" + name + "\x00\x01" + rest }
	c := newCheckpoint("", &bundleIndex{entries: []bundleEntry{
		{key: key("w", "1")}, {key: key("w", "2")}, {key: key("w2", "1")}, {key: "v"}, {key: "w", sliced: true},
	}})
	for name, want := range map[string]int{"w": 2, "v": 1, "none": 0} {
		pieces := c.pieces(name)
		if len(pieces) != want {
			t.Errorf("%s: got %+v", name, pieces)
		}
		for _, e := range pieces {
			if got := c.name(e); got != name {
				t.Errorf("%s: called %q", name, got)
			}
		}
	}
}

// Following weights that share a long chain of operations is bounded.
func TestOnlyMaskBudget(t *testing.T) {
	g := newFlatGraph(&tfpb.MetaGraphDef{}, nil, newLoadBudget(t.Context()))
	last, weights := "w", []string(nil)
	for i := range 3000 {
		w, next := fmt.Sprint("w", i), fmt.Sprint("next", i)
		g.nodes[w], g.nodes[next] = op(w, "VariableV2", nil), op(next, "Reshape", nil, last, w)
		g.order, weights, last = append(g.order, w, next), append(weights, w), next
	}
	users := g.users()
	for _, w := range weights {
		g.onlyMask(w, users)
	}
	if err := g.budget.charge(1); !errors.Is(err, errNotOptimized) {
		t.Errorf("the budget has %d bytes left: %v", g.budget.left, err)
	}
}

// A batch normalization with a scale of NaN is left in the graph as it is written. Finite weights
// can cause that, by a variance below zero.
func TestFoldNotFinite(t *testing.T) {
	openLibrary(t)
	variables := func(variance float32) map[string]testVariable {
		return map[string]testVariable{
			"w": filter(1, 2, 2, 3, 4), "mean": vector(4, 2), "variance": withAt(vector(4, 3), 1, variance), "beta": vector(4, 4), "gamma": vector(4, 5),
		}
	}
	conv := []*tfpb.NodeDef{input(2, 5, 5, 3), readOf("w"), op("conv", "Conv2D", window(nil), "in", "w/read")}
	keras := slices.Concat(conv, normalized("", "conv"), []*tfpb.NodeDef{op("out", "Identity", nil, "bn")})
	fused := slices.Concat(conv, []*tfpb.NodeDef{
		readOf("mean"), readOf("variance"), readOf("beta"), readOf("gamma"),
		op("bn", "FusedBatchNormV3", attrs{"U": typeAttr(dtFloat), "is_training": boolAttr(false)}, "conv", "gamma/read", "beta/read", "mean/read", "variance/read"),
		op("out", "Identity", nil, "bn"),
	})
	huge := slices.Concat(conv, []*tfpb.NodeDef{
		floatConst("huge", Shape{4}, []float32{1, 2, math.MaxFloat32, 4}), op("m", "Mul", nil, "conv", "huge"), op("out", "Mul", nil, "m", "huge"),
	})
	for name, model := range map[string]testModel{
		"Keras":            {variables: variables(-1), nodes: keras},
		"FusedBatchNormV3": {variables: variables(-1), nodes: fused},
		"out of range":     {variables: variables(1), nodes: huge},
	} {
		t.Run(name, func(t *testing.T) {
			dir := model.save(t)
			in := tensorOf(t, Float32, some(2*5*5*3, 9), 2, 5, 5, 3)
			want := answer(t, loadWith(t, dir, Options{}), in)
			m := loadWith(t, dir, Options{Optimize: true})
			got := answer(t, m, in)
			if !m.Frozen {
				t.Errorf("not optimized: %s", m.WhyNot)
			}
			odd := 0
			for i := range want {
				a, b := float64(got[i]), float64(want[i])
				if math.IsNaN(b) || math.IsInf(b, 0) {
					odd++
				}
				if a != b && !(math.IsNaN(a) && math.IsNaN(b)) && !(math.Abs(a-b) <= 1e-5*math.Abs(b)) {
					t.Fatalf("value %d is %v, plain it is %v", i, a, b)
				}
			}
			if odd == 0 || odd == len(want) {
				t.Errorf("%d of %d values are not finite", odd, len(want))
			}
		})
	}
}

// A file may itself hold fused operations, with any inputs.
func TestFreezeFusedInFile(t *testing.T) {
	openLibrary(t)
	dir := testModel{
		variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "b": vector(4, 2)},
		nodes: []*tfpb.NodeDef{
			input(-1, -1, -1, -1), readOf("w"), readOf("b"), op("out", fusedConv, window(attrs{
				"fused_ops": wordsAttr("BiasAdd"), "num_args": intAttr(1), "TArgs": typesAttr([]tfpb.DataType{dtFloat}),
			}), "in", "w/read", "b/read"),
		},
	}.save(t)
	in := tensorOf(t, Float32, some(2*5*5*3, 9), 2, 5, 5, 3)
	want := answer(t, loadWith(t, dir, Options{}), in)
	if m := loadWith(t, dir, Options{Optimize: true}); !m.Frozen || !closeTo(answer(t, m, in), want) {
		t.Errorf("frozen %v: %s", m.Frozen, m.WhyNot)
	}
}

// A small file that optimizing would make large is left to TensorFlow's loader.
func TestFreezeBudget(t *testing.T) {
	openLibrary(t)
	// The name of each operation of a function contains the call's name.
	long := nestedModel()
	long.nodes[1].Name = strings.Repeat("n", 1<<20)
	long.output = long.nodes[1].Name + ":0"
	body := long.functions[1]
	for i := range 400 {
		body.NodeDef = append(body.NodeDef, op("more"+string(rune('a'+i/20))+string(rune('a'+i%20)), "Identity", nil, "x"))
		body.Signature.ControlOutput = append(body.Signature.ControlOutput, body.NodeDef[len(body.NodeDef)-1].Name)
		body.ControlRet[body.NodeDef[len(body.NodeDef)-1].Name] = body.NodeDef[len(body.NodeDef)-1].Name
	}
	// Each convolution has another scale, and so would need its own copy of the filter.
	shared := testModel{
		variables: map[string]testVariable{"w": filter(1, 1, 1, 512, 512)},
		nodes:     []*tfpb.NodeDef{input(1, 2, 2, 512), readOf("w")},
	}
	last := "in"
	for i := range 300 {
		name := "l" + string(rune('a'+i/20)) + string(rune('a'+i%20))
		shared.nodes = append(shared.nodes, floatConst(name+"/c", Shape{1}, []float32{float32(i + 2)}),
			op(name+"/conv", "Conv2D", window(nil), last, "w/read"), op(name, "Mul", nil, name+"/conv", name+"/c"))
		last = name
	}
	shared.nodes = append(shared.nodes, op("out", "Identity", nil, last))
	for name, model := range map[string]testModel{"names": long, "copies of a weight": shared} {
		t.Run(name, func(t *testing.T) {
			dir := model.save(t)
			mg, err := readMetaGraphDef(dir, []string{"serve"})
			must(t, err)
			m, err := loadFrozen(t.Context(), dir, mg, Options{})
			if m != nil {
				must(t, m.Close())
			}
			if !errors.Is(err, errNotOptimized) || !strings.Contains(err.Error(), "more than 256 MiB besides its files") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A lapse is a context that ends after a number of calls of Err.
type lapse struct{ left *atomic.Int64 }

func (lapse) Deadline() (time.Time, bool) { return time.Time{}, false }
func (lapse) Done() <-chan struct{}       { return nil }
func (lapse) Value(any) any               { return nil }

func (l lapse) Err() error {
	if l.left.Add(-1) < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// A load ends when its ctx does, at any step.
func TestLoadEnds(t *testing.T) {
	openLibrary(t)
	large := testModel{
		variables: map[string]testVariable{"w": filter(1, 2*readPart/4), "v": vector(4, 2)},
		nodes: []*tfpb.NodeDef{
			input(1), readOf("w"), intConst("axis"), op("all", "Sum", attrs{"Tidx": typeAttr(dtInt)}, "w/read", "axis"),
			op("out", "AddV2", nil, "in", "all"),
		},
	}.save(t)
	for _, o := range []Options{{Optimize: true}, {}} {
		for _, dir := range []string{nestedModel().save(t), large} {
			for n, loaded := int64(0), false; !loaded; n++ {
				ctx := lapse{new(atomic.Int64)}
				ctx.left.Store(n)
				m, err := Load(ctx, dir, o)
				if loaded = err == nil; loaded {
					must(t, m.Close())
					if n < 4 {
						t.Errorf("optimize %v: ctx was looked at %d times", o.Optimize, n)
					}
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("optimize %v, after %d looks: %v", o.Optimize, n, err)
				}
			}
		}
	}
}

// A load's memory is bounded by the size of its files.
func TestLoadMemory(t *testing.T) {
	openLibrary(t)
	const channels = 4096 // so the filter has 64 MiB
	const files = 4 * channels * channels
	dir := testModel{
		variables: map[string]testVariable{
			"w": filter(1, 1, 1, channels, channels), "mean": vector(channels, 2), "variance": vector(channels, 3), "beta": vector(channels, 4),
		},
		nodes: slices.Concat(
			[]*tfpb.NodeDef{input(1, 2, 2, channels), readOf("w"), op("conv", "Conv2D", window(nil), "in", "w/read")},
			normalized("", "conv"), []*tfpb.NodeDef{op("out", "Relu", nil, "bn")},
		),
	}.save(t)
	in := tensorOf(t, Float32, some(2*2*channels, 1), 1, 2, 2, channels)
	for _, optimize := range []bool{true, false} {
		before, most := resident(t), 0
		done := make(chan struct{})
		var (
			m   *Model
			err error
		)
		go func() {
			defer close(done)
			m, err = Load(t.Context(), dir, Options{Optimize: optimize})
		}()
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			case <-time.After(time.Millisecond):
			}
			most = max(most, residentNow(t))
		}
		must(t, err)
		answer(t, m, in)
		most = max(most, residentNow(t)) - before
		must(t, m.Close())
		t.Logf("optimize %v: %d MiB for files of %d MiB", optimize, most>>20, files>>20)
		if most > 3*files+maxLoadBytes {
			t.Errorf("optimize %v: it takes %d MiB, its files have %d", optimize, most>>20, files>>20)
		}
	}
}
