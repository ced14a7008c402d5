package savedmodel

import (
	"fmt"
	"slices"

	"inceptor/savedmodel/tfpb"
)

// maxWalkSteps bounds the inputs of operations that are looked at to follow one input. Functions
// that call one another twice have no other bound.
const maxWalkSteps = 100_000

// imageDecoders are the operations that decode an encoded image, their first input.
var imageDecoders = map[string]bool{
	"DecodeJpeg": true, "DecodeAndCropJpeg": true, "DecodePng": true, "DecodeGif": true, "DecodeBmp": true,
	"DecodeImage": true, "DecodeWebP": true, "DecodeJxl": true,
}

// carriers are operations whose first result holds the same strings as these inputs do, as a
// tensor, a list of tensors, or a TensorArray's flow.
var carriers = map[string][]int{
	"Identity": {0}, "RefIdentity": {0}, "Snapshot": {0}, "StopGradient": {0}, "PlaceholderWithDefault": {0},
	"Squeeze": {0}, "Reshape": {0}, "ExpandDims": {0}, "StridedSlice": {0}, "Slice": {0}, "GatherV2": {0}, "Transpose": {0},
	"Pack": {0}, "EnsureShape": {0},
	"Enter": {0}, "RefEnter": {0}, "Exit": {0}, "RefExit": {0}, "NextIteration": {0}, "RefNextIteration": {0},
	"Merge": {0, 1}, "RefMerge": {0, 1}, "Switch": {0}, "RefSwitch": {0},
	"TensorListFromTensor": {0}, "TensorListGetItem": {0}, "TensorListStack": {0}, "TensorListGather": {0},
	"TensorListSetItem": {0, 2}, "TensorListPushBack": {0, 1},
	"TensorArrayScatterV3": {2, 3}, "TensorArrayWriteV3": {2, 3}, "TensorArraySplitV3": {1, 3},
	"TensorArrayReadV3": {2}, "TensorArrayGatherV3": {2}, "TensorArrayConcatV3": {2},
}

// A frame is a body that is run: the main graph, or a function for one call of it.
type frame struct {
	body    *body
	caller  *frame
	call    *graphNode // of caller
	shift   int        // parameter i is input i+shift of the call
	depth   int
	callees map[callee]*frame
}

type callee struct{ node, function string }

// A graphWalk follows an input through a graph.
type graphWalk struct {
	g         *Graph
	sig       Signature
	top       *frame
	stepsLeft int
}

func (w *graphWalk) step() error {
	if w.stepsLeft--; w.stepsLeft < 0 {
		return fmt.Errorf("it leads through more than %d operations", maxWalkSteps)
	}
	return nil
}

// A state is a place that the input's strings come to.
type state struct {
	frame   *frame
	tensor  tensorRef
	parsed  bool   // they are those of a feature,
	feature string // which is this one
	same    bool   // the tensor is the input, unchanged
	base64  bool   // the tensor is what DecodeBase64 makes of the input
}

// A trail is a walk in progress.
type trail struct {
	*graphWalk
	use   *InputUse
	plain bool // images are decoded without DecodeBase64
	seen  map[state]bool
	stack []state
}

// follow finds the Decoders, Features and Returned of an input.
func (w *graphWalk) follow(start tensorRef, use *InputUse) error {
	t := &trail{graphWalk: w, use: use, seen: make(map[state]bool)}
	t.push(state{frame: w.top, tensor: start, same: true})
	for len(t.stack) > 0 {
		s := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		if s.frame == w.top && s.same {
			for key, info := range w.sig.Outputs {
				if info.Name != "" && w.g.main.ref(info.Name) == s.tensor {
					use.Returned = append(use.Returned, key)
				}
			}
		}
		for _, result := range s.frame.body.returnsOf(s.tensor) {
			if err := w.step(); err != nil {
				return err
			}
			t.leave(s, result)
		}
		for _, u := range s.frame.body.usesOf(s.tensor) {
			if err := w.step(); err != nil {
				return err
			}
			if err := t.visit(s, u); err != nil {
				return err
			}
		}
	}
	use.Base64 = use.Base64 && !t.plain // what is taken both ways is taken as it is
	slices.Sort(use.Returned)
	use.Returned = slices.Compact(use.Returned)
	return nil
}

func (t *trail) push(s state) {
	if !t.seen[s] {
		t.seen[s] = true
		t.stack = append(t.stack, s)
	}
}

// leave goes on where a function's result goes.
func (t *trail) leave(s state, result int) {
	call := s.frame.call
	if isWhile(call.op) { // to the next round
		next := s
		next.tensor, next.same = tensorRef{"", result}, false
		t.push(next)
	}
	s.same = s.same && len(t.g.callees(call)) == 1 && !isWhile(call.op)
	s.frame, s.tensor = s.frame.caller, tensorRef{call.name, result}
	t.push(s)
}

// visit goes on with what an operation makes of the strings.
func (t *trail) visit(s state, u use) error {
	n := u.node
	switch {
	case imageDecoders[n.op]:
		if u.slot == 0 {
			t.decoded(s, n.op)
		}
		return nil
	case isExampleParser(n.op):
		if u.slot == 0 && !s.parsed && !s.base64 {
			return t.parse(s, n)
		}
		return nil
	case n.op == "DecodeBase64" && !s.parsed && !s.base64:
		s.same, s.base64, s.tensor = false, true, tensorRef{n.name, 0}
		t.push(s)
		return nil
	case slices.Contains(carriers[n.op], u.slot) || n.op == "Pack" || n.op == "Merge":
		s.same = s.same && (n.op == "Identity" || n.op == "PlaceholderWithDefault")
		s.tensor = tensorRef{n.name, 0}
		t.push(s)
		if n.op == "Switch" || n.op == "RefSwitch" {
			s.tensor.index = 1
			t.push(s)
		}
		return nil
	}
	functions := t.g.callees(n)
	if (functions == nil || n.isBranch() && u.slot == 0) && !measures[n.op] && s.frame.isNeeded(n) {
		t.use.Computed = true
	}
	for _, function := range functions {
		f, err := t.enter(s.frame, n, function)
		if err != nil {
			return err
		}
		if f == nil || u.slot < f.shift {
			continue
		}
		inside := s
		inside.frame, inside.tensor = f, tensorRef{"", u.slot - f.shift}
		t.push(inside)
	}
	return nil
}

func (t *trail) decoded(s state, op string) {
	if !s.parsed {
		t.use.Base64, t.plain = t.use.Base64 || s.base64, t.plain || !s.base64
		t.use.Decoders = insertSorted(t.use.Decoders, op)
		return
	}
	f := t.use.Features[s.feature]
	f.Decoders = insertSorted(f.Decoders, op)
	t.use.Features[s.feature] = f
}

func insertSorted(list []string, s string) []string {
	if i, found := slices.BinarySearch(list, s); !found {
		return slices.Insert(list, i, s)
	}
	return list
}

func isWhile(op string) bool { return op == "While" || op == "StatelessWhile" }

// callees are the functions that an operation runs on its inputs.
func (g *Graph) callees(n *graphNode) []string {
	name := func(attr string) string { return n.attr[attr].GetFunc().GetName() }
	switch n.op {
	case "PartitionedCall", "StatefulPartitionedCall", "TPUPartitionedCall", "BatchFunction":
		return []string{name("f")}
	case "While", "StatelessWhile":
		return []string{name("body")}
	case "If", "StatelessIf":
		return []string{name("then_branch"), name("else_branch")}
	case "Case", "StatelessCase":
		var names []string
		for _, f := range n.attr["branches"].GetList().GetFunc() {
			names = append(names, f.GetName())
		}
		return names
	}
	if g.functions[n.op] != nil { // as TensorFlow 1 calls functions
		return []string{n.op}
	}
	return nil
}

// enter is the frame of a function that a node of f calls; nil: there is no such function.
func (w *graphWalk) enter(f *frame, n *graphNode, function string) (*frame, error) {
	b := w.g.functions[function]
	if b == nil {
		return nil, nil
	}
	key := callee{n.name, function}
	if inner := f.callees[key]; inner != nil {
		return inner, nil
	}
	if f.depth == maxCallDepth {
		return nil, fmt.Errorf("calls of functions are more than %d deep", maxCallDepth)
	}
	inner := &frame{body: b, caller: f, call: n, depth: f.depth + 1}
	if n.isBranch() {
		inner.shift = 1
	}
	if f.callees == nil {
		f.callees = make(map[callee]*frame)
	}
	f.callees[key] = inner
	return inner, nil
}

// isBranch tells whether an operation runs one of several functions, by its first input.
func (n *graphNode) isBranch() bool {
	switch n.op {
	case "If", "StatelessIf", "Case", "StatelessCase":
		return true
	}
	return false
}

// isNeeded tells whether a node of the frame serves an output of the signature.
func (f *frame) isNeeded(n *graphNode) bool {
	for ; f != nil && f.body.forResults()[n.name]; n, f = f.call, f.caller {
		if f.caller == nil {
			return true
		}
	}
	return false
}

// constOf is the value of a tensor that a Const gives, nil if another operation does.
func (w *graphWalk) constOf(f *frame, t tensorRef) *tfpb.TensorProto {
	for range maxFlatDepth {
		n := f.body.nodes[t.node]
		if t.node == "" {
			if f, t = w.argument(f, t.index); f == nil {
				return nil
			}
			continue
		}
		if n == nil || w.fed(f, n) {
			return nil
		}
		switch n.op {
		case "Const":
			return n.attr["value"].GetTensor()
		case "Identity", "Enter", "StopGradient", "Snapshot":
			if len(n.inputs) == 0 {
				return nil
			}
			t = f.body.ref(n.inputs[0])
		default:
			return nil
		}
	}
	return nil
}

// argument is what a function's call gives for a parameter; a nil frame: that is not known.
func (w *graphWalk) argument(f *frame, i int) (*frame, tensorRef) {
	if f.caller == nil || isWhile(f.call.op) || i+f.shift >= len(f.call.inputs) {
		return nil, tensorRef{}
	}
	return f.caller, f.caller.body.ref(f.call.inputs[i+f.shift])
}

// fed tells whether the signature's caller may give a node's result.
func (w *graphWalk) fed(f *frame, n *graphNode) bool {
	if f.caller != nil {
		return false
	}
	for _, info := range w.sig.Inputs {
		if nodeOf(info.Name) == n.name {
			return true
		}
	}
	return false
}
