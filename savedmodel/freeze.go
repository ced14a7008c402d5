package savedmodel

import (
	"maps"
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// A frozenGraph is the part of a model's graph that the signatures need. No operation in it sets a
// variable: all variables are weights with known values.
type frozenGraph struct {
	*flatGraph
	meta    *tfpb.MetaGraphDef
	values  *checkpoint
	weights map[string]*weight           // by the variable's node
	library map[string]*tfpb.FunctionDef // functions that are still called

	roots       []string        // nodes of the signatures' inputs and outputs
	multiOutput map[string]bool // roots of which an output other than 0 is used

	finiteChecks  map[signatureOutput][]string // see addFiniteChecks
	inControlFlow map[string]bool              // nodes under a condition or in a loop
	initializers  []string                     // nodes that run once, when a session is opened
	assets        map[string]string            // paths of files, by the node that holds the path
}

// A weight is a variable's value in the checkpoint, or a scaled copy of it that folding made.
type weight struct {
	entry  bundleEntry
	scale  []float32 // element i is multiplied by scale[i%len(scale)]; nil for no scale
	narrow bool      // float32 in the checkpoint, bfloat16 here
	steps  []float32 // not nil: float32 in the checkpoint, int8 here, in units of steps[i%len(steps)]
	copied bool      // there is a scaled copy
	// parts hold the value of a partitioned variable; entry then has only the type, shape and size
	// of the whole. The whole has rows rows, and each part has a piece of every row.
	parts []bundleEntry
	rows  int64
}

// freeze returns the graph of the signatures in mg. The map ops holds TensorFlow's operations. An
// error that wraps errNotOptimized says why the graph is left to TensorFlow's loader.
func freeze(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, values *checkpoint, budget *loadBudget) (*frozenGraph, error) {
	g := newFrozenGraph(mg, ops, values, budget)
	for _, step := range []func() error{g.addSignatures, g.check, g.bind, g.checkFinite, g.joinParts, g.bindTables, g.fold} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func newFrozenGraph(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, values *checkpoint, budget *loadBudget) *frozenGraph {
	g := &frozenGraph{
		flatGraph: newFlatGraph(mg, ops, budget), meta: mg, values: values,
		weights: make(map[string]*weight), library: make(map[string]*tfpb.FunctionDef), multiOutput: make(map[string]bool),
		inControlFlow: make(map[string]bool), assets: make(map[string]string),
	}
	g.fed = fedNodes(mg)
	return g
}

// fedNodes returns the nodes that the signatures' inputs name. Most are placeholders, but
// TensorFlow 1 lets a caller feed any tensor, such as a constant that serves as a default.
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

// addSignatures adds the operations that the signatures need.
func (g *frozenGraph) addSignatures() error {
	for _, key := range slices.Sorted(maps.Keys(g.meta.GetSignatureDef())) {
		if !callable(key) {
			continue
		}
		def := g.meta.GetSignatureDef()[key]
		for _, tensors := range []map[string]*tfpb.TensorInfo{def.GetInputs(), def.GetOutputs()} {
			for _, info := range tensors {
				if info.GetName() == "" {
					return notOptimized("signature %q has a tensor in several parts", key)
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

// addRoot adds a tensor of the main graph under its own name. For a call of a function, it adds an
// Identity or IdentityN with the call's name.
func (g *frozenGraph) addRoot(tensor string) error {
	name := nodeOf(tensor)
	g.roots = append(g.roots, name)
	if tensor != name && tensor != name+":0" {
		g.multiOutput[name] = true
	}
	n, ok := g.main.nodes[name]
	if !ok || !isCall(n) {
		_, err := g.tensor(g.main, tensor)
		return err
	}
	if g.fed[name] { // users of its results take them from the function's body
		return notOptimized("a signature's input is %q, a call of a function", name)
	}
	if _, ok := g.nodes[name]; ok {
		return nil
	}
	f := g.functions[n.GetAttr()["f"].GetFunc().GetName()]
	results := &tfpb.NodeDef{Name: name, Op: "IdentityN"}
	var types []tfpb.DataType
	for i, r := range f.GetSignature().GetOutputArg() {
		flat, err := g.tensor(g.main, output(name, i))
		if err != nil {
			return err
		}
		results.Input = append(results.Input, flat)
		types = append(types, r.GetType())
	}
	switch len(types) {
	case 0:
		return notOptimized("%q has no results", name)
	case 1:
		results.Op = "Identity"
		results.Attr = map[string]*tfpb.AttrValue{"T": typeAttr(types[0])}
	default:
		results.Attr = map[string]*tfpb.AttrValue{"T": typesAttr(types)}
	}
	controls, err := g.control(g.main, name)
	if err != nil {
		return err
	}
	slices.Sort(controls)
	results.Input = append(results.Input, slices.Compact(controls)...)
	return g.insert(results)
}

// Operations with state, or on state, that may stay in a graph. Any other one makes Load use
// TensorFlow's loader.
var (
	// readers only read variables and tables.
	readers = map[string]bool{
		"ReadVariableOp": true, "ResourceGather": true, "ResourceGatherNd": true, "VariableShape": true,
		"LookupTableFind": true, "LookupTableFindV2": true, "LookupTableSize": true, "LookupTableSizeV2": true,
	}
	// random operations have state, but no other operation depends on it.
	random = map[string]bool{"RandomUniform": true, "RandomUniformInt": true, "RandomStandardNormal": true, "TruncatedNormal": true}
	// effects only end a run, keep a tensor for other operations of the run, or call functions,
	// which are checked too.
	effects = map[string]bool{
		"Assert": true, "If": true, "While": true, "Case": true, "PartitionedCall": true, "StatefulPartitionedCall": true,
		"StatelessIf": true, "StatelessWhile": true, "StatelessCase": true,
	}
)

// hasEffect says whether other operations may have to wait for an operation, although they do not
// use its results.
func hasEffect(op string) bool { return effects[op] || controlFlow[op] || isTensorArray(op) }

// isTensorArray says whether an operation works on a TensorArray, which lives only during a run.
func isTensorArray(op string) bool {
	return strings.HasPrefix(op, "TensorArray") && !strings.HasPrefix(op, "TensorArrayGrad")
}

// check refuses operations with state, and collects the functions that are still called. It drops
// control inputs that wait for nothing with an effect, such as the reading of a variable.
func (g *frozenGraph) check() error {
	g.foldConditions()
	effectful := make(map[string]bool) // the node, or one of its inputs, has an effect
	places := newPlacement(g)
	for _, name := range g.order {
		n := g.nodes[name]
		if err := g.checkNode(n, name, 0); err != nil {
			return err
		}
		effectful[name] = hasEffect(n.GetOp())
		n.Input = slices.DeleteFunc(n.Input, func(in string) bool {
			acting := effectful[nodeOf(in)]
			effectful[name] = effectful[name] || acting
			return !acting && isControl(in)
		})
		places.add(n)
		g.inControlFlow[name] = places.nodes[name] != nil
	}
	for _, call := range g.called {
		// The body's operations without inputs would leave the call's frame.
		if places.join(call.inputs) != nil {
			return notOptimized("%q calls a function under a condition or in a loop", call.name)
		}
	}
	g.prune(g.roots)
	return nil
}

// checkNode checks a node. Its depth is the number of nested calls of functions around it.
func (g *frozenGraph) checkNode(n *tfpb.NodeDef, name string, depth int) error {
	op, known := g.ops[n.GetOp()]
	switch {
	case !known:
		return notOptimized("TensorFlow has no operation %q", n.GetOp())
	case depth == 0 && (isVariable(n.GetOp()) || isTable(n.GetOp())):
		// bind and bindTables check these.
	case readers[n.GetOp()] || random[n.GetOp()] || hasEffect(n.GetOp()):
	case op.GetIsStateful():
		return notOptimized("%q (%s) has state", name, n.GetOp())
	case slices.ContainsFunc(op.GetInputArg(), (*tfpb.OpDef_ArgDef).GetIsRef):
		return notOptimized("%q (%s) may change a variable", name, n.GetOp())
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
		return notOptimized("calls of functions are more than %d deep", maxCallDepth)
	}
	f, ok := g.functions[name]
	if !ok {
		return notOptimized("the graph has no function %q", name)
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
	restored, err := restoredValues(g.meta, g.ops, g.budget)
	if err != nil {
		return err
	}
	start, err := startGraph(g.meta, g.ops, g.budget)
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
			return notOptimized("variable %q is set when the model starts", name)
		}
		value, ok := restored[name]
		if !ok {
			return notOptimized("variable %q is not restored", name)
		}
		w, err := g.weight(n, value)
		if err != nil {
			return err
		}
		if n.GetOp() == "VarHandleOp" {
			g.weights[name], g.nodes[name] = w, handleNode(name, w.entry)
			continue
		}
		// TensorFlow 1 reads a variable without another operation.
		handle := name + "/inceptor_handle"
		g.weights[handle], g.nodes[name] = w, readNode(name, handle, w.entry)
		if err := g.insert(handleNode(handle, w.entry)); err != nil {
			return err
		}
	}
	if len(g.weights) == 0 {
		return notOptimized("the signatures use no variables")
	}
	return nil
}

// isVariable says whether an operation is a variable.
func isVariable(op string) bool { return op == "VarHandleOp" || isReference(op) }

// isReference says whether an operation is a variable of TensorFlow 1, whose output refers to the
// memory of the value.
func isReference(op string) bool { return op == "VariableV2" || op == "Variable" }

// weight finds a variable's value in the checkpoint and checks its type and shape.
func (g *frozenGraph) weight(variable *tfpb.NodeDef, from savedValue) (*weight, error) {
	name := variable.GetName()
	e, ok := g.values.entries[from.key]
	if !ok {
		return nil, notOptimized("variable %q has no value: the checkpoint has no %q", name, from.key)
	}
	dtype := DataType(variable.GetAttr()["dtype"].GetType())
	shape := shapeOf(variable.GetAttr()["shape"].GetShape())
	if variable.GetOp() == "Variable" && len(shape) == 0 {
		shape = nil // this operation allows any shape then
	}
	if from.slice != nil {
		if e, ok = g.values.entries[sliceKey(from.key, from.slice)]; !ok || !slices.Equal(g.values.entries[from.key].shape, from.whole) {
			return nil, notOptimized("variable %q has no value: the checkpoint does not have this part of %q", name, from.key)
		}
	}
	switch {
	case e.sliced:
		return nil, notOptimized("variable %q is in several parts", name)
	case dtype.Size() == 0:
		return nil, notOptimized("variable %q holds %v", name, dtype)
	case e.dtype != dtype || !fits(e.shape, shape):
		return nil, notOptimized("variable %q is %v %v, but its value %v %v", name, dtype, shape, e.dtype, e.shape)
	case g.values.index.bigEndian:
		return nil, notOptimized("the checkpoint's numbers are big endian")
	}
	return &weight{entry: e}, nil
}

// fits says whether the pattern allows a known shape.
func fits(shape, pattern Shape) bool {
	return pattern == nil || slices.EqualFunc(shape, pattern, func(a, b int64) bool { return a == b || b < 0 })
}

// handleNode returns a variable for a weight.
func handleNode(name string, e bundleEntry) *tfpb.NodeDef {
	return &tfpb.NodeDef{Name: name, Op: "VarHandleOp", Attr: map[string]*tfpb.AttrValue{
		"dtype": typeAttr(tfpb.DataType(e.dtype)), "shape": shapeAttr(e.shape), "shared_name": bytesAttr(name),
	}}
}

// readNode returns a node that reads a variable.
func readNode(name, handle string, e bundleEntry) *tfpb.NodeDef {
	return &tfpb.NodeDef{Name: name, Op: "ReadVariableOp", Input: []string{handle}, Attr: map[string]*tfpb.AttrValue{
		"dtype": typeAttr(tfpb.DataType(e.dtype)),
	}}
}

// weightOf returns the weight that a tensor holds and its variable's node, or nil if it is not a
// weight.
func (g *frozenGraph) weightOf(tensor string) (handle string, w *weight) {
	if g.inControlFlow[nodeOf(tensor)] {
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

// handle returns the node of the variable that an input refers to, or "" if it is not a variable.
func (g *flatGraph) handle(input string) string {
	n := g.nodes[g.source(input)]
	if !isVariable(n.GetOp()) {
		return ""
	}
	return n.GetName()
}
