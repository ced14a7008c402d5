package savedmodel

import (
	"fmt"
	"slices"

	"inceptor/savedmodel/tfpb"
)

// maxWalkSteps bounds the work to follow one input: the number of inputs of operations visited.
// Functions that call one another twice have no other bound.
const maxWalkSteps = 100_000

// imageDecoders are the operations that decode their first input as an image.
var imageDecoders = map[string]bool{
	"DecodeJpeg": true, "DecodeAndCropJpeg": true, "DecodePng": true, "DecodeGif": true, "DecodeBmp": true,
	"DecodeImage": true, "DecodeWebP": true, "DecodeJxl": true,
}

// carriers are operations whose first result holds the strings of these inputs, as a tensor, a list
// of tensors or a TensorArray's flow.
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

// A frame is a run of a body: the main graph, or one call of a function.
type frame struct {
	body    *body
	caller  *frame
	call    *graphNode // the caller's node
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

// A state is a tensor that holds the input's strings.
type state struct {
	frame   *frame
	tensor  tensorRef
	parsed  bool   // the strings are those of a feature
	feature string // the feature's name
	same    bool   // the tensor is the unchanged input
	base64  bool   // the tensor is the input after DecodeBase64
}

// A stringWalk finds all operations that use the input's strings.
type stringWalk struct {
	*graphWalk
	use   *InputUse
	plain bool // a decoder gets the input without DecodeBase64
	seen  map[state]bool
	stack []state // states to visit
}

// follow fills all fields of use but HasDefault and Pixels.
func (w *graphWalk) follow(start tensorRef, use *InputUse) error {
	t := &stringWalk{graphWalk: w, use: use, seen: make(map[state]bool)}
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
	use.Base64 = use.Base64 && !t.plain // a model that takes both gets the plain image
	slices.Sort(use.Returned)
	use.Returned = slices.Compact(use.Returned)
	return nil
}

func (t *stringWalk) push(s state) {
	if !t.seen[s] {
		t.seen[s] = true
		t.stack = append(t.stack, s)
	}
}

// leave follows a function's result to the caller.
func (t *stringWalk) leave(s state, result int) {
	call := s.frame.call
	if isWhile(call.op) { // and to the next turn of the loop
		next := s
		next.tensor, next.same = tensorRef{"", result}, false
		t.push(next)
	}
	s.same = s.same && len(t.g.callees(call)) == 1 && !isWhile(call.op)
	s.frame, s.tensor = s.frame.caller, tensorRef{call.name, result}
	t.push(s)
}

// visit follows the strings through an operation that uses them.
func (t *stringWalk) visit(s state, u use) error {
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
	if (functions == nil || n.isBranch() && u.slot == 0) && !shapeReaders[n.op] && s.frame.isNeeded(n) {
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

func (t *stringWalk) decoded(s state, op string) {
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

// callees returns the functions that an operation calls with its inputs.
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
	if g.functions[n.op] != nil { // TensorFlow 1 calls a function like an operation
		return []string{n.op}
	}
	return nil
}

// enter returns the frame of a function that a node of f calls. It returns nil if there is no such
// function.
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

// isBranch says whether an operation calls one of several functions, chosen by its first input.
func (n *graphNode) isBranch() bool {
	switch n.op {
	case "If", "StatelessIf", "Case", "StatelessCase":
		return true
	}
	return false
}

// isNeeded says whether an output of the signature depends on a node of the frame.
func (f *frame) isNeeded(n *graphNode) bool {
	for ; f != nil && f.body.forResults()[n.name]; n, f = f.call, f.caller {
		if f.caller == nil {
			return true
		}
	}
	return false
}

// constOf returns the value of a tensor that comes from a Const. It returns nil for any other
// tensor.
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

// argument returns the tensor that a call passes for parameter i, and the caller's frame. The frame
// is nil if the tensor is unknown.
func (w *graphWalk) argument(f *frame, i int) (*frame, tensorRef) {
	if f.caller == nil || isWhile(f.call.op) || i+f.shift >= len(f.call.inputs) {
		return nil, tensorRef{}
	}
	return f.caller, f.caller.body.ref(f.call.inputs[i+f.shift])
}

// fed says whether a node is an input of the signature, so that its value is unknown.
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
