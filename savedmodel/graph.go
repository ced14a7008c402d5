package savedmodel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A Graph says what a model's graph does with the inputs of its signatures. ReadGraph makes one. It
// is safe for concurrent use.
type Graph struct {
	// Set once.
	Tags       []string // empty, not nil, if the graph has none
	Signatures map[string]Signature
	TF2        bool     // tf.saved_model.save wrote it, with an object graph
	startup    []string // nodes that run at load: the restore operation, then others

	mu        sync.Mutex // guards the bodies, which cache what they compute
	main      *body
	functions map[string]*body
}

// InputUse says what a graph does with an input of a signature.
type InputUse struct {
	// Decoders are the types of operation that decode the input as encoded images, sorted, such as
	// "DecodeJpeg".
	Decoders []string
	// Base64 says that the graph decodes the input from web-safe base64 before the Decoders.
	Base64 bool
	// Features are the features of the tf.Examples that the graph parses the input as. It is nil if
	// the graph does not parse the input.
	Features map[string]Feature
	// HasDefault says that a caller may leave the input out. The graph then computes it without any
	// other input, as a PlaceholderWithDefault or a constant.
	HasDefault bool
	// Returned are the keys of the signature's outputs that are this input unchanged, sorted.
	Returned []string
	// Computed says that operations other than decoders and parsers compute outputs from the
	// input's strings or numbers.
	Computed bool
	// Pixels is the first step of the graph's computation on each number of the input. It is nil
	// for strings, or if there is no such step or it is not known.
	Pixels *Affine
}

// A Feature is a feature that a graph reads from a tf.Example.
type Feature struct {
	DType    DataType
	Shape    Shape    // in one example; nil if the length may vary
	Required bool     // a dense feature without a default
	Decoders []string // as in InputUse
}

// An Affine is the function x*Scale + Offset. Each has one element, or one for each channel,
// which is the last dimension.
type Affine struct {
	Scale, Offset []float64
}

func newGraph(g *parsedGraph, tags []string) *Graph {
	s := g.structure
	if s == nil {
		s = &structure{main: newBody()}
	}
	startup := []string{g.def.GetSaverDef().GetRestoreOpName()}
	for _, info := range g.def.GetSignatureDef()[initOpKey].GetOutputs() {
		startup = append(startup, info.GetName())
	}
	return &Graph{Tags: tags, Signatures: signaturesOf(g.def), TF2: g.objects, startup: startup, main: s.main, functions: s.functions}
}

// Input says what the graph does with an input of a signature. It returns an error if there is no
// such input, or if the graph is too large or too deep to follow.
func (g *Graph) Input(signature, key string) (InputUse, error) {
	use, err := g.input(signature, key)
	if err != nil {
		return InputUse{}, fmt.Errorf("input %q of signature %q: %w", key, signature, err)
	}
	return use, nil
}

func (g *Graph) input(signature, key string) (InputUse, error) {
	sig, ok := g.Signatures[signature]
	if !ok {
		return InputUse{}, fmt.Errorf("the graph has no such signature, only %q", slices.Sorted(maps.Keys(g.Signatures)))
	}
	info, ok := sig.Inputs[key]
	if !ok {
		return InputUse{}, fmt.Errorf("the signature has no such input, only %q", slices.Sorted(maps.Keys(sig.Inputs)))
	}
	if info.Name == "" { // a tensor in several parts
		return InputUse{}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	start := g.main.ref(info.Name)
	if g.main.nodes[start.node] == nil {
		return InputUse{}, fmt.Errorf("the graph has no operation %q", start.node)
	}
	w := &graphWalk{g: g, sig: sig, stepsLeft: maxWalkSteps, top: &frame{body: g.main}}
	outputs := make([]string, 0, len(sig.Outputs))
	for _, info := range sig.Outputs {
		outputs = append(outputs, info.Name)
	}
	g.main.needed = g.main.needs(outputs)
	use := InputUse{HasDefault: g.hasDefault(start.node)}
	if err := w.follow(start, &use); err != nil {
		return InputUse{}, err
	}
	if info.DType != String {
		var err error
		if use.Pixels, err = w.pixels(start); err != nil {
			return InputUse{}, err
		}
	}
	return use, nil
}

// hasDefault says whether the graph computes a node's result without any input or queue.
func (g *Graph) hasDefault(name string) bool {
	for need := range g.main.needs([]string{name}) {
		switch op := g.main.nodes[need].op; {
		case op == "Placeholder", op == "PlaceholderV2", strings.Contains(op, "Iterator"), strings.Contains(op, "Queue"):
			return false
		}
	}
	return true
}
