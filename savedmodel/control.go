package savedmodel

import (
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// TensorFlow 1 writes conditions and loops as operations of the graph. A Switch passes its input
// to one of two outputs. The other output is dead, and so is every operation that uses it or
// waits for it. A Merge passes on the input that is not dead. A loop has a frame: Enter leads
// into it and Exit out of it. An operation without an input from a frame, not even a control
// input, is outside it.

// controlFlow are the operations of conditions and loops.
var controlFlow = map[string]bool{
	"Switch": true, "Merge": true, "Enter": true, "Exit": true, "NextIteration": true, "LoopCond": true, "ControlTrigger": true,
}

// plainOp returns an operation's name for values, if op is its form for references to variables.
func plainOp(op string) string {
	if plain, ok := strings.CutPrefix(op, "Ref"); ok && (controlFlow[plain] || plain == "Identity") {
		return plain
	}
	return op
}

// A place says when a tensor is computed: under a condition, or in a loop's frame. A tensor that
// every run computes has the place nil.
type place struct {
	parent *place
	of     string // the condition or the frame
	yes    bool   // the condition is true
	frame  bool   // a loop's frame, not a condition
	depth  int    // number of places around it
}

// unknownPlace is the place of a tensor for which no place was found.
var unknownPlace = &place{}

// A placement finds the places of a graph's tensors.
type placement struct {
	*frozenGraph
	nodes   map[string]*place // of a node's outputs, unless they are in tensors
	tensors map[string]*place
	known   map[place]*place // makes equal places share a pointer
}

func newPlacement(g *frozenGraph) *placement {
	return &placement{g, make(map[string]*place), make(map[string]*place), make(map[place]*place)}
}

func (p *placement) child(c place) *place {
	if c.parent != nil {
		c.depth = c.parent.depth + 1
	}
	if c.parent == unknownPlace || c.depth == maxCallDepth {
		return unknownPlace
	}
	if p.known[c] == nil {
		p.known[c] = &c
	}
	return p.known[c]
}

// of returns the place of an input.
func (p *placement) of(input string) *place {
	if at, ok := p.tensors[input]; ok {
		return at
	}
	return p.nodes[nodeOf(input)]
}

// within says whether a tensor at this place is computed whenever the other place is reached.
func (at *place) within(other *place) bool {
	for ; at != other; at = at.parent {
		if at == nil || at == unknownPlace {
			return false
		}
	}
	return true
}

// join returns the place of an operation with these inputs.
func (p *placement) join(inputs []string) *place {
	var at *place
	for _, in := range inputs {
		switch next := p.of(in); {
		case at == unknownPlace || next == unknownPlace:
			return unknownPlace
		case next.within(at):
			at = next
		case !at.within(next):
			return unknownPlace
		}
	}
	return at
}

// add finds the place of a node. The places of its inputs are known, except for loops' back edges.
func (p *placement) add(n *tfpb.NodeDef) {
	name, inputs := n.GetName(), n.GetInput()
	at := p.join(inputs)
	switch op := n.GetOp(); {
	case op == "Switch" && len(inputs) > 1:
		condition := p.source(inputs[1])
		if p.frozenGraph.nodes[condition].GetOp() == "LoopCond" {
			break
		}
		for i := range 2 {
			p.tensors[output(name, i)] = p.child(place{parent: at, of: condition, yes: i == 1})
		}
	case op == "Enter":
		at = p.child(place{parent: at, of: string(n.GetAttr()["frame_name"].GetS()), frame: true})
	case op == "Exit":
		for at != nil && at != unknownPlace && !at.frame {
			at = at.parent
		}
		if at == nil {
			at = unknownPlace
		} else if at != unknownPlace {
			at = at.parent
		}
	case op == "Merge":
		at = p.merged(inputs)
	}
	p.nodes[name] = at
}

// merged returns the place of a Merge's result.
func (p *placement) merged(inputs []string) *place {
	for i, in := range inputs {
		if p.frozenGraph.nodes[nodeOf(in)].GetOp() == "NextIteration" { // this Merge begins a loop
			return p.join(slices.Delete(slices.Clone(inputs), i, i+1))
		}
	}
	if len(inputs) != 2 {
		return unknownPlace
	}
	a, b := p.of(inputs[0]), p.of(inputs[1])
	if a == nil || b == nil || a == unknownPlace || b == unknownPlace || a.frame || b.frame || a.parent != b.parent || a.of != b.of || a.yes == b.yes {
		return unknownPlace
	}
	return a.parent
}

// foldConditions removes conditions with a known value, such as whether a model is in training, and
// the operations that never run because of them.
func (g *frozenGraph) foldConditions() {
	d := conditionFolder{
		frozenGraph: g, used: make(map[string]bool),
		nodes: make(map[string]bool), tensors: make(map[string]bool), given: make(map[string]string),
	}
	for _, n := range g.nodes {
		for _, in := range n.GetInput() {
			d.used[in] = true
		}
	}
	for _, name := range g.order {
		if n := g.nodes[name]; !g.fed[name] {
			d.visit(n)
		}
	}
	g.prune(g.roots)
}

// A conditionFolder finds the operations that are dead because a condition's value is known.
type conditionFolder struct {
	*frozenGraph
	used           map[string]bool   // inputs of nodes
	nodes, tensors map[string]bool   // dead ones
	given          map[string]string // the tensor that replaces a Switch's live output
}

func (d *conditionFolder) dead(input string) bool {
	if name, ok := strings.CutPrefix(input, "^"); ok {
		return d.nodes[name]
	}
	return d.tensors[input] || d.nodes[nodeOf(input)]
}

// visit updates a node whose inputs have been visited.
func (d *conditionFolder) visit(n *tfpb.NodeDef) {
	for i, in := range n.GetInput() {
		if from, ok := d.given[in]; ok {
			n.Input[i] = from
		}
	}
	name, inputs := n.GetName(), n.GetInput()
	if n.GetOp() == "Merge" {
		live := slices.DeleteFunc(slices.Clone(inputs), d.dead)
		switch {
		case slices.ContainsFunc(inputs, func(in string) bool { return d.frozenGraph.nodes[nodeOf(in)].GetOp() == "NextIteration" }):
			// A loop's start: its back edge has not been visited yet.
		case len(live) == 0:
			d.nodes[name] = true
		case len(live) == 1 && len(inputs) > 1 && !strings.HasPrefix(live[0], "^") && !d.used[output(name, 1)] && !d.multiOutput[name]:
			d.frozenGraph.nodes[name] = &tfpb.NodeDef{
				Name: name, Op: "Identity", Device: n.GetDevice(), Input: live, Attr: map[string]*tfpb.AttrValue{"T": n.GetAttr()["T"]},
			}
		}
		return
	}
	if slices.ContainsFunc(inputs, d.dead) {
		d.nodes[name] = true
		return
	}
	if n.GetOp() != "Switch" || len(inputs) != 2 {
		return
	}
	if yes, known := d.truth(inputs[1]); known {
		live, dead := 0, 1
		if yes {
			live, dead = 1, 0
		}
		d.given[output(name, live)] = inputs[0]
		d.tensors[output(name, dead)] = true
	}
}

// truth returns a condition's value, if it is known.
func (d *conditionFolder) truth(tensor string) (yes, known bool) {
	not := false
	for range maxCallDepth {
		n := d.frozenGraph.nodes[tensor]
		if n == nil || d.fed[tensor] {
			break
		}
		switch op, inputs := n.GetOp(), n.GetInput(); {
		case op == "Const" && len(inputs) == 0:
			p := n.GetAttr()["value"].GetTensor()
			if DataType(p.GetDtype()) != Bool || len(p.GetTensorShape().GetDim()) > 0 {
				return false, false
			}
			switch {
			case len(p.GetBoolVal()) == 1:
				return p.GetBoolVal()[0] != not, true
			case len(p.GetTensorContent()) == 1:
				return (p.GetTensorContent()[0] != 0) != not, true
			}
			return false, false
		case len(inputs) != 1:
			return false, false
		case op == "Identity" || op == "PlaceholderWithDefault":
		case op == "LogicalNot":
			not = !not
		default:
			return false, false
		}
		tensor = n.GetInput()[0]
	}
	return false, false
}
