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

// ErrDiverged says that a weight is NaN or infinite: training has failed, and every answer would
// be wrong. Load refuses NaN in every variable that a signature uses, and in its constants of
// more than one element. It refuses ±Inf in variables only, and not in one that serves as a mask,
// as that of attention, which is only added to, compared with or selected against computed
// values.
var ErrDiverged = errors.New("the model has diverged; publish a version with finite weights")

// floatBits are the bits of a type's exponent and fraction. An exponent of ones means NaN or ±Inf;
// NaN also has a bit of the fraction set.
var floatBits = map[DataType]struct{ exponent, fraction uint64 }{
	Float16:  {0x7c00, 0x03ff},
	BFloat16: {0x7f80, 0x007f},
	Float32:  {0x7f80_0000, 0x007f_ffff},
	Float64:  {0x7ff0_0000_0000_0000, 0x000f_ffff_ffff_ffff},
}

// firstNonFinite returns the index and the name of the first little endian number that is NaN or,
// unless infinite is true, ±Inf. The index is -1 if there is none.
func firstNonFinite(b []byte, dtype DataType, infinite bool) (index int, name string) {
	bits, ok := floatBits[dtype]
	if !ok {
		return -1, ""
	}
	width := dtype.Size()
	// Check eight bytes at a time: adding the exponent's lowest bit sets the sign bit if, and only
	// if, the exponent is all ones.
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

// checkPart returns an error if a part of an entry's value, which begins at the byte at, has NaN or
// ±Inf.
func (c *checkpoint) checkPart(e bundleEntry, part []byte, at int) error {
	if c.index.bigEndian {
		return nil
	}
	i, value := firstNonFinite(part, e.dtype, c.mayBeInfinite[e.key])
	if i < 0 {
		return nil
	}
	return fmt.Errorf("variable %q has %s at element %d of %v: %w", c.name(e), value, at/e.dtype.Size()+i, e.shape, ErrDiverged)
}

// name returns the name of an entry's variable, for a person.
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

// pieces returns the entries that hold the value of a key. There are several for a partitioned
// variable.
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

// slicedKey returns the key of the whole value that an entry is a part of.
func slicedKey(piece bundleEntry) string {
	key, _, _ := strings.Cut(piece.key[1:], "\x00\x01")
	return key
}

// checkConstant returns an error if a node is a constant with NaN.
func checkConstant(n *tfpb.NodeDef) error {
	if n.GetOp() != "Const" {
		return nil
	}
	p := n.GetAttr()["value"].GetTensor()
	shape := shapeOf(p.GetTensorShape())
	if elements, ok := shape.Elements(); !ok || elements < 2 {
		return nil // a single NaN may be on purpose
	}
	at, _ := firstNonFinite(p.GetTensorContent(), DataType(p.GetDtype()), true)
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

// hasNonFinite says whether a constant holds NaN or ±Inf.
func hasNonFinite(p *tfpb.TensorProto) bool {
	dtype := DataType(p.GetDtype())
	at, _ := firstNonFinite(p.GetTensorContent(), dtype, false)
	exponent := floatBits[dtype].exponent
	return at >= 0 ||
		slices.ContainsFunc(p.GetFloatVal(), func(v float32) bool { return v-v != 0 }) ||
		slices.ContainsFunc(p.GetDoubleVal(), func(v float64) bool { return v-v != 0 }) ||
		exponent != 0 && slices.ContainsFunc(p.GetHalfVal(), func(v int32) bool { return uint64(v)&exponent == exponent })
}

// hasInfinity says whether a weight holds ±Inf, as a mask may, or cannot be read.
func (g *frozenGraph) hasInfinity(w *weight) bool {
	if w == nil {
		return false
	}
	entries := w.parts
	if entries == nil {
		entries = []bundleEntry{w.entry}
	}
	for _, e := range entries {
		if !g.values.mayBeInfinite[e.key] {
			continue
		}
		g.values.mayBeInfinite[e.key] = false
		err := g.values.scan(e)
		g.values.mayBeInfinite[e.key] = true
		if err != nil {
			return true
		}
	}
	return false
}

// Operations on a mask.
var (
	// passesOn are operations whose result holds the mask.
	passesOn = map[string]bool{
		"Enter": true, "Exit": true, "Merge": true, "NextIteration": true, "Switch": true, // TensorFlow 1
		"BroadcastTo": true, "Cast": true, "ExpandDims": true, "GatherV2": true, "Identity": true, "ReadVariableOp": true, "Reshape": true,
		"ResourceGather": true, "Slice": true, "Squeeze": true, "StridedSlice": true, "Tile": true, "Transpose": true,
	}
	// masks are operations that apply the mask to a computed value.
	masks = map[string]bool{
		"Add": true, "AddV2": true, "ClipByValue": true, "Equal": true, "Greater": true, "GreaterEqual": true, "Less": true, "LessEqual": true,
		"LowerBound": true, "Maximum": true, "Minimum": true, "NotEqual": true, "Select": true, "SelectV2": true, "UpperBound": true,
	}
	// callers run functions, which onlyMask does not follow: it takes the variable for a mask.
	callers = map[string]bool{"Case": true, "If": true, "StatelessCase": true, "StatelessIf": true, "StatelessWhile": true, "While": true}
)

// onlyMask says whether a variable is only added to, compared with or selected against values that
// are computed from inputs. There -Inf masks something, as in attention. In a filter, a bias or a
// batch normalization an infinite number has no meaning.
func (g *flatGraph) onlyMask(name string, users map[string][]string) bool {
	stack, seen := []string{name}, make(map[string]bool)
	for len(stack) > 0 {
		of := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[of] {
			continue
		}
		seen[of] = true
		if g.budget.charge(int64(scopeCost*(1+len(users[of])))) != nil {
			return false // the next step fails for the same reason
		}
		for _, user := range users[of] {
			n := g.nodes[user]
			computed := func(in string) bool {
				op := g.nodes[nodeOf(in)].GetOp()
				return nodeOf(in) != of && op != "Const" && op != "ReadVariableOp"
			}
			switch {
			case callers[n.GetOp()]:
			case passesOn[n.GetOp()]:
				stack = append(stack, user)
			case !masks[n.GetOp()] || !slices.ContainsFunc(n.GetInput(), computed):
				return false
			}
		}
	}
	return true
}

// checkFinite refuses constants with NaN and allows ±Inf in masks. The values of variables are
// checked when they are read.
func (g *frozenGraph) checkFinite() error {
	users := g.users()
	for _, name := range g.order {
		if err := checkConstant(g.nodes[name]); err != nil {
			return err
		}
		if w := g.weights[name]; w != nil && g.onlyMask(name, users) {
			g.values.mayBeInfinite[w.entry.key] = true
		}
	}
	return nil
}

// checkWeights checks that the weights are finite before TensorFlow's loader reads them. It checks
// those that the signatures use, as far as it can find them. TensorFlow's loader reports any other
// fault of the checkpoint.
func checkWeights(ctx context.Context, dir string, mg *tfpb.MetaGraphDef) error {
	ops, err := operations()
	if err != nil {
		return err
	}
	g := newFrozenGraph(mg, ops, nil, newLoadBudget(ctx))
	nodes, flat := []*tfpb.NodeDef(nil), g.addSignatures() == nil
	if flat {
		for _, name := range g.order {
			nodes = append(nodes, g.nodes[name])
		}
	} else {
		nodes = reachable(mg, g.main)
	}
	for _, n := range nodes {
		if err := checkConstant(n); err != nil {
			return err
		}
	}
	values, err := openCheckpoint(ctx, dir)
	if err != nil {
		return ctx.Err()
	}
	defer values.close()
	restored, _ := restoredValues(mg, ops, newLoadBudget(ctx))
	users := g.users()
	for _, n := range nodes {
		if !slices.Contains(variableOps, n.GetOp()) {
			continue
		}
		value, ok := restored[n.GetName()]
		if !ok {
			value.key = n.GetName() // TensorFlow 1's key
		}
		pieces := values.pieces(value.key)
		if e, ok := values.entries[sliceKey(value.key, value.slice)]; ok && value.slice != nil {
			pieces = []bundleEntry{e}
		}
		infinite := !flat || g.onlyMask(n.GetName(), users)
		for _, e := range pieces {
			values.mayBeInfinite[e.key] = infinite
			if err := values.scan(e); errors.Is(err, ErrDiverged) {
				return err
			}
		}
	}
	return ctx.Err()
}

// reachable returns the nodes of the main graph that the signatures need. It does not follow calls
// of functions.
func reachable(mg *tfpb.MetaGraphDef, main *scope) []*tfpb.NodeDef {
	var (
		stack []string
		nodes []*tfpb.NodeDef
		seen  = make(map[string]bool)
	)
	for key, def := range mg.GetSignatureDef() {
		for _, info := range def.GetOutputs() {
			if callable(key) {
				stack = append(stack, info.GetName())
			}
		}
	}
	for len(stack) > 0 {
		name := nodeOf(stack[len(stack)-1])
		stack = stack[:len(stack)-1]
		n := main.nodes[name]
		if n == nil || seen[name] {
			continue
		}
		seen[name] = true
		nodes = append(nodes, n)
		stack = append(stack, n.GetInput()...)
	}
	return nodes
}
