package savedmodel

import (
	"maps"
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// A frozenGraph is a model's graph for the signatures alone, in which nothing
// changes: all its variables are weights, whose values are known.
type frozenGraph struct {
	*flatGraph
	meta    *tfpb.MetaGraphDef
	values  *checkpoint
	weights map[string]*weight           // by the variable's node
	library map[string]*tfpb.FunctionDef // functions that are still called
	roots   []string                     // nodes of the signatures' inputs and outputs
	later   map[string]bool              // those of which not only output 0 is one
	copies  map[string]string            // by scaledKey, the node that reads the scaled weight
	watched map[signatureOutput][]string // what tells whether an output can be relied on; see watch
	flow    map[string]bool              // nodes that a condition may keep from running, or that are in a loop
	starts  []string                     // nodes that run once, when a session is made
	assets  map[string]string            // files, by the node that gives their path to those
}

// A weight is a variable's value: what the checkpoint has, or that times
// scale, element i times scale[i%len(scale)], where folding made another one.
type weight struct {
	entry  bundleEntry
	scale  []float32
	narrow bool // float32 in the checkpoint, bfloat16 here
	copied bool // there is one with a scale
	// A value in parts: entry is only the whole's type, shape and size. Each
	// part has so many rows, which follow one another in the whole's rows.
	parts []bundleEntry
	rows  int64
}

// freeze makes the graph of a model's signatures; ops are TensorFlow's
// operations. An error that wraps errRefused says why that cannot be done.
func freeze(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, values *checkpoint, work *budget) (*frozenGraph, error) {
	g := newFrozenGraph(mg, ops, values, work)
	for _, step := range []func() error{g.addSignatures, g.check, g.bind, g.checkFinite, g.join, g.bindTables, g.fold} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func newFrozenGraph(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, values *checkpoint, work *budget) *frozenGraph {
	g := &frozenGraph{
		flatGraph: newFlatGraph(mg, ops, work), meta: mg, values: values,
		weights: make(map[string]*weight), library: make(map[string]*tfpb.FunctionDef), later: make(map[string]bool),
		copies: make(map[string]string), flow: make(map[string]bool), assets: make(map[string]string),
	}
	g.fed = fedNodes(mg)
	return g
}

// fedNodes are the nodes that the signatures' inputs name. Mostly those are
// placeholders, but TensorFlow 1 lets a caller feed any tensor, such as a
// constant that is a default.
func fedNodes(mg *tfpb.MetaGraphDef) map[string]bool {
	fed := make(map[string]bool)
	for key, def := range mg.GetSignatureDef() {
		if !callable(key) {
			continue
		}
		for _, info := range def.GetInputs() {
			fed[nodeOf(info.GetName())] = true
		}
	}
	return fed
}

// addSignatures adds what the signatures need.
func (g *frozenGraph) addSignatures() error {
	for _, key := range slices.Sorted(maps.Keys(g.meta.GetSignatureDef())) {
		if !callable(key) {
			continue
		}
		def := g.meta.GetSignatureDef()[key]
		for _, tensors := range []map[string]*tfpb.TensorInfo{def.GetInputs(), def.GetOutputs()} {
			for _, info := range tensors {
				if info.GetName() == "" {
					return refuse("signature %q has a tensor in several parts", key)
				}
				if err := g.addRoot(info.GetName()); err != nil {
					return err
				}
			}
		}
	}
	slices.Sort(g.roots)
	g.roots = slices.Compact(g.roots)
	return g.addLoopEnds()
}

// addRoot adds a tensor of the main graph under its own name. What a call
// gives is handed on by an operation that has the call's name.
func (g *frozenGraph) addRoot(tensor string) error {
	name := nodeOf(tensor)
	g.roots = append(g.roots, name)
	if tensor != name && tensor != name+":0" {
		g.later[name] = true
	}
	n, ok := g.main.nodes[name]
	if !ok || !isCall(n) {
		_, err := g.tensor(g.main, tensor)
		return err
	}
	if g.fed[name] { // what takes its results takes them from the function's body
		return refuse("a signature's input is %q, a call of a function", name)
	}
	if _, ok := g.nodes[name]; ok {
		return nil
	}
	f := g.functions[n.GetAttr()["f"].GetFunc().GetName()]
	hand := &tfpb.NodeDef{Name: name, Op: "IdentityN"}
	var types []tfpb.DataType
	for i, r := range f.GetSignature().GetOutputArg() {
		flat, err := g.tensor(g.main, output(name, i))
		if err != nil {
			return err
		}
		hand.Input = append(hand.Input, flat)
		types = append(types, r.GetType())
	}
	switch len(types) {
	case 0:
		return refuse("%q has no results", name)
	case 1:
		hand.Op = "Identity"
		hand.Attr = map[string]*tfpb.AttrValue{"T": typeAttr(types[0])}
	default:
		hand.Attr = map[string]*tfpb.AttrValue{"T": typesAttr(types)}
	}
	controls, err := g.control(g.main, name)
	if err != nil {
		return err
	}
	slices.Sort(controls)
	hand.Input = append(hand.Input, slices.Compact(controls)...)
	return g.insert(hand)
}

// What is known of operations that have state, or work on it. Any other one
// is a reason to leave the graph alone.
var (
	// readers only read variables and tables.
	readers = map[string]bool{
		"ReadVariableOp": true, "ResourceGather": true, "ResourceGatherNd": true, "VariableShape": true,
		"LookupTableFind": true, "LookupTableFindV2": true, "LookupTableSize": true, "LookupTableSizeV2": true,
	}
	// random give what no other operation has a part in.
	random = map[string]bool{"RandomUniform": true, "RandomUniformInt": true, "RandomStandardNormal": true, "TruncatedNormal": true}
	// actors do no more than to stop a run, or to keep what others need of it,
	// or than the functions do that they call, which are looked at too.
	actors = map[string]bool{
		"Assert": true, "If": true, "While": true, "Case": true, "PartitionedCall": true, "StatefulPartitionedCall": true,
		"StatelessIf": true, "StatelessWhile": true, "StatelessCase": true,
	}
)

// isActor tells whether it matters that an operation waits for another one
// of this name.
func isActor(op string) bool { return actors[op] || controlFlow[op] || isTensorArray(op) }

// isTensorArray tells whether an operation works on a TensorArray, which is
// made in a run and gone after it.
func isTensorArray(op string) bool {
	return strings.HasPrefix(op, "TensorArray") && !strings.HasPrefix(op, "TensorArrayGrad")
}

// check refuses what has state, and collects the functions that are still
// called. It drops control inputs that only wait for variables to be read,
// which nobody changes.
func (g *frozenGraph) check() error {
	g.decide()
	acts := make(map[string]bool) // the node, or what it needs
	places := g.newPlacing()
	for _, name := range g.order {
		n := g.nodes[name]
		if err := g.checkNode(n, name, 0); err != nil {
			return err
		}
		acts[name] = isActor(n.GetOp())
		n.Input = slices.DeleteFunc(n.Input, func(in string) bool {
			acting := acts[nodeOf(in)]
			acts[name] = acts[name] || acting
			return !acting && isControl(in)
		})
		places.look(n)
		g.flow[name] = places.nodes[name] != nil
	}
	for _, call := range g.called {
		// The body's operations without inputs would leave the call's frame.
		if places.join(call.inputs) != nil {
			return refuse("%q calls a function under a condition or in a loop", call.name)
		}
	}
	g.prune(g.roots)
	return nil
}

// checkNode checks a node that so many functions call, one within the other.
func (g *frozenGraph) checkNode(n *tfpb.NodeDef, name string, depth int) error {
	op, known := g.ops[n.GetOp()]
	switch {
	case !known:
		return refuse("TensorFlow has no operation %q", n.GetOp())
	case depth == 0 && (isVariable(n.GetOp()) || isTable(n.GetOp())): // see bind and bindTables
	case readers[n.GetOp()] || random[n.GetOp()] || isActor(n.GetOp()):
	case op.GetIsStateful():
		return refuse("%q (%s) has state", name, n.GetOp())
	case slices.ContainsFunc(op.GetInputArg(), (*tfpb.OpDef_ArgDef).GetIsRef):
		return refuse("%q (%s) may change a variable", name, n.GetOp())
	}
	for _, a := range n.GetAttr() {
		for _, f := range append(a.GetList().GetFunc(), a.GetFunc()) {
			if f.GetName() == "" {
				continue
			}
			if err := g.checkFunction(f.GetName(), depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *frozenGraph) checkFunction(name string, depth int) error {
	if g.library[name] != nil {
		return nil
	}
	if depth == maxCallDepth {
		return refuse("calls of functions are more than %d deep", maxCallDepth)
	}
	f, ok := g.functions[name]
	if !ok {
		return refuse("the graph has no function %q", name)
	}
	g.library[name] = f
	for _, n := range f.GetNodeDef() {
		if err := g.checkNode(n, name+"/"+n.GetName(), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// bind finds the value of each variable.
func (g *frozenGraph) bind() error {
	restored, err := restoredValues(g.meta, g.ops, g.work)
	if err != nil {
		return err
	}
	start, err := startGraph(g.meta, g.ops, g.work)
	if err != nil {
		return err
	}
	changed := start.changed()
	for _, name := range slices.Clone(g.order) {
		n := g.nodes[name]
		if !isVariable(n.GetOp()) {
			continue
		}
		if changed[name] {
			return refuse("variable %q is set when the model starts", name)
		}
		value, ok := restored[name]
		if !ok {
			return refuse("variable %q is not restored", name)
		}
		w, err := g.weight(n, value)
		if err != nil {
			return err
		}
		if n.GetOp() == "VarHandleOp" {
			g.weights[name], g.nodes[name] = w, handleNode(name, w.entry)
			continue
		}
		// A variable of TensorFlow 1 is its own value.
		handle := name + "/inceptor_handle"
		g.weights[handle], g.nodes[name] = w, readNode(name, handle, w.entry)
		if err := g.insert(handleNode(handle, w.entry)); err != nil {
			return err
		}
	}
	if len(g.weights) == 0 {
		return refuse("the signatures use no variables")
	}
	return nil
}

// isVariable tells whether an operation is a variable.
func isVariable(op string) bool { return op == "VarHandleOp" || isReference(op) }

// isReference tells whether an operation is a variable of TensorFlow 1: its
// output refers to the memory that holds the value.
func isReference(op string) bool { return op == "VariableV2" || op == "Variable" }

// weight finds a variable's value.
func (g *frozenGraph) weight(variable *tfpb.NodeDef, from savedValue) (*weight, error) {
	name := variable.GetName()
	e, ok := g.values.entries[from.key]
	if !ok {
		return nil, refuse("variable %q has no value: the checkpoint has no %q", name, from.key)
	}
	dtype := DataType(variable.GetAttr()["dtype"].GetType())
	shape := shapeOf(variable.GetAttr()["shape"].GetShape())
	if variable.GetOp() == "Variable" && len(shape) == 0 {
		shape = nil // which is how this one says that it may have any
	}
	if from.slice != nil {
		if e, ok = g.values.entries[sliceKey(from.key, from.slice)]; !ok || !slices.Equal(g.values.entries[from.key].shape, from.whole) {
			return nil, refuse("variable %q has no value: the checkpoint has another part of %q", name, from.key)
		}
	}
	switch {
	case e.sliced:
		return nil, refuse("variable %q is in several parts", name)
	case dtype.Size() == 0:
		return nil, refuse("variable %q holds %v", name, dtype)
	case e.dtype != dtype || !fits(e.shape, shape):
		return nil, refuse("variable %q is %v %v, but its value %v %v", name, dtype, shape, e.dtype, e.shape)
	case g.values.index.bigEndian:
		return nil, refuse("the checkpoint's numbers are big endian")
	}
	return &weight{entry: e}, nil
}

// fits tells whether a known shape is one that the pattern allows.
func fits(shape, pattern Shape) bool {
	return pattern == nil || slices.EqualFunc(shape, pattern, func(a, b int64) bool { return a == b || b < 0 })
}

// handleNode is the variable of a weight.
func handleNode(name string, e bundleEntry) *tfpb.NodeDef {
	return &tfpb.NodeDef{Name: name, Op: "VarHandleOp", Attr: map[string]*tfpb.AttrValue{
		"dtype": typeAttr(tfpb.DataType(e.dtype)), "shape": shapeAttr(e.shape), "shared_name": bytesAttr(name),
	}}
}

// readNode reads a variable.
func readNode(name, handle string, e bundleEntry) *tfpb.NodeDef {
	return &tfpb.NodeDef{Name: name, Op: "ReadVariableOp", Input: []string{handle}, Attr: map[string]*tfpb.AttrValue{
		"dtype": typeAttr(tfpb.DataType(e.dtype)),
	}}
}

// weightOf is the weight that a tensor is read from, and its node; nil if it
// is none.
func (g *frozenGraph) weightOf(tensor string) (handle string, w *weight) {
	if g.flow[nodeOf(tensor)] {
		return "", nil
	}
	tensor = g.source(tensor)
	n := g.nodes[tensor]
	if g.fed[tensor] || n.GetOp() != "ReadVariableOp" || len(n.GetInput()) == 0 {
		return "", nil
	}
	handle = g.handle(n.GetInput()[0])
	return handle, g.weights[handle]
}

// handle is the node of the variable that an input is, "" if it is none.
func (g *flatGraph) handle(input string) string {
	n := g.nodes[g.source(input)]
	if !isVariable(n.GetOp()) {
		return ""
	}
	return n.GetName()
}
