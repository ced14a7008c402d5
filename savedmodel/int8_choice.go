package savedmodel

import (
	"inceptor/savedmodel/tfpb"
	"math"
	"slices"
)

// A quantization is the part of a graph that runs in int8. It begins behind the first
// convolutions: they have few channels, and the pixels' precision matters.
type quantization struct {
	*frozenGraph

	channels map[string]int64    // of float tensors; absent: unknown
	kinds    map[string]string   // Relu or Relu6, of tensors that are never negative
	pooled   map[string][]string // what such a tensor pools or concatenates; absent: it does not
	same     map[string]string   // leads to a tensor of the same range; absent: the tensor itself
	ranges   map[string]float32  // by the tensor at the end of same; 0: unknown

	feeds  map[string]bool // nodes whose results convolutions take, maybe pooled or concatenated
	behind map[string]bool // nodes behind a convolution
	chosen map[string]bool // nodes that give quint8
	signed map[string]bool // convolutions that give qint8, which is converted back at once
	layers []string        // results whose ranges are needed, in the order of the graph
	listed map[string]bool // in layers

	results map[string]*int8Node // by the node in float32
}

// newQuantization chooses what to compute in int8 with these ranges. If they are nil, it chooses
// all that can be computed so.
func newQuantization(g *frozenGraph, ranges Ranges) *quantization {
	q := &quantization{
		frozenGraph: g, channels: make(map[string]int64), kinds: make(map[string]string), pooled: make(map[string][]string),
		same: make(map[string]string), ranges: make(map[string]float32), feeds: make(map[string]bool), behind: make(map[string]bool),
		chosen: make(map[string]bool), signed: make(map[string]bool), listed: make(map[string]bool), results: make(map[string]*int8Node),
	}
	order := g.sorted()
	for _, name := range slices.Backward(order) {
		q.findUse(g.nodes[name])
	}
	for _, name := range order {
		q.describe(g.nodes[name])
	}
	for _, name := range order {
		if _, ok := q.channels[name]; ok && q.pooled[name] == nil {
			q.setRange(name, ranges)
		}
	}
	for _, name := range order {
		q.choose(g.nodes[name])
	}
	return q
}

// setRange gives a tensor, and those of the same range, at least the range of this layer.
func (q *quantization) setRange(layer string, ranges Ranges) {
	root := q.root(layer)
	v, ok := ranges[layer]
	switch {
	case ranges == nil:
		q.ranges[root] = 1
	case !ok || !(v >= 0) || math.IsInf(float64(v), 0):
		q.ranges[root] = float32(math.NaN())
	default: // NaN stays
		q.ranges[root] = max(q.ranges[root], v)
	}
}

// rangeOf returns the range of a tensor; 0: it is unknown, or nothing but 0 was seen.
func (q *quantization) rangeOf(tensor string) float32 {
	v := q.ranges[q.root(tensor)]
	switch {
	case v != v:
		return 0
	case q.kinds[tensor] == "Relu6": // the end of the range cuts off what is higher
		return min(v, 6)
	}
	return v
}

// findUse notes whether a convolution takes the inputs of a node, before them.
func (q *quantization) findUse(n *tfpb.NodeDef) {
	if isConv(n) && len(n.GetInput()) > 0 {
		q.feeds[n.GetInput()[0]] = true
	} else if q.feeds[n.GetName()] {
		for _, in := range narrowInputs(n) {
			q.feeds[in] = true
		}
	}
}

// describe notes the channels, the kind and the range's group of a node's result, after its inputs.
func (q *quantization) describe(n *tfpb.NodeDef) {
	name, inputs := n.GetName(), n.GetInput()
	q.behind[name] = isConv(n) || q.isBehind(n)
	if !isFloat32(n) || q.inControlFlow[name] || q.fed[name] || len(inputs) == 0 {
		return
	}
	channels, kind := int64(0), ""
	switch op := n.GetOp(); {
	case q.filterOf(n) != nil:
		channels, kind = q.filterOf(n)[3], fusedRelu(n)
	case op == "Relu" || op == "Relu6":
		channels, kind = q.channels[inputs[0]], op
	case (op == "Add" || op == "AddV2") && len(inputs) == 2 && q.channels[inputs[0]] == q.channels[inputs[1]]:
		channels = q.channels[inputs[0]]
	case op == "BiasAdd" && len(inputs) == 2 && inNHWC(n):
		if shape := q.constantShape(inputs[1]); len(shape) == 1 {
			channels = shape[0]
		}
	default:
		channels, kind = q.describePool(n)
	}
	if channels > 0 {
		q.channels[name] = channels
		if kind != "" {
			q.kinds[name] = kind
		}
	}
}

// isBehind says whether a node depends on a convolution.
func (q *quantization) isBehind(n *tfpb.NodeDef) bool {
	return slices.ContainsFunc(n.GetInput(), func(in string) bool { return q.behind[nodeOf(in)] })
}

func isConv(n *tfpb.NodeDef) bool { return n.GetOp() == fusedConv || n.GetOp() == oneDNNConv }

func inNHWC(n *tfpb.NodeDef) bool {
	format := string(n.GetAttr()["data_format"].GetS())
	return format == "" || format == "NHWC"
}

// filterOf returns the shape of the filter, of 4 dimensions, if a node is a convolution as fuse
// makes them; else nil. A model's file may hold fused convolutions with any attributes.
func (q *quantization) filterOf(n *tfpb.NodeDef) Shape {
	if !isConv(n) || !q.fusedHere(n) || !inNHWC(n) {
		return nil
	}
	_, w := q.weightOf(n.GetInput()[1])
	words := n.GetAttr()["fused_ops"].GetList().GetS()
	switch padding := string(n.GetAttr()["padding"].GetS()); {
	case len(w.entry.shape) != 4, padding != "SAME" && padding != "VALID", len(words) < 1 || len(words) > 2, string(words[0]) != "BiasAdd":
		return nil
	case len(words) == 2 && string(words[1]) != "Relu" && string(words[1]) != "Relu6":
		return nil
	}
	return w.entry.shape
}

// fusedRelu returns the Relu or Relu6 that is fused with a convolution; empty: none is.
func fusedRelu(n *tfpb.NodeDef) string {
	if words := n.GetAttr()["fused_ops"].GetList().GetS(); len(words) == 2 {
		return string(words[1])
	}
	return ""
}

// describePool is describe for a node that pools or concatenates tensors of one kind. Its range is
// theirs.
func (q *quantization) describePool(n *tfpb.NodeDef) (channels int64, kind string) {
	data := narrowInputs(n)
	if len(data) == 0 || n.GetOp() == "ConcatV2" && !q.joinsChannels(n) {
		return 0, ""
	}
	kind = q.kinds[data[0]]
	for _, in := range data {
		if q.kinds[in] != kind || kind == "" {
			return 0, ""
		}
		channels += q.channels[in]
	}
	if !q.feeds[n.GetName()] { // in float32 each input keeps a range of its own, and so more precision
		return channels, kind
	}
	q.pooled[n.GetName()] = data
	for _, in := range data {
		q.join(in, n.GetName())
	}
	return channels, kind
}

// choose decides whether to compute a node in int8, after its inputs.
func (q *quantization) choose(n *tfpb.NodeDef) {
	name := n.GetName()
	if data := q.pooled[name]; data != nil {
		if !slices.ContainsFunc(data, func(in string) bool { return !q.chosen[in] }) {
			q.chosen[name] = true
		}
		return
	}
	filter := q.filterOf(n)
	if filter == nil || q.channels[name] == 0 || !q.isBehind(n) {
		return
	}
	input := n.GetInput()[0]
	switch {
	case q.kinds[input] == "", q.channels[input] != filter[2], !slices.Equal(q.constantShape(n.GetInput()[2]), filter[3:]):
		return
	case q.rangeOf(input) == 0 || q.rangeOf(name) == 0:
		return
	}
	q.needs(input)
	q.needs(name)
	if q.kinds[name] == "" {
		q.signed[name] = true
	} else {
		q.chosen[name] = true
	}
}

// needs lists the layers that a tensor's range comes from.
func (q *quantization) needs(tensor string) {
	if q.listed[tensor] {
		return
	}
	q.listed[tensor] = true
	if q.pooled[tensor] == nil {
		q.layers = append(q.layers, tensor)
	}
	for _, in := range q.pooled[tensor] {
		q.needs(in)
	}
}

// joinsChannels says whether a ConcatV2 joins the last of four dimensions.
func (q *quantization) joinsChannels(n *tfpb.NodeDef) bool {
	inputs, count := n.GetInput(), int(n.GetAttr()["N"].GetI())
	if len(inputs) <= count {
		return false
	}
	axis := q.nodes[q.source(inputs[count])]
	if axis.GetOp() != "Const" || q.fed[axis.GetName()] {
		return false
	}
	t, err := TensorOf(axis.GetAttr()["value"].GetTensor())
	if err != nil {
		return false
	}
	defer t.Close()
	if t.DType() != Int32 || len(t.Bytes()) != 4 {
		return false
	}
	at := int32(order.Uint32(t.Bytes()))
	return at == 3 || at == -1
}

// root returns the tensor that stands for all that share the range of this one.
func (q *quantization) root(tensor string) string {
	for q.same[tensor] != "" {
		tensor = q.same[tensor]
	}
	return tensor
}

func (q *quantization) join(a, b string) {
	if a, b = q.root(a), q.root(b); a != b {
		q.same[a] = b
	}
}

// constantShape returns the shape of a constant or weight of float32; nil: it is neither.
func (q *quantization) constantShape(tensor string) Shape {
	if _, w := q.weightOf(tensor); w != nil && w.entry.dtype == Float32 {
		return w.entry.shape
	}
	n := q.nodes[q.source(tensor)]
	if n.GetOp() != "Const" || q.fed[n.GetName()] || q.inControlFlow[n.GetName()] || DataType(n.GetAttr()["dtype"].GetType()) != Float32 {
		return nil
	}
	return shapeOf(n.GetAttr()["value"].GetTensor().GetTensorShape())
}
