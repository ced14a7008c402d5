package savedmodel

import (
	"encoding/binary"
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

// maxChannels bounds the elements of a constant with a number for each channel.
const maxChannels = 64

// number returns the value of a tensor that depends on constants alone: one element, or one for
// each channel. It returns nil if the value is unknown or has another shape.
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
		if len(v) > 1 && (n.op == "ExpandDims" || n.op == "Reshape" && !w.keepsLast(f, n, len(v))) {
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

// keepsLast says whether a Reshape leaves all elements in the last dimension.
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
		"Identity": unchanged, "Cast": unchanged, "Reshape": unchanged, "ExpandDims": unchanged, "Squeeze": unchanged,
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

// channelNumbers returns the elements of a constant, if it has one or has all in its last
// dimension. Otherwise it returns nil.
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

// numberIn reads a little endian number.
func numberIn(t DataType, b []byte) (float64, bool) {
	switch t {
	case Float32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), true
	case Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), true
	case BFloat16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)), true
	case Float16:
		return float64(float16(binary.LittleEndian.Uint16(b))), true
	case Int32:
		return float64(int32(binary.LittleEndian.Uint32(b))), true
	case Int64:
		return float64(int64(binary.LittleEndian.Uint64(b))), true
	case UInt8:
		return float64(b[0]), true
	}
	return 0, false
}

// listedNumbers returns the numbers in the field for a message's type.
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
		return each(floats64(p.GetHalfVal()), func(x float64) float64 { return float64(float16(uint16(x))) })
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
