package savedmodel

import (
	"encoding/binary"
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

const (
	maxConstant     = 1 << 16 // elements of a tensor that is computed at load
	maxConstantRank = 8
)

// A constant is a float32 tensor of at least one element whose value is known, and finite as
// float32; it is computed in float64, so that folding adds no error of its own.
type constant struct {
	shape Shape
	data  []float64
}

// at is the value for a channel.
func (c *constant) at(channel int) float64 { return c.data[channel%len(c.data)] }

// perChannel tells whether the tensor, broadcast, gives each channel, the
// last dimension, one value.
func (c *constant) perChannel(channels int) bool {
	if len(c.data) != 1 && len(c.data) != channels {
		return false
	}
	return len(c.data) == 1 || c.shape[len(c.shape)-1] == int64(channels)
}

// constants computes tensors of a graph that depend on nothing but weights
// and constants.
type constants struct {
	g     *frozenGraph
	known map[string]*constant // by node; nil: not constant, not finite, or too large
}

// value is a tensor's value, nil if it is not known. An error is one about reading the
// checkpoint, or about what a load may take.
func (c *constants) value(tensor string) (*constant, error) {
	if v, ok := c.known[tensor]; ok {
		return v, nil
	}
	c.known[tensor] = nil
	n, ok := c.g.nodes[tensor] // so it is output 0
	if !ok || c.g.fed[tensor] {
		return nil, nil
	}
	v, err := c.compute(n)
	if err != nil || v == nil {
		return nil, err
	}
	if err := c.g.work.take(int64(elementCost * len(v.data))); err != nil {
		return nil, err
	}
	// Of no elements, a run has nothing to compute either. What is not finite is computed in each
	// run, as the model says, so that nothing is made of it here.
	if len(v.data) == 0 || !finite(v.data) {
		return nil, nil
	}
	c.known[tensor] = v
	return v, nil
}

// finite tells whether all values are finite as float32.
func finite(values []float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool {
		return math.IsNaN(v) || math.IsInf(float64(float32(v)), 0)
	})
}

func (c *constants) compute(n *tfpb.NodeDef) (*constant, error) {
	switch n.GetOp() {
	case "PlaceholderWithDefault": // that no signature feeds
		if len(n.GetInput()) != 1 {
			return nil, nil
		}
		return c.value(n.GetInput()[0])
	case "ReadVariableOp":
		_, w := c.g.weightOf(n.GetName())
		return c.read(w)
	case "Reshape":
		return c.reshape(n)
	case "Const":
		if c.g.flow[n.GetName()] {
			return nil, nil // it belongs to a loop, or may be dead
		}
		return floatsOf(n.GetAttr()["value"].GetTensor()), nil
	}
	arity, one, two := 1, unary[n.GetOp()], binaryOps[n.GetOp()]
	if two != nil {
		arity = 2
	}
	if one == nil && two == nil || len(n.GetInput()) != arity {
		return nil, nil
	}
	var args [2]*constant
	for i, in := range n.GetInput() {
		var err error
		if args[i], err = c.value(in); args[i] == nil {
			return nil, err
		}
	}
	if one != nil {
		v := &constant{args[0].shape, make([]float64, len(args[0].data))}
		for i, x := range args[0].data {
			v.data[i] = one(x)
		}
		return v, nil
	}
	a, b := args[0], args[1]
	large := a
	if len(b.data) > len(a.data) || len(b.data) == len(a.data) && len(b.shape) > len(a.shape) {
		large = b
	}
	// One number with many, or number by number: nothing else is needed.
	if len(a.data) != 1 && len(b.data) != 1 && !slices.Equal(a.shape, b.shape) || len(a.shape) > len(large.shape) || len(b.shape) > len(large.shape) {
		return nil, nil
	}
	v := &constant{large.shape, make([]float64, len(large.data))}
	for i := range v.data {
		v.data[i] = two(a.at(i), b.at(i))
	}
	return v, nil
}

// reshape gives the values of the first input the shape that the second is.
func (c *constants) reshape(n *tfpb.NodeDef) (*constant, error) {
	if len(n.GetInput()) != 2 {
		return nil, nil
	}
	to := c.g.nodes[n.GetInput()[1]]
	if c.g.fed[to.GetName()] {
		return nil, nil
	}
	p := to.GetAttr()["value"].GetTensor()
	dims := shapeOf(p.GetTensorShape())
	if to.GetOp() != "Const" || c.g.flow[to.GetName()] || DataType(p.GetDtype()) != Int32 || len(dims) != 1 ||
		dims[0] < 0 || dims[0] > maxConstantRank {
		return nil, nil
	}
	shape := make(Shape, dims[0])
	open, known := -1, int64(1)
	for i := range shape {
		switch b := p.GetTensorContent(); {
		case len(b) == 4*len(shape):
			shape[i] = int64(int32(binary.LittleEndian.Uint32(b[4*i:])))
		case len(b) == 0 && len(p.GetIntVal()) > 0:
			shape[i] = int64(p.GetIntVal()[min(i, len(p.GetIntVal())-1)])
		}
		switch {
		case shape[i] == -1 && open < 0:
			open = i
		case shape[i] < 1 || shape[i] > maxConstant/known:
			return nil, nil
		default:
			known *= shape[i]
		}
	}
	v, err := c.value(n.GetInput()[0])
	if v == nil {
		return nil, err
	}
	if open >= 0 {
		shape[open] = int64(len(v.data)) / known
		known *= shape[open]
	}
	if known != int64(len(v.data)) {
		return nil, nil
	}
	return &constant{shape, v.data}, nil
}

var unary = map[string]func(float64) float64{
	"Identity": func(x float64) float64 { return x },
	"Rsqrt":    func(x float64) float64 { return 1 / math.Sqrt(x) },
	"Sqrt":     math.Sqrt,
	"Neg":      func(x float64) float64 { return -x },
}

var binaryOps = map[string]func(a, b float64) float64{
	"Add":     func(a, b float64) float64 { return a + b },
	"AddV2":   func(a, b float64) float64 { return a + b },
	"Sub":     func(a, b float64) float64 { return a - b },
	"Mul":     func(a, b float64) float64 { return a * b },
	"RealDiv": func(a, b float64) float64 { return a / b },
}

func (c *constants) read(w *weight) (*constant, error) {
	if w == nil || w.scale != nil || w.entry.dtype != Float32 || w.entry.size > 4*maxConstant {
		return nil, nil
	}
	b := make([]byte, w.entry.size)
	if err := w.read(c.g.values, b); err != nil {
		return nil, err
	}
	return &constant{w.entry.shape, floats(b)}, nil
}

func floats(b []byte) []float64 {
	values := make([]float64, len(b)/4)
	for i := range values {
		values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return values
}

// floatsOf is the value of a message, nil if it is not of float32 or large.
func floatsOf(p *tfpb.TensorProto) *constant {
	shape := shapeOf(p.GetTensorShape())
	n, ok := shape.Elements()
	if DataType(p.GetDtype()) != Float32 || !ok || n < 1 || n > maxConstant {
		return nil
	}
	content := p.GetTensorContent()
	if len(content) == 0 {
		var err error
		if content, err = filledBytes(p, n); err != nil {
			return nil
		}
	}
	if int64(len(content)) != 4*n {
		return nil
	}
	return &constant{shape, floats(content)}
}

// floatConst is a constant.
func floatConst(name string, shape Shape, values []float32) *tfpb.NodeDef {
	content := make([]byte, 0, 4*len(values))
	for _, v := range values {
		content = binary.LittleEndian.AppendUint32(content, math.Float32bits(v))
	}
	return &tfpb.NodeDef{Name: name, Op: "Const", Attr: map[string]*tfpb.AttrValue{
		"dtype": typeAttr(tfpb.DataType_DT_FLOAT),
		"value": tensorAttr(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shapeMessage(shape), TensorContent: content}),
	}}
}

// settle puts values in the place of operations whose results are known, so
// that no run computes them again.
func (c *constants) settle() error {
	for _, name := range c.g.order {
		n := c.g.nodes[name]
		if n.GetOp() != "Reshape" && unary[n.GetOp()] == nil && binaryOps[n.GetOp()] == nil {
			continue
		}
		v, err := c.value(name)
		if err != nil {
			return err
		}
		if v != nil {
			c.g.nodes[name] = floatConst(name, v.shape, narrow(v.data))
		}
	}
	return nil
}
