package savedmodel

import (
	"encoding/binary"
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

const (
	maxConstant     = 1 << 16 // elements of a tensor computed at load
	maxConstantRank = 8
)

// A constant is the known value of a float32 tensor, with at least one element. It is computed in
// float64, so that folding adds no rounding of its own, and is finite as float32.
type constant struct {
	shape Shape
	data  []float64
}

// at returns the value for a channel.
func (c *constant) at(channel int) float64 { return c.data[channel%len(c.data)] }

// perChannel says whether the tensor, when broadcast, has one value for each channel. The channels
// are the last dimension.
func (c *constant) perChannel(channels int) bool {
	if len(c.data) != 1 && len(c.data) != channels {
		return false
	}
	return len(c.data) == 1 || c.shape[len(c.shape)-1] == int64(channels)
}

// constants computes a graph's tensors that depend only on weights and constants.
type constants struct {
	g     *frozenGraph
	known map[string]*constant // by node; nil if not constant, not finite or too large
}

// value returns a tensor's value, or nil if it is unknown. It returns an error if reading the
// checkpoint fails or the load's budget is spent.
func (c *constants) value(tensor string) (*constant, error) {
	if v, ok := c.known[tensor]; ok {
		return v, nil
	}
	c.known[tensor] = nil
	n, ok := c.g.nodes[tensor] // found only if the tensor is output 0
	if !ok || c.g.fed[tensor] {
		return nil, nil
	}
	v, err := c.compute(n)
	if err != nil || v == nil {
		return nil, err
	}
	if err := c.g.budget.charge(int64(elementCost * len(v.data))); err != nil {
		return nil, err
	}
	// An empty tensor costs a run nothing. A tensor that is not finite is left to each run, which
	// computes it as the model says.
	if len(v.data) == 0 || !finite(v.data) {
		return nil, nil
	}
	c.known[tensor] = v
	return v, nil
}

// finite says whether all values are finite as float32.
func finite(values []float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool {
		return math.IsNaN(v) || math.IsInf(float64(float32(v)), 0)
	})
}

func (c *constants) compute(n *tfpb.NodeDef) (*constant, error) {
	switch n.GetOp() {
	case "PlaceholderWithDefault": // no signature feeds it, or value would have returned
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
		if c.g.inControlFlow[n.GetName()] {
			return nil, nil // it may differ from turn to turn of a loop, or not be computed
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
	// Support a scalar with a tensor, and tensors of the same shape. Batch normalization needs no
	// other broadcasting.
	if len(a.data) != 1 && len(b.data) != 1 && !slices.Equal(a.shape, b.shape) || len(a.shape) > len(large.shape) || len(b.shape) > len(large.shape) {
		return nil, nil
	}
	v := &constant{large.shape, make([]float64, len(large.data))}
	for i := range v.data {
		v.data[i] = two(a.at(i), b.at(i))
	}
	return v, nil
}

// reshape returns the first input's values in the shape that the second input holds.
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
	if to.GetOp() != "Const" || c.g.inControlFlow[to.GetName()] || DataType(p.GetDtype()) != Int32 || len(dims) != 1 ||
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

// floatsOf returns a message's value. It returns nil if that is not of float32, or is large.
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

// floatConst returns a Const node.
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

// replaceComputed replaces operations with known results by constants, so that no run computes them
// again.
func (c *constants) replaceComputed() error {
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
			c.g.nodes[name] = floatConst(name, v.shape, toFloat32s(v.data))
		}
	}
	return nil
}
