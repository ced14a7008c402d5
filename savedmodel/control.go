package savedmodel

import (
	"slices"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// TensorFlow 1 writes conditions and loops as operations of the graph itself.
// A Switch gives its input to one of two outputs. The other one is dead, and
// so is all that takes it or waits for it. A Merge gives on the input that is
// not dead. A loop has a frame: Enter leads into it and Exit out of it, and an
// operation that has no input from a frame, not even a control input, is
// outside.

// controlFlow are these operations.
var controlFlow = map[string]bool{
	"Switch": true, "Merge": true, "Enter": true, "Exit": true, "NextIteration": true, "LoopCond": true, "ControlTrigger": true,
}

// plainOp is the name of an operation where variables are values: those that
// take or give on a reference to one get the name of those for values.
func plainOp(op string) string {
	if plain, ok := strings.CutPrefix(op, "Ref"); ok && (controlFlow[plain] || plain == "Identity") {
		return plain
	}
	return op
}

// A place is where a tensor is known to be there: under a condition, or in a
// loop's frame. What is there in each run has none.
type place struct {
	parent *place
	of     string // the condition or the frame
	yes    bool   // the condition holds
	frame  bool
	depth  int // places around it
}

// nowhere is the place of what is not understood.
var nowhere = &place{}

// A placing finds the places of a graph's tensors.
type placing struct {
	*frozenGraph
	nodes   map[string]*place // of what an operation gives, unless tensors say otherwise
	tensors map[string]*place
	known   map[place]*place // so that places are equal if their pointers are
}

func (g *frozenGraph) newPlacing() *placing {
	return &placing{g, make(map[string]*place), make(map[string]*place), make(map[place]*place)}
}

func (p *placing) child(c place) *place {
	if c.parent != nil {
		c.depth = c.parent.depth + 1
	}
	if c.parent == nowhere || c.depth == maxCallDepth {
		return nowhere
	}
	if p.known[c] == nil {
		p.known[c] = &c
	}
	return p.known[c]
}

// of is the place of an input.
func (p *placing) of(input string) *place {
	if at, ok := p.tensors[input]; ok {
		return at
	}
	return p.nodes[nodeOf(input)]
}

// within tells whether what is at a place is known to be there at another one.
func (at *place) within(other *place) bool {
	for ; at != other; at = at.parent {
		if at == nil || at == nowhere {
			return false
		}
	}
	return true
}

// join is the place of what needs all the inputs.
func (p *placing) join(inputs []string) *place {
	var at *place
	for _, in := range inputs {
		switch next := p.of(in); {
		case at == nowhere || next == nowhere:
			return nowhere
		case next.within(at):
			at = next
		case !at.within(next):
			return nowhere
		}
	}
	return at
}

// look finds the place of a node whose inputs were looked at, but for those
// that lead back in a loop.
func (p *placing) look(n *tfpb.NodeDef) {
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
		for at != nil && at != nowhere && !at.frame {
			at = at.parent
		}
		if at == nil {
			at = nowhere
		} else if at != nowhere {
			at = at.parent
		}
	case op == "Merge":
		at = p.merged(inputs)
	}
	p.nodes[name] = at
}

// merged is the place of what a Merge of these inputs gives.
func (p *placing) merged(inputs []string) *place {
	for i, in := range inputs {
		if p.frozenGraph.nodes[nodeOf(in)].GetOp() == "NextIteration" { // after it, the start of a loop
			return p.join(slices.Delete(slices.Clone(inputs), i, i+1))
		}
	}
	if len(inputs) != 2 {
		return nowhere
	}
	a, b := p.of(inputs[0]), p.of(inputs[1])
	if a == nil || b == nil || a == nowhere || b == nowhere || a.frame || b.frame || a.parent != b.parent || a.of != b.of || a.yes == b.yes {
		return nowhere
	}
	return a.parent
}

// decide removes conditions whose outcome is known, such as whether a model is
// in training, and what never runs because of them.
func (g *frozenGraph) decide() {
	d := deciding{
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
			d.look(n)
		}
	}
	g.prune(g.roots)
}

type deciding struct {
	*frozenGraph
	used           map[string]bool   // inputs of nodes
	nodes, tensors map[string]bool   // that are dead
	given          map[string]string // what a decided Switch gives on, by its output
}

func (d *deciding) dead(input string) bool {
	if name, ok := strings.CutPrefix(input, "^"); ok {
		return d.nodes[name]
	}
	return d.tensors[input] || d.nodes[nodeOf(input)]
}

// look looks at a node whose inputs were looked at.
func (d *deciding) look(n *tfpb.NodeDef) {
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
			// A loop's start, whose later turns nobody has looked at yet.
		case len(live) == 0:
			d.nodes[name] = true
		case len(live) == 1 && len(inputs) > 1 && !strings.HasPrefix(live[0], "^") && !d.used[output(name, 1)] && !d.later[name]:
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

// truth is a condition's value, if it is known.
func (g *frozenGraph) truth(tensor string) (yes, known bool) {
	not := false
	for range maxCallDepth {
		n := g.nodes[tensor]
		if n == nil || g.fed[tensor] {
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
