package savedmodel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// ErrDiverged is wrapped by Load's error about a weight that is no number: training has gone wrong,
// and so would every answer. NaN is refused in every variable and constant of more than one element
// that a signature uses, ±Inf in the variables alone, but for those that serve as a mask: see
// onlyMask.
var ErrDiverged = errors.New("the model has diverged; publish a version with finite weights")

// floatBits are where a type keeps its exponent: all ones there are NaN or ±Inf, and NaN has a bit
// of the fraction as well.
var floatBits = map[DataType]struct{ exponent, fraction uint64 }{
	Float16:  {0x7c00, 0x03ff},
	BFloat16: {0x7f80, 0x007f},
	Float32:  {0x7f80_0000, 0x007f_ffff},
	Float64:  {0x7ff0_0000_0000_0000, 0x000f_ffff_ffff_ffff},
}

// oddNumber finds the first number, little endian, that is NaN or, unless infinite is true, ±Inf;
// -1: there is none.
func oddNumber(b []byte, dtype DataType, infinite bool) (index int, name string) {
	bits, ok := floatBits[dtype]
	if !ok {
		return -1, ""
	}
	width := dtype.Size()
	// Eight bytes at a time: adding the exponent's lowest bit to an exponent of ones, and to no
	// other one, gives the sign's place a one.
	const word = 8
	exponents, low, signs := uint64(0), uint64(0), uint64(0)
	for shift := 0; shift < 64; shift += 8 * width {
		exponents |= bits.exponent << shift
		low |= (bits.fraction + 1) << shift
		signs |= 1 << (shift + 8*width - 1)
	}
	for at := 0; at+width <= len(b); {
		if at%word == 0 {
			for at+word <= len(b) && (binary.LittleEndian.Uint64(b[at:])&exponents+low)&signs == 0 {
				at += word
			}
			if at+width > len(b) {
				break
			}
		}
		v := uint64(0)
		for i := range width {
			v |= uint64(b[at+i]) << (8 * i)
		}
		switch {
		case v&bits.exponent != bits.exponent:
		case v&bits.fraction != 0:
			return at / width, "NaN"
		case !infinite && v>>(8*width-1) != 0:
			return at / width, "-Inf"
		case !infinite:
			return at / width, "+Inf"
		}
		at += width
	}
	return -1, ""
}

// oddWeight is why a part of an entry, which begins at a byte, is refused; nil: it is not.
func (c *checkpoint) oddWeight(e bundleEntry, part []byte, at int) error {
	if c.index.bigEndian {
		return nil
	}
	i, value := oddNumber(part, e.dtype, c.infinite[e.key])
	if i < 0 {
		return nil
	}
	return fmt.Errorf("variable %q has %s at element %d of %v: %w", c.name(e), value, at/e.dtype.Size()+i, e.shape, ErrDiverged)
}

// name is what people call the variable of an entry.
func (c *checkpoint) name(e bundleEntry) string {
	key := e.key
	if e.isSlice() {
		key = slicedKey(e)
	}
	if objects, ok := c.entries[objectGraphKey]; ok {
		if shard, err := c.shard(objects); err == nil {
			if names, err := variableNames(objects, shard); err == nil && names[key] != "" {
				return names[key]
			}
		}
	}
	return plainName(key)
}

// pieces are the entries that hold the value of a key: one, or those of a variable in several parts
// (EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.cc).
func (c *checkpoint) pieces(key string) []bundleEntry {
	e, ok := c.entries[key]
	switch {
	case !ok:
		return nil
	case !e.sliced:
		return []bundleEntry{e}
	}
	if c.slices == nil {
		c.slices = make(map[string][]bundleEntry)
		for _, piece := range c.index.entries {
			if piece.isSlice() {
				of := slicedKey(piece)
				c.slices[of] = append(c.slices[of], piece)
			}
		}
	}
	return c.slices[key]
}

// slicedKey is the key of the value that an entry is a part of.
func slicedKey(piece bundleEntry) string {
	key, _, _ := strings.Cut(piece.key[1:], "\x00\x01")
	return key
}

// oddConstant is why a constant is refused; nil: it is not, or the node is none.
func oddConstant(n *tfpb.NodeDef) error {
	if n.GetOp() != "Const" {
		return nil
	}
	p := n.GetAttr()["value"].GetTensor()
	shape := shapeOf(p.GetTensorShape())
	if elements, ok := shape.Elements(); !ok || elements < 2 {
		return nil // one number may well be NaN on purpose
	}
	at, _ := oddNumber(p.GetTensorContent(), DataType(p.GetDtype()), true)
	for _, i := range []int{
		slices.IndexFunc(p.GetFloatVal(), func(v float32) bool { return v != v }),
		slices.IndexFunc(p.GetDoubleVal(), math.IsNaN),
		slices.IndexFunc(p.GetHalfVal(), func(v int32) bool {
			bits := floatBits[DataType(p.GetDtype())]
			return bits.exponent != 0 && uint64(v)&bits.exponent == bits.exponent && uint64(v)&bits.fraction != 0
		}),
	} {
		at = max(at, i)
	}
	if at < 0 {
		return nil
	}
	return fmt.Errorf("constant %q has NaN at element %d of %v: %w", n.GetName(), at, shape, ErrDiverged)
}

// infiniteConstant tells whether a constant holds NaN or ±Inf.
func infiniteConstant(p *tfpb.TensorProto) bool {
	dtype := DataType(p.GetDtype())
	at, _ := oddNumber(p.GetTensorContent(), dtype, false)
	exponent := floatBits[dtype].exponent
	return at >= 0 ||
		slices.ContainsFunc(p.GetFloatVal(), func(v float32) bool { return v-v != 0 }) ||
		slices.ContainsFunc(p.GetDoubleVal(), func(v float64) bool { return v-v != 0 }) ||
		exponent != 0 && slices.ContainsFunc(p.GetHalfVal(), func(v int32) bool { return uint64(v)&exponent == exponent })
}

// infinite tells whether a weight holds ±Inf, as a mask may, or cannot be read.
func (g *frozenGraph) infinite(w *weight) bool {
	if w == nil {
		return false
	}
	entries := w.parts
	if entries == nil {
		entries = []bundleEntry{w.entry}
	}
	for _, e := range entries {
		if !g.values.infinite[e.key] {
			continue
		}
		g.values.infinite[e.key] = false
		err := g.values.scan(e)
		g.values.infinite[e.key] = true
		if err != nil {
			return true
		}
	}
	return false
}

// What becomes of a mask on its way to where it is used, and there.
var (
	handsOn = map[string]bool{
		"Enter": true, "Exit": true, "Merge": true, "NextIteration": true, "Switch": true, // of TensorFlow 1's conditions and loops
		"BroadcastTo": true, "Cast": true, "ExpandDims": true, "GatherV2": true, "Identity": true, "ReadVariableOp": true, "Reshape": true,
		"ResourceGather": true, "Slice": true, "Squeeze": true, "StridedSlice": true, "Tile": true, "Transpose": true,
	}
	masks = map[string]bool{
		"Add": true, "AddV2": true, "ClipByValue": true, "Equal": true, "Greater": true, "GreaterEqual": true, "Less": true, "LessEqual": true,
		"LowerBound": true, "Maximum": true, "Minimum": true, "NotEqual": true, "Select": true, "SelectV2": true, "UpperBound": true,
	}
	// callers run functions, in which a variable may be a mask as well: nobody looks there.
	callers = map[string]bool{"Case": true, "If": true, "StatelessCase": true, "StatelessIf": true, "StatelessWhile": true, "While": true}
)

// onlyMask tells whether all that is done with a variable is to add it to, to compare it with, or to
// choose between it and, what is computed of inputs. There -Inf takes something away, as a mask of attention does. In
// a filter, a bias or a batch normalization no infinite number has a meaning.
func (g *flatGraph) onlyMask(name string, users map[string][]string) bool {
	stack, seen := []string{name}, make(map[string]bool)
	for len(stack) > 0 {
		of := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[of] {
			continue
		}
		seen[of] = true
		if g.work.take(int64(scopeCost*(1+len(users[of])))) != nil {
			return false // and the next step fails
		}
		for _, user := range users[of] {
			n := g.nodes[user]
			computed := func(in string) bool {
				op := g.nodes[nodeOf(in)].GetOp()
				return nodeOf(in) != of && op != "Const" && op != "ReadVariableOp"
			}
			switch {
			case callers[n.GetOp()]:
			case handsOn[n.GetOp()]:
				stack = append(stack, user)
			case !masks[n.GetOp()] || !slices.ContainsFunc(n.GetInput(), computed):
				return false
			}
		}
	}
	return true
}

// checkFinite refuses constants, and lets those variables alone hold ±Inf that are masks: their
// values are looked at when they are read.
func (g *frozenGraph) checkFinite() error {
	users := g.users()
	for _, name := range g.order {
		if err := oddConstant(g.nodes[name]); err != nil {
			return err
		}
		if w := g.weights[name]; w != nil && g.onlyMask(name, users) {
			g.values.infinite[w.entry.key] = true
		}
	}
	return nil
}

// checkWeights makes sure that the weights of a model are finite that TensorFlow's loader reads:
// those that the signatures use, as far as that can be told. Whatever else is wrong with the
// checkpoint, that loader tells.
func checkWeights(ctx context.Context, dir string, mg *tfpb.MetaGraphDef) error {
	ops, err := operations()
	if err != nil {
		return err
	}
	g := newFrozenGraph(mg, ops, nil, newBudget(ctx))
	nodes, flat := []*tfpb.NodeDef(nil), g.addSignatures() == nil
	if flat {
		for _, name := range g.order {
			nodes = append(nodes, g.nodes[name])
		}
	} else {
		nodes = g.reachable()
	}
	for _, n := range nodes {
		if err := oddConstant(n); err != nil {
			return err
		}
	}
	values, err := openCheckpoint(ctx, dir)
	if err != nil {
		return ctx.Err()
	}
	defer values.close()
	restored, _ := restoredValues(mg, ops, newBudget(ctx))
	users := g.users()
	for _, n := range nodes {
		if !slices.Contains(variableOps, n.GetOp()) {
			continue
		}
		value, ok := restored[n.GetName()]
		if !ok {
			value.key = n.GetName() // as TensorFlow 1 calls it
		}
		pieces := values.pieces(value.key)
		if e, ok := values.entries[sliceKey(value.key, value.slice)]; ok && value.slice != nil {
			pieces = []bundleEntry{e}
		}
		infinite := !flat || g.onlyMask(n.GetName(), users)
		for _, e := range pieces {
			values.infinite[e.key] = infinite
			if err := values.scan(e); errors.Is(err, ErrDiverged) {
				return err
			}
		}
	}
	return ctx.Err()
}

// reachable are the nodes of the main graph that a signature needs, without what the functions hold
// that they call.
func (g *frozenGraph) reachable() []*tfpb.NodeDef {
	var (
		stack []string
		nodes []*tfpb.NodeDef
		seen  = make(map[string]bool)
	)
	for key, def := range g.meta.GetSignatureDef() {
		for _, info := range def.GetOutputs() {
			if callable(key) {
				stack = append(stack, info.GetName())
			}
		}
	}
	for len(stack) > 0 {
		name := nodeOf(stack[len(stack)-1])
		stack = stack[:len(stack)-1]
		n := g.main.nodes[name]
		if n == nil || seen[name] {
			continue
		}
		seen[name] = true
		nodes = append(nodes, n)
		stack = append(stack, n.GetInput()...)
	}
	return nodes
}
