package savedmodel

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

const (
	// maxFlatNodes bounds a graph after the bodies of functions have replaced their calls.
	// Functions that call one another twice would grow without it.
	maxFlatNodes  = 200_000
	maxFlatInputs = 4_000_000
	maxCallDepth  = 64
	// maxFlatDepth bounds the longest chain of inputs, because recursion follows it and a stack of
	// Go may not exceed 1 GB.
	maxFlatDepth = 20_000
	maxOpened    = 2_000_000 // operations of all called functions, counted for each call
)

// errNotOptimized is wrapped by errors that say why a graph is left to TensorFlow's loader.
var errNotOptimized = errors.New("not optimized")

func notOptimized(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errNotOptimized, fmt.Sprintf(format, args...))
}

// A flatGraph is a part of a model's graph without calls of functions. The nodes of the function's
// body, named "call/node", replace each call. Nodes refer to one another by "node", "node:1" or
// "^node", as in any main graph. It holds only nodes that were asked for, and their inputs.
type flatGraph struct {
	ops       map[string]*tfpb.OpDef
	functions map[string]*tfpb.FunctionDef
	main      *scope
	nodes     map[string]*tfpb.NodeDef
	order     []string // of nodes: each after its inputs, except for loops' back edges
	// fed are the nodes whose results a caller gives, so their values are unknown.
	fed map[string]bool
	// called are the replaced calls.
	called []calledNode
	// loopEnds are the back edges of loops that are still to be added.
	loopEnds []loopEnd

	inputsLeft, openedLeft, depthLeft int // how much is left of the bounds above
	budget                            *loadBudget
}

type calledNode struct {
	name   string
	inputs []string
}

type loopEnd struct {
	scope *scope
	node  *tfpb.NodeDef
}

// A scope is the main graph, or the body of a function for one call. Its nodes are added to a
// flatGraph.
type scope struct {
	prefix string // of its nodes' names in the flatGraph
	depth  int    // nested calls
	nodes  map[string]*tfpb.NodeDef
	done   map[string]bool // true once a node is added, false while its inputs are
	calls  map[string]*scope

	function *tfpb.FunctionDef // nil for the main graph
	args     map[string]string // the call's inputs, by the parameter's name
	waits    []string          // control inputs of the call
}

func newFlatGraph(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, budget *loadBudget) *flatGraph {
	g := &flatGraph{
		ops:       ops,
		functions: make(map[string]*tfpb.FunctionDef),
		nodes:     make(map[string]*tfpb.NodeDef),
		main:      newScope("", mg.GetGraphDef().GetNode()),

		inputsLeft: maxFlatInputs, openedLeft: maxOpened, depthLeft: maxFlatDepth, budget: budget,
	}
	for _, f := range mg.GetGraphDef().GetLibrary().GetFunction() {
		g.functions[f.GetSignature().GetName()] = f
	}
	return g
}

func newScope(prefix string, nodes []*tfpb.NodeDef) *scope {
	s := &scope{prefix: prefix, nodes: make(map[string]*tfpb.NodeDef, len(nodes)), done: make(map[string]bool), calls: make(map[string]*scope)}
	for _, n := range nodes {
		s.nodes[n.GetName()] = n
	}
	return s
}

// tensor adds the operations that compute a tensor of s, and returns its name in g.
func (g *flatGraph) tensor(s *scope, name string) (string, error) {
	node, rest, _ := strings.Cut(name, ":")
	if flat, ok := s.args[node]; ok {
		return flat, nil
	}
	n, ok := s.nodes[node]
	if !ok {
		return "", notOptimized("the graph has no operation %q", s.prefix+node)
	}
	index := 0
	if rest != "" {
		var err error
		if index, err = g.outputIndex(s, n, rest); err != nil {
			return "", err
		}
	}
	if !isCall(n) {
		if err := g.add(s, n); err != nil {
			return "", err
		}
		return output(s.prefix+node, index), nil
	}
	callee, err := g.call(s, n)
	if err != nil {
		return "", err
	}
	results := callee.function.GetSignature().GetOutputArg()
	if index < 0 || index >= len(results) {
		return "", notOptimized("%q has no result %d", s.prefix+node, index)
	}
	return g.tensor(callee, callee.function.GetRet()[results[index].GetName()])
}

// control adds a node of s, and returns the control inputs, "^node", that wait for it in g. For a
// call they wait for all operations that the function says must run.
func (g *flatGraph) control(s *scope, name string) ([]string, error) {
	if flat, ok := s.args[name]; ok {
		return []string{"^" + nodeOf(flat)}, nil
	}
	n, ok := s.nodes[name]
	if !ok {
		return nil, notOptimized("the graph has no operation %q", s.prefix+name)
	}
	if !isCall(n) {
		return []string{"^" + s.prefix + name}, g.add(s, n)
	}
	callee, err := g.call(s, n)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, key := range callee.function.GetSignature().GetControlOutput() {
		flat, err := g.control(callee, callee.function.GetControlRet()[key])
		if err != nil {
			return nil, err
		}
		all = append(all, flat...)
	}
	return all, nil
}

func output(node string, index int) string {
	if index == 0 {
		return node
	}
	return node + ":" + strconv.Itoa(index)
}

func isCall(n *tfpb.NodeDef) bool { return isPlainCall(n.GetOp()) }

// add copies a node of s and its inputs to g.
func (g *flatGraph) add(s *scope, n *tfpb.NodeDef) error {
	name := n.GetName()
	if done, ok := s.done[name]; ok {
		if !done {
			return notOptimized("%q is part of a loop", s.prefix+name)
		}
		return nil
	}
	s.done[name] = false
	inputs, err := g.inputs(s, n)
	if err != nil {
		return err
	}
	s.done[name] = true
	flat := &tfpb.NodeDef{Name: s.prefix + name, Op: plainOp(n.GetOp()), Device: n.GetDevice(), Input: inputs, Attr: make(map[string]*tfpb.AttrValue)}
	for key, value := range n.GetAttr() {
		if _, ok := value.GetValue().(*tfpb.AttrValue_Placeholder); ok {
			return notOptimized("%q takes the attribute %s from its function's call", flat.GetName(), key)
		}
		switch key {
		case "_class", "_output_shapes", "_has_manual_control_dependencies": // wrong for the new graph
		default:
			flat.Attr[key] = value
		}
	}
	if flat.GetOp() == "Enter" { // each call of a function runs its loop in a frame of its own
		flat.Attr["frame_name"] = bytesAttr(s.prefix + string(n.GetAttr()["frame_name"].GetS()))
	}
	return g.insert(flat)
}

func (g *flatGraph) insert(n *tfpb.NodeDef) error {
	if _, ok := g.nodes[n.GetName()]; ok {
		return notOptimized("two operations would be called %q", n.GetName())
	}
	if len(g.order) == maxFlatNodes {
		return notOptimized("more than %d operations", maxFlatNodes)
	}
	if err := g.budget.charge(int64(nodeCost + len(n.GetName()))); err != nil {
		return err
	}
	g.nodes[n.GetName()] = n
	g.order = append(g.order, n.GetName())
	return nil
}

// loopEnd returns the NextIteration that an input of a Merge comes from. It returns nil for any
// other input.
func (g *flatGraph) loopEnd(s *scope, n *tfpb.NodeDef, input string) *tfpb.NodeDef {
	end := s.nodes[nodeOf(input)]
	if plainOp(n.GetOp()) != "Merge" || plainOp(end.GetOp()) != "NextIteration" {
		return nil
	}
	return end
}

// addLoopEnds adds the back edges of loops, with their inputs.
func (g *flatGraph) addLoopEnds() error {
	for len(g.loopEnds) > 0 {
		end := g.loopEnds[0]
		g.loopEnds = g.loopEnds[1:]
		if err := g.add(end.scope, end.node); err != nil {
			return err
		}
	}
	return nil
}

// inputs adds the inputs of a node of s, and returns their names in g.
func (g *flatGraph) inputs(s *scope, n *tfpb.NodeDef) ([]string, error) {
	if g.depthLeft == 0 {
		return nil, notOptimized("operations are more than %d deep", maxFlatDepth)
	}
	g.depthLeft--
	defer func() { g.depthLeft++ }()
	var data, controls []string
	for _, in := range n.GetInput() {
		if name, ok := strings.CutPrefix(in, "^"); ok {
			flat, err := g.control(s, name)
			if err != nil {
				return nil, err
			}
			controls = append(controls, flat...)
			continue
		}
		if end := g.loopEnd(s, n, in); end != nil {
			g.loopEnds = append(g.loopEnds, loopEnd{s, end})
			data = append(data, s.prefix+end.GetName())
			continue
		}
		flat, err := g.tensor(s, in)
		if err != nil {
			return nil, err
		}
		data = append(data, flat)
	}
	controls = append(controls, s.waits...)
	if g.inputsLeft -= len(data) + len(controls); g.inputsLeft < 0 {
		return nil, notOptimized("more than %d inputs of operations", maxFlatInputs)
	}
	size := 0
	for _, in := range data {
		size += inputCost + len(in)
	}
	for _, in := range controls {
		size += inputCost + len(in)
	}
	if err := g.budget.charge(int64(size)); err != nil {
		return nil, err
	}
	slices.Sort(controls)
	return append(data, slices.Compact(controls)...), nil
}

// call returns the scope of the function that a node of s calls.
func (g *flatGraph) call(s *scope, n *tfpb.NodeDef) (*scope, error) {
	if callee, ok := s.calls[n.GetName()]; ok {
		if callee == nil {
			return nil, notOptimized("%q is part of a loop", s.prefix+n.GetName())
		}
		return callee, nil
	}
	s.calls[n.GetName()] = nil // until its inputs are added
	name := n.GetAttr()["f"].GetFunc().GetName()
	f, ok := g.functions[name]
	switch {
	case !ok:
		return nil, notOptimized("%q calls the unknown function %q", s.prefix+n.GetName(), name)
	case s.depth == maxCallDepth:
		return nil, notOptimized("calls of functions are more than %d deep", maxCallDepth)
	case f.GetAttr()["_XlaMustCompile"].GetB() || n.GetAttr()["_XlaMustCompile"].GetB():
		return nil, notOptimized("function %q is for the XLA compiler", name)
	}
	if g.openedLeft -= 1 + len(f.GetNodeDef()); g.openedLeft < 0 {
		return nil, notOptimized("functions call one another too often")
	}
	if err := g.budget.charge(int64(scopeCost*(1+len(f.GetNodeDef())) + len(s.prefix) + len(n.GetName()))); err != nil {
		return nil, err
	}
	inputs, err := g.inputs(s, n)
	if err != nil {
		return nil, err
	}
	g.called = append(g.called, calledNode{s.prefix + n.GetName(), inputs})
	args := f.GetSignature().GetInputArg()
	callee := newScope(s.prefix+n.GetName()+"/", f.GetNodeDef())
	callee.depth = s.depth + 1
	callee.function = f
	callee.args = make(map[string]string, len(args))
	for i, in := range inputs {
		switch {
		case strings.HasPrefix(in, "^"):
			callee.waits = append(callee.waits, in)
		case i < len(args):
			callee.args[args[i].GetName()] = in
		}
	}
	if len(inputs)-len(callee.waits) != len(args) {
		return nil, notOptimized("%q gives %d arguments to the function %q", s.prefix+n.GetName(), len(inputs)-len(callee.waits), name)
	}
	s.calls[n.GetName()] = callee
	return callee, nil
}

// outputIndex returns the number of an output of n from the text after its name: "1" in the main
// graph, "output:1" in a function's body.
func (g *flatGraph) outputIndex(s *scope, n *tfpb.NodeDef, rest string) (int, error) {
	arg, number, named := strings.Cut(rest, ":")
	if !named {
		number = arg
	}
	index, err := strconv.Atoi(number)
	if err != nil || index < 0 || named == (s.function == nil) {
		return 0, notOptimized("%q is no result of %q", rest, s.prefix+n.GetName())
	}
	if !named {
		return index, nil
	}
	var results []*tfpb.OpDef_ArgDef
	if isCall(n) {
		// A call has one list of results, named "output".
		return index, nil
	}
	op, ok := g.ops[n.GetOp()]
	if !ok {
		return 0, notOptimized("TensorFlow has no operation %q", n.GetOp())
	}
	results = op.GetOutputArg()
	for _, r := range results {
		if r.GetName() == arg {
			return index, nil
		}
		before := int64(1)
		switch {
		case r.GetNumberAttr() != "":
			before = n.GetAttr()[r.GetNumberAttr()].GetI()
		case r.GetTypeListAttr() != "":
			before = int64(len(n.GetAttr()[r.GetTypeListAttr()].GetList().GetType()))
		}
		if before < 0 || before > maxFlatInputs || index > maxFlatInputs {
			break
		}
		index += int(before)
	}
	return 0, notOptimized("%q is no result of %q", rest, s.prefix+n.GetName())
}

// fresh returns a name that no operation has.
func (g *flatGraph) fresh(name string) string {
	for g.nodes[name] != nil {
		name += "_"
	}
	return name
}

// append adds nodes with new names.
func (g *flatGraph) append(nodes ...*tfpb.NodeDef) {
	for _, node := range nodes {
		g.nodes[node.GetName()] = node
		g.order = append(g.order, node.GetName())
	}
}

// prune removes every node that no root needs.
func (g *flatGraph) prune(roots []string) {
	keep := make(map[string]bool, len(g.nodes))
	stack := slices.Clone(roots)
	for len(stack) > 0 {
		name := nodeOf(stack[len(stack)-1])
		stack = stack[:len(stack)-1]
		if !keep[name] {
			keep[name] = true
			stack = append(stack, g.nodes[name].GetInput()...)
		}
	}
	g.order = slices.DeleteFunc(g.order, func(name string) bool {
		if !keep[name] {
			delete(g.nodes, name)
		}
		return !keep[name]
	})
}

// nodeOf returns the node that an input names.
func nodeOf(input string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(input, "^"), ":")
	return name
}

func cloneNode(n *tfpb.NodeDef) *tfpb.NodeDef { return proto.Clone(n).(*tfpb.NodeDef) }
