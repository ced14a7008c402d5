package savedmodel

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// linear are the operations that a batch normalization can be folded into. Their second input is a
// filter, whose last dimensions are the channels. The value is the number of those dimensions.
var linear = map[string]int{"Conv2D": 1, "DepthwiseConv2dNative": 2, "MatMul": 1}

// fold replaces operations that only scale and shift the channels of a convolution's result, such
// as batch normalization, by a scaled filter and one BiasAdd.
func (g *frozenGraph) fold() error {
	f := folding{
		frozenGraph: g, constants: &constants{g: g, known: make(map[string]*constant)},
		usedBy: g.users(), copies: make(map[string]string),
	}
	for _, name := range slices.Clone(g.order) {
		n := g.nodes[name]
		if linear[n.GetOp()] == 0 || len(n.GetInput()) < 2 {
			continue
		}
		if err := f.foldInto(n); err != nil {
			return err
		}
	}
	if err := f.constants.replaceComputed(); err != nil {
		return err
	}
	g.prune(g.roots)
	return nil
}

// A folding folds operations into the convolutions before them.
type folding struct {
	*frozenGraph
	constants *constants
	usedBy    map[string][]string // users of each node, before folding
	copies    map[string]string   // nodes that read a scaled weight, by scaledKey
}

// users lists the nodes that use a node's outputs, once for each use.
func (g *flatGraph) users() map[string][]string {
	users := make(map[string][]string)
	for _, name := range g.order {
		for _, in := range g.nodes[name].GetInput() {
			users[nodeOf(in)] = append(users[nodeOf(in)], name)
		}
	}
	return users
}

// foldInto folds the operations after n into it.
func (f *folding) foldInto(n *tfpb.NodeDef) error {
	handle, w := f.weightOf(n.GetInput()[1])
	format := string(n.GetAttr()["data_format"].GetS())
	if w == nil || w.entry.dtype != Float32 || w.scale != nil || len(w.entry.shape) < linear[n.GetOp()] ||
		n.GetAttr()["transpose_b"].GetB() || format != "" && format != "NHWC" {
		return nil
	}
	channels, ok := w.entry.shape[len(w.entry.shape)-linear[n.GetOp()]:].Elements()
	if !ok || channels < 1 || channels > maxConstant {
		return nil
	}
	tail := affine{rank: 4, channels: int(channels), scale: slices.Repeat([]float64{1}, int(channels)), shift: make([]float64, channels)}
	if n.GetOp() == "MatMul" {
		tail.rank = 2
	}
	last := n.GetName()
	for len(f.usedBy[last]) == 1 && !slices.Contains(f.roots, last) {
		next := f.nodes[f.usedBy[last][0]]
		if !f.onlyFirst(next.GetName()) {
			break
		}
		before := tail.clone()
		ok, err := tail.absorb(next, last, f.constants)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !finite(tail.scale) || !finite(tail.shift) { // each run computes this one as it is written
			tail = before
			break
		}
		last = next.GetName()
	}
	if !tail.scaled {
		return nil
	}

	filter, err := f.scaled(handle, toFloat32s(tail.scale))
	if err != nil {
		return err
	}
	folded := cloneNode(n)
	folded.Name = last + "/linear"
	f.inControlFlow[folded.Name] = f.inControlFlow[n.GetName()]
	folded.Input[1] = filter
	bias := floatConst(last+"/bias", Shape{channels}, toFloat32s(tail.shift))
	for _, add := range []*tfpb.NodeDef{bias, folded} {
		if err := f.insert(add); err != nil {
			return err
		}
	}
	f.nodes[last] = &tfpb.NodeDef{Name: last, Op: "BiasAdd", Device: n.GetDevice(), Input: []string{folded.Name, bias.Name}, Attr: map[string]*tfpb.AttrValue{
		"T": n.GetAttr()["T"],
	}}
	return nil
}

// onlyFirst says whether no output of a node but the first is used.
func (f *folding) onlyFirst(name string) bool {
	if f.multiOutput[name] {
		return false
	}
	for _, user := range f.usedBy[name] {
		for _, in := range f.nodes[user].GetInput() {
			if strings.HasPrefix(in, name+":") {
				return false
			}
		}
	}
	return true
}

// scaled returns the node that reads a weight times scale, channel by channel. Signatures with the
// same scale, bit for bit, share the node.
func (f *folding) scaled(handle string, scale []float32) (string, error) {
	key := scaledKey(handle, scale)
	if read, ok := f.copies[key]; ok {
		return read, nil
	}
	copied := *f.weights[handle]
	w := &copied
	w.scale = scale
	cost := len(key) + 4*len(scale)
	if f.weights[handle].copied { // the first copy usually replaces the weight
		cost += int(w.entry.size)
	}
	if err := f.budget.charge(int64(cost)); err != nil {
		return "", err
	}
	f.weights[handle].copied = true
	folded := ""
	for i := 0; folded == "" || f.nodes[folded] != nil || f.nodes[folded+"/read"] != nil; i++ {
		folded = fmt.Sprintf("%s/scaled_%d", handle, len(f.copies)+i)
	}
	read := folded + "/read"
	for _, n := range []*tfpb.NodeDef{handleNode(folded, w.entry), readNode(read, folded, w.entry)} {
		if err := f.insert(n); err != nil {
			return "", err
		}
	}
	f.weights[folded], f.copies[key] = w, read
	return read, nil
}

// scaledKey identifies a weight times a scale.
func scaledKey(handle string, scale []float32) string {
	key := append(make([]byte, 0, len(handle)+1+4*len(scale)), handle...)
	key = append(key, 0)
	for _, s := range scale {
		key = binary.LittleEndian.AppendUint32(key, math.Float32bits(s))
	}
	return string(key)
}

// toFloat32s rounds numbers to float32.
func toFloat32s(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}

// An affine scales and shifts the channels, a tensor's last dimension.
type affine struct {
	rank         int // of the tensor
	channels     int
	scale, shift []float64
	scaled       bool // it multiplies, and does not only add
}

func (a affine) clone() affine {
	a.scale, a.shift = slices.Clone(a.scale), slices.Clone(a.shift)
	return a
}

// absorb adds the operation n, the only user of the tensor input, to a. It returns false if n does
// more than scale and shift.
func (a *affine) absorb(n *tfpb.NodeDef, input string, c *constants) (bool, error) {
	if format := string(n.GetAttr()["data_format"].GetS()); format != "" && format != "NHWC" {
		return false, nil
	}
	if len(n.GetInput()) < 2 || slices.ContainsFunc(n.GetInput(), func(in string) bool { return strings.HasPrefix(in, "^") }) {
		return false, nil
	}
	if n.GetOp() == "FusedBatchNormV3" || n.GetOp() == "FusedBatchNormV2" || n.GetOp() == "FusedBatchNorm" {
		return a.absorbNorm(n, input, c)
	}
	if len(n.GetInput()) != 2 {
		return false, nil
	}
	other := 1 - slices.Index(n.GetInput(), input)
	v, err := c.value(n.GetInput()[other%2])
	if err != nil || v == nil || other > 1 || len(v.shape) > a.rank || !v.perChannel(a.channels) {
		return false, err
	}
	switch op := n.GetOp(); {
	case op == "Mul":
		a.apply(v.at, func(int) float64 { return 0 })
	case op == "Add" || op == "AddV2" || op == "BiasAdd" && other == 1 && len(v.data) == a.channels:
		a.apply(nil, v.at)
	case op == "Sub" && other == 1:
		a.apply(nil, func(i int) float64 { return -v.at(i) })
	default:
		return false, nil
	}
	return true, nil
}

// absorbNorm adds a batch normalization to a.
func (a *affine) absorbNorm(n *tfpb.NodeDef, input string, c *constants) (bool, error) {
	training := n.GetAttr()["is_training"] // true if it is left out
	if len(n.GetInput()) != 5 || n.GetInput()[0] != input || training == nil || training.GetB() {
		return false, nil
	}
	var parts [4]*constant // scale, offset, mean, variance
	for i := range parts {
		v, err := c.value(n.GetInput()[1+i])
		if err != nil || v == nil || len(v.data) != a.channels {
			return false, err
		}
		parts[i] = v
	}
	epsilon := 1e-4
	if e := n.GetAttr()["epsilon"]; e != nil {
		epsilon = float64(e.GetF())
	}
	factor := func(i int) float64 { return parts[0].at(i) / math.Sqrt(parts[3].at(i)+epsilon) }
	a.apply(factor, func(i int) float64 { return parts[1].at(i) - parts[2].at(i)*factor(i) })
	return true, nil
}

// apply multiplies by factor and then adds add, for each channel. A nil factor is 1.
func (a *affine) apply(factor, add func(int) float64) {
	for i := range a.scale {
		if factor != nil {
			a.scale[i] *= factor(i)
			a.shift[i] *= factor(i)
		}
		a.shift[i] += add(i)
	}
	a.scaled = a.scaled || factor != nil
}
