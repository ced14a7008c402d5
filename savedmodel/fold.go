package savedmodel

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// linear are the operations whose results a batch normalization scales and
// shifts channel by channel. Their second input is a filter in whose last
// dimensions the channels are; how many dimensions those are is the value.
var linear = map[string]int{"Conv2D": 1, "DepthwiseConv2dNative": 2, "MatMul": 1}

// fold puts what only scales and shifts the channels of a convolution into
// its filter and one BiasAdd: batch normalization, however it was written.
func (g *frozenGraph) fold() error {
	users := g.users()
	c := constants{g: g, known: make(map[string]*constant)}
	for _, name := range slices.Clone(g.order) {
		n := g.nodes[name]
		if linear[n.GetOp()] == 0 || len(n.GetInput()) < 2 {
			continue
		}
		if err := g.foldInto(n, users, &c); err != nil {
			return err
		}
	}
	if err := c.settle(); err != nil {
		return err
	}
	g.prune(g.roots)
	return nil
}

// users lists who takes a node's outputs, once for each time.
func (g *flatGraph) users() map[string][]string {
	users := make(map[string][]string)
	for _, name := range g.order {
		for _, in := range g.nodes[name].GetInput() {
			users[nodeOf(in)] = append(users[nodeOf(in)], name)
		}
	}
	return users
}

// foldInto folds what follows the operation n into it.
func (g *frozenGraph) foldInto(n *tfpb.NodeDef, users map[string][]string, c *constants) error {
	handle, w := g.weightOf(n.GetInput()[1])
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
	for len(users[last]) == 1 && !slices.Contains(g.roots, last) {
		next := g.nodes[users[last][0]]
		if !g.onlyFirst(next.GetName(), users) {
			break
		}
		before := tail.clone()
		ok, err := tail.take(next, last, c)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !finite(tail.scale) || !finite(tail.shift) { // this one is computed as it is written
			tail = before
			break
		}
		last = next.GetName()
	}
	if !tail.scaled {
		return nil
	}

	filter, err := g.scaled(handle, narrow(tail.scale))
	if err != nil {
		return err
	}
	folded := cloneNode(n)
	folded.Name = last + "/linear"
	g.flow[folded.Name] = g.flow[n.GetName()]
	folded.Input[1] = filter
	bias := floatConst(last+"/bias", Shape{channels}, narrow(tail.shift))
	for _, add := range []*tfpb.NodeDef{bias, folded} {
		if err := g.insert(add); err != nil {
			return err
		}
	}
	g.nodes[last] = &tfpb.NodeDef{Name: last, Op: "BiasAdd", Device: n.GetDevice(), Input: []string{folded.Name, bias.Name}, Attr: map[string]*tfpb.AttrValue{
		"T": n.GetAttr()["T"],
	}}
	return nil
}

// onlyFirst tells whether nobody takes any output of a node but the first.
func (g *frozenGraph) onlyFirst(name string, users map[string][]string) bool {
	if g.later[name] {
		return false
	}
	for _, user := range users[name] {
		for _, in := range g.nodes[user].GetInput() {
			if strings.HasPrefix(in, name+":") {
				return false
			}
		}
	}
	return true
}

// scaled is the node that reads a weight times scale, channel by channel. Signatures that need
// the same share it: numbers are the same if their bits are.
func (g *frozenGraph) scaled(handle string, scale []float32) (string, error) {
	key := scaledKey(handle, scale)
	if read, ok := g.copies[key]; ok {
		return read, nil
	}
	copied := *g.weights[handle]
	w := &copied
	w.scale = scale
	cost := len(key) + 4*len(scale)
	if g.weights[handle].copied { // the first copy mostly is in place of the weight
		cost += int(w.entry.size)
	}
	if err := g.work.take(int64(cost)); err != nil {
		return "", err
	}
	g.weights[handle].copied = true
	folded := ""
	for i := 0; folded == "" || g.nodes[folded] != nil || g.nodes[folded+"/read"] != nil; i++ { // names of others
		folded = fmt.Sprintf("%s/scaled_%d", handle, len(g.copies)+i)
	}
	read := folded + "/read"
	for _, n := range []*tfpb.NodeDef{handleNode(folded, w.entry), readNode(read, folded, w.entry)} {
		if err := g.insert(n); err != nil {
			return "", err
		}
	}
	g.weights[folded], g.copies[key] = w, read
	return read, nil
}

// scaledKey tells one weight times a scale from all others.
func scaledKey(handle string, scale []float32) string {
	key := append(make([]byte, 0, len(handle)+1+4*len(scale)), handle...)
	key = append(key, 0)
	for _, s := range scale {
		key = binary.LittleEndian.AppendUint32(key, math.Float32bits(s))
	}
	return string(key)
}

func narrow(values []float64) []float32 {
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
	scaled       bool // by more than shifting
}

func (a affine) clone() affine {
	a.scale, a.shift = slices.Clone(a.scale), slices.Clone(a.shift)
	return a
}

// take takes n, the only user of the tensor called input, on as well. It is
// false if n does anything else.
func (a *affine) take(n *tfpb.NodeDef, input string, c *constants) (bool, error) {
	if format := string(n.GetAttr()["data_format"].GetS()); format != "" && format != "NHWC" {
		return false, nil
	}
	if len(n.GetInput()) < 2 || slices.ContainsFunc(n.GetInput(), func(in string) bool { return strings.HasPrefix(in, "^") }) {
		return false, nil
	}
	if n.GetOp() == "FusedBatchNormV3" || n.GetOp() == "FusedBatchNormV2" || n.GetOp() == "FusedBatchNorm" {
		return a.takeNorm(n, input, c)
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

func (a *affine) takeNorm(n *tfpb.NodeDef, input string, c *constants) (bool, error) {
	training := n.GetAttr()["is_training"] // which is true if it is left out
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

// apply scales and shifts further; a nil factor is 1.
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
