package savedmodel

import (
	"encoding/binary"
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

const (
	maxPixelSteps = 1000 // operations that are followed, and that are computed within one another
	maxChannels   = 64
)

// pixels finds the Pixels of an input: it follows the pixels as long as each operation is one that
// is known, and they go to one only. What a Cast to integers cuts off is not regarded.
func (w *graphWalk) pixels(start tensorRef) (*Affine, error) {
	var outputs []string
	for _, info := range w.sig.Outputs {
		outputs = append(outputs, info.Name)
	}
	w.top.body.needed = w.top.body.needs(outputs)
	var (
		a      = Affine{Scale: []float64{1}, Offset: []float64{0}}
		known  = false
		moved  = false // the channels may no longer be the last dimension
		f, cur = w.top, start
	)
	for range maxPixelSteps {
		f2, u, err := w.onlyUse(f, cur)
		if err != nil || u.node == nil {
			break
		}
		f = f2
		n := u.node
		cur = tensorRef{n.name, 0}
		switch n.op {
		case "Identity", "Snapshot", "StopGradient", "PreventGradient", "CheckNumerics", "PlaceholderWithDefault", "EnsureShape", "Cast",
			"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea", "ScaleAndTranslate", "CropAndResize":
			if u.slot == 0 {
				continue
			}
		case "Reshape", "ExpandDims", "Squeeze", "Transpose":
			if moved = true; u.slot == 0 {
				continue
			}
		case "PartitionedCall", "StatefulPartitionedCall":
			inner, err := w.enter(f, n, w.g.callees(n)[0])
			if err != nil {
				return nil, err
			}
			if inner != nil {
				f, cur = inner, tensorRef{"", u.slot}
				continue
			}
		default:
			next, err := w.apply(f, u, a, moved)
			if err != nil {
				return nil, err
			}
			if next != nil {
				a, known = *next, true
				continue
			}
		}
		break
	}
	if !known {
		return nil, nil
	}
	return &a, nil
}

// onlyUse is the one input that a tensor goes to, in its frame or, where it is a result, in the
// caller's; its node is nil if there is none, or more than one.
func (w *graphWalk) onlyUse(f *frame, t tensorRef) (*frame, use, error) {
	for {
		if f.body.needed == nil {
			f.body.needed = f.body.needs(f.body.results)
		}
		var only use
		for _, u := range f.body.usesOf(t) {
			if err := w.step(); err != nil {
				return nil, use{}, err
			}
			if !f.body.needed[u.node.name] || measures[u.node.op] {
				continue
			}
			if only.node != nil {
				return nil, use{}, nil
			}
			only = u
		}
		results := f.body.returnsOf(t)
		switch {
		case len(results) == 0:
			return f, only, nil
		case len(results) > 1 || only.node != nil || !isPlainCall(f.call.op):
			return nil, use{}, nil
		}
		f, t = f.caller, tensorRef{f.call.name, results[0]}
	}
}

func isPlainCall(op string) bool { return op == "PartitionedCall" || op == "StatefulPartitionedCall" }

// measures are operations that look at a tensor's shape alone.
var measures = map[string]bool{"Shape": true, "ShapeN": true, "Rank": true, "Size": true}

// apply is what an operation makes of a; nil: it is not affine, or not known.
func (w *graphWalk) apply(f *frame, u use, a Affine, moved bool) (*Affine, error) {
	n := u.node
	if len(n.inputs) == 1 && n.op == "Neg" {
		return a.times([]float64{-1}), nil
	}
	if len(n.inputs) != 2 {
		return nil, nil
	}
	c, err := w.number(f, f.body.ref(n.inputs[1-u.slot]), 0)
	if err != nil || c == nil || moved && len(c) > 1 || !a.suits(c) {
		return nil, err
	}
	first := u.slot == 0
	switch {
	case n.op == "Mul":
		return a.times(c), nil
	case (n.op == "RealDiv" || n.op == "Div") && first:
		return a.times(each(c, func(x float64) float64 { return 1 / x })), nil
	case n.op == "Add", n.op == "AddV2", n.op == "BiasAdd" && first && string(n.attr["data_format"].GetS()) != "NCHW":
		return a.plus(c), nil
	case n.op == "Sub" && first:
		return a.plus(each(c, func(x float64) float64 { return -x })), nil
	case n.op == "Sub":
		return a.times([]float64{-1}).plus(c), nil
	}
	return nil, nil
}

func (a Affine) suits(c []float64) bool {
	return len(c) == 1 || (len(a.Scale) == 1 || len(a.Scale) == len(c)) && (len(a.Offset) == 1 || len(a.Offset) == len(c))
}

func (a Affine) times(c []float64) *Affine {
	mul := func(x, y float64) float64 { return x * y }
	return &Affine{both(a.Scale, c, mul), both(a.Offset, c, mul)}
}

func (a Affine) plus(c []float64) *Affine {
	return &Affine{a.Scale, both(a.Offset, c, func(x, y float64) float64 { return x + y })}
}

// both computes f of two lists, of which one may have one element, for all channels.
func both(a, b []float64, f func(x, y float64) float64) []float64 {
	v := make([]float64, max(len(a), len(b)))
	for i := range v {
		v[i] = f(a[i%len(a)], b[i%len(b)])
	}
	return v
}

func each(a []float64, f func(float64) float64) []float64 {
	v := make([]float64, len(a))
	for i, x := range a {
		v[i] = f(x)
	}
	return v
}

// number is the value of a tensor that depends on constants alone: one element, or one for each
// channel. nil: it is not known, or not of such a shape.
func (w *graphWalk) number(f *frame, t tensorRef, depth int) ([]float64, error) {
	if err := w.step(); err != nil {
		return nil, err
	}
	if p := w.constOf(f, t); p != nil {
		return channelNumbers(p), nil
	}
	for t.node == "" {
		if f, t = w.argument(f, t.index); f == nil {
			return nil, nil
		}
	}
	n := f.body.nodes[t.node]
	if n == nil || w.fed(f, n) || t.index > 0 || depth == maxCallDepth {
		return nil, nil
	}
	one, two := unaryNumbers[n.op], binaryNumbers[n.op]
	switch {
	case one != nil && len(n.inputs) >= 1:
		v, err := w.number(f, f.body.ref(n.inputs[0]), depth+1)
		if v == nil || err != nil {
			return nil, err
		}
		if len(v) > 1 && n.op == "Reshape" && !w.keepsLast(f, n, len(v)) {
			return nil, nil
		}
		return each(v, one), nil
	case two != nil && len(n.inputs) == 2:
		a, err := w.number(f, f.body.ref(n.inputs[0]), depth+1)
		if a == nil || err != nil {
			return nil, err
		}
		b, err := w.number(f, f.body.ref(n.inputs[1]), depth+1)
		if b == nil || err != nil || len(a) > 1 && len(b) > 1 && len(a) != len(b) {
			return nil, err
		}
		return both(a, b, two), nil
	}
	return nil, nil
}

// keepsLast tells whether a Reshape leaves all elements in the last dimension.
func (w *graphWalk) keepsLast(f *frame, n *graphNode, elements int) bool {
	if len(n.inputs) != 2 {
		return false
	}
	shape := channelNumbers(w.constOf(f, f.body.ref(n.inputs[1])))
	if len(shape) == 0 {
		return false
	}
	last := shape[len(shape)-1]
	return (last == float64(elements) || last == -1) &&
		!slices.ContainsFunc(shape[:len(shape)-1], func(d float64) bool { return d != 1 })
}

func unchanged(x float64) float64 { return x }

var (
	unaryNumbers = map[string]func(float64) float64{
		"Identity": unchanged, "Cast": unchanged, "Reshape": unchanged,
		"Sqrt": math.Sqrt, "Rsqrt": func(x float64) float64 { return 1 / math.Sqrt(x) },
		"Neg": func(x float64) float64 { return -x }, "Reciprocal": func(x float64) float64 { return 1 / x },
	}
	binaryNumbers = map[string]func(a, b float64) float64{
		"Add":     func(a, b float64) float64 { return a + b },
		"AddV2":   func(a, b float64) float64 { return a + b },
		"Sub":     func(a, b float64) float64 { return a - b },
		"Mul":     func(a, b float64) float64 { return a * b },
		"RealDiv": func(a, b float64) float64 { return a / b },
		"Div":     func(a, b float64) float64 { return a / b },
		"Maximum": math.Max,
		"Minimum": math.Min,
	}
)

// channelNumbers are the elements of a constant that has one, or that has all in its last
// dimension; otherwise nil.
func channelNumbers(p *tfpb.TensorProto) []float64 {
	shape := shapeOf(p.GetTensorShape())
	n, ok := shape.Elements()
	if p == nil || !ok || n < 1 || n > maxChannels || n > 1 && shape[len(shape)-1] != n {
		return nil
	}
	dtype := DataType(p.GetDtype())
	size := dtype.Size()
	if b := p.GetTensorContent(); size > 0 && int64(len(b)) == n*int64(size) {
		v := make([]float64, n)
		for i := range v {
			if v[i], ok = numberIn(dtype, b[i*size:]); !ok {
				return nil
			}
		}
		return v
	}
	v, err := filled(listedNumbers(p), n, 8)
	if err != nil {
		return nil
	}
	return v
}

// numberIn reads a number as it lies in memory.
func numberIn(t DataType, b []byte) (float64, bool) {
	switch t {
	case Float32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), true
	case Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), true
	case BFloat16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)), true
	case Float16:
		return halfFloat(binary.LittleEndian.Uint16(b)), true
	case Int32:
		return float64(int32(binary.LittleEndian.Uint32(b))), true
	case Int64:
		return float64(int64(binary.LittleEndian.Uint64(b))), true
	case UInt8:
		return float64(b[0]), true
	}
	return 0, false
}

// listedNumbers are the numbers in the field for a message's type.
func listedNumbers(p *tfpb.TensorProto) []float64 {
	switch DataType(p.GetDtype()) {
	case Float32:
		return floats64(p.GetFloatVal())
	case Float64:
		return p.GetDoubleVal()
	case Int32, UInt8:
		return floats64(p.GetIntVal())
	case Int64:
		return floats64(p.GetInt64Val())
	case BFloat16:
		return each(floats64(p.GetHalfVal()), func(x float64) float64 { return float64(math.Float32frombits(uint32(x) << 16)) })
	case Float16:
		return each(floats64(p.GetHalfVal()), func(x float64) float64 { return halfFloat(uint16(x)) })
	}
	return nil
}

func floats64[T float32 | int32 | int64](values []T) []float64 {
	v := make([]float64, len(values))
	for i, x := range values {
		v[i] = float64(x)
	}
	return v
}

// halfFloat is the number that a float16 is.
func halfFloat(b uint16) float64 {
	sign, exponent, fraction := 1.0, int(b>>10&31), float64(b&1023)
	if b>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(fraction+1024, exponent-25)
}
