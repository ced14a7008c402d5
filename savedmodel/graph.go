package savedmodel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A Graph is the structure of a model's graph: what it does with the inputs of its signatures.
// It is safe for concurrent use.
type Graph struct {
	Tags       []string // of the graph; empty, not nil, if it has none
	Signatures map[string]Signature
	TF2        bool // written by tf.saved_model.save: it has an object graph

	startup []string // nodes of the main graph that run at load: the restore operation, then others

	mu        sync.Mutex // guards what bodies remember
	main      *body
	functions map[string]*body
}

// InputUse tells what a graph does with an input of a signature.
type InputUse struct {
	// Decoders are the kinds of operation that decode what the input holds as encoded images,
	// sorted: "DecodeJpeg", "DecodeImage" …
	Decoders []string
	// Base64: the Decoders are for what DecodeBase64 makes of the input, which takes images in
	// web-safe base64.
	Base64 bool
	// Features are those of the tf.Examples that the input is parsed as; nil: it is not parsed.
	Features map[string]Feature
	// HasDefault: a caller may leave the input out, because the graph computes it from no other
	// input, as a PlaceholderWithDefault or a constant.
	HasDefault bool
	// Returned are the keys of the signature's outputs that are this input unchanged, sorted.
	Returned []string
	// Computed: outputs are computed from the strings or numbers in the input, by other operations
	// than those that decode or parse it.
	Computed bool
	// Pixels is what the graph computes first of each number in the input, of those that are not
	// strings. nil: it is not known, or nothing.
	Pixels *Affine
}

// A Feature is one that a graph takes from a tf.Example.
type Feature struct {
	DType    DataType
	Shape    Shape // in one example; nil where the length is free
	Required bool  // a dense one without a default
	Decoders []string
}

// An Affine is x*Scale + Offset. Both have one element, or one for each channel, the last
// dimension.
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

// Input tells what the graph does with an input of a signature. An error says that there is no
// such input, or why the graph cannot be followed.
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

// hasDefault tells whether the graph computes a node's result from no input and no queue.
func (g *Graph) hasDefault(name string) bool {
	for need := range g.main.needs([]string{name}) {
		switch op := g.main.nodes[need].op; {
		case op == "Placeholder", op == "PlaceholderV2", strings.Contains(op, "Iterator"), strings.Contains(op, "Queue"):
			return false
		}
	}
	return true
}
