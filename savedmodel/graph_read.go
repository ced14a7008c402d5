package savedmodel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

const (
	// maxStructure bounds the memory for the structure of a file's graphs, estimated in bytes from
	// the costs below.
	maxStructure = 256 << 20
	costNode     = 256
	costInput    = 64
	costAttrByte = 16 // a byte of a message may become a pointer and its target

	maxKeptField = 4 << 10 // bytes; a larger attribute, such as a weight, is skipped
)

// Field numbers of NodeDef and FunctionDef.
const (
	fieldNodeAttrs = 5 // NodeDef

	fieldFunctionSignature = 1 // FunctionDef
	fieldFunctionNodes     = 3
	fieldFunctionReturns   = 4
)

// keptAttrs are the attributes that a Graph needs. All others are skipped.
var keptAttrs = setOf(
	"value",                                               // constants
	"f", "body", "then_branch", "else_branch", "branches", // functions
	"Nsparse", "num_sparse", "sparse_keys", "sparse_types", // parsers of tf.Examples
	"dense_keys", "dense_shapes", "Tdense", "ragged_value_types",
	"is_training",
	"axis", "data_format", // where the channels are
	"begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask",
	"shared_name", // of variables
)

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// A structure is the structure of one graph, without large constants.
type structure struct {
	main      *body
	functions map[string]*body
}

// A body is a main graph or a function.
type body struct {
	nodes   map[string]*graphNode
	order   []*graphNode
	params  map[string]int // a function's parameters' numbers, by name
	results []string       // the tensors that a function returns

	// Computed on first use; guarded by Graph.mu.
	uses   map[tensorRef][]use // see usesOf
	rets   map[tensorRef][]int // see returnsOf
	needed map[string]bool     // see forResults
}

// A graphNode is an operation.
type graphNode struct {
	name, op string
	inputs   []string // without control inputs
	attr     map[string]*tfpb.AttrValue
}

// ReadGraph returns the structure of a graph in dir, a version's directory. It chooses the graph
// as Load does with these Options.Tags. It does not need TensorFlow. It skips large constants and
// takes bounded memory, whatever the size of saved_model.pb. An error about the file's contents
// wraps ErrMalformed; an error about the tags wraps a *TagsError.
func ReadGraph(dir string, tags []string) (*Graph, error) {
	name := filepath.Join(dir, graphFile)
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w%s", err, otherFormatAdvice(dir))
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g, err := parseGraph(f, st.Size(), tags)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return g, nil
}

// parseGraph reads a saved_model.pb of size bytes for ReadGraph.
func parseGraph(r io.ReadSeeker, size int64, tags []string) (*Graph, error) {
	s := &structureReader{left: maxStructure}
	graphs, err := walkGraphs(r, size, s.graph)
	if err != nil {
		return nil, err
	}
	all := tagsOf(graphs)
	i, err := chooseTags(all, tags)
	if err != nil {
		return nil, err
	}
	return newGraph(&graphs[i], all[i]), nil
}

// A structureReader reads the structures of the graphs in one file.
type structureReader struct {
	left int // of maxStructure
}

// charge takes bytes from maxStructure and returns an error if there are not so many left.
func (s *structureReader) charge(n int) error {
	if s.left -= n; s.left < 0 {
		return fmt.Errorf("%w: its operations take more than %d bytes of memory", ErrMalformed, maxStructure)
	}
	return nil
}

func newBody() *body { return &body{nodes: make(map[string]*graphNode), params: make(map[string]int)} }

// graph reads a GraphDef that ends at the byte end.
func (s *structureReader) graph(g *parsedGraph, w *wireReader, end int64) error {
	if g.structure == nil {
		g.structure = &structure{main: newBody(), functions: make(map[string]*body)}
	}
	return w.message(end, func(num protowire.Number, end int64) error {
		switch {
		case num == fieldNodes && end >= 0:
			return s.node(g.structure.main, w, end)
		case num == fieldLibrary && end >= 0:
			return w.message(end, func(num protowire.Number, end int64) error {
				if num != fieldLibFunctions || end < 0 {
					return nil
				}
				return s.function(g.structure, w, end)
			})
		}
		return nil
	})
}

// node adds a node to b. It reads a large node field by field, without the large attributes.
func (s *structureReader) node(b *body, w *wireReader, end int64) error {
	var (
		def tfpb.NodeDef
		err error
	)
	if end-w.off <= maxKeptField {
		_, err = w.check(end, &def)
	} else {
		err = w.message(end, func(num protowire.Number, end int64) error {
			if end < 0 || num == fieldNodeAttrs && end-w.off > maxKeptField {
				return nil
			}
			if err := s.charge(int(min(end-w.off, maxStructure))); err != nil {
				return err
			}
			return w.merge(num, end, &def)
		})
	}
	if err != nil {
		return err
	}
	n := &graphNode{name: def.GetName(), op: def.GetOp()}
	cost := costNode + len(n.name) + len(n.op)
	for _, in := range def.GetInput() {
		if !strings.HasPrefix(in, "^") {
			n.inputs = append(n.inputs, in)
			cost += costInput + len(in)
		}
	}
	for key, value := range def.GetAttr() {
		if !keptAttrs[key] || key == "value" && n.op != "Const" || key == "shared_name" && n.op != "VarHandleOp" {
			continue
		}
		if n.attr == nil {
			n.attr = make(map[string]*tfpb.AttrValue)
		}
		n.attr[key] = value
		cost += costNode + costAttrByte*proto.Size(value)
	}
	b.nodes[n.name] = n
	b.order = append(b.order, n)
	return s.charge(cost)
}

// function adds a function of the library to g.
func (s *structureReader) function(g *structure, w *wireReader, end int64) error {
	b := newBody()
	var def tfpb.FunctionDef // without its nodes
	err := w.message(end, func(num protowire.Number, end int64) error {
		switch {
		case end < 0:
			return nil
		case num == fieldFunctionNodes:
			return s.node(b, w, end)
		case num == fieldFunctionSignature || num == fieldFunctionReturns:
			if err := s.charge(costAttrByte * int(min(end-w.off, maxStructure))); err != nil {
				return err
			}
			return w.merge(num, end, &def)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, arg := range def.GetSignature().GetInputArg() {
		b.params[arg.GetName()] = i
	}
	for _, result := range def.GetSignature().GetOutputArg() {
		b.results = append(b.results, def.GetRet()[result.GetName()])
	}
	g.functions[def.GetSignature().GetName()] = b
	return s.charge(costNode)
}

// merge reads field num, which ends at the byte end, into m.
func (w *wireReader) merge(num protowire.Number, end int64, m proto.Message) error {
	if end-w.off > maxParsedPart {
		return malformed(w.off, "field %d has %d bytes, the limit is %d", num, end-w.off, maxParsedPart)
	}
	at := w.off
	b, err := w.bytes(end)
	if err != nil {
		return err
	}
	field := protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(field, m); err != nil {
		return malformed(at, "field %d: %v", num, err)
	}
	return nil
}

// A tensorRef is output index of a node. If node is empty, it is parameter index of a function.
type tensorRef struct {
	node  string
	index int
}

// ref returns the tensor that an input or a result of b names: "node" or "node:1" in a main graph,
// "parameter" or "node:output:1" in a function.
func (b *body) ref(name string) tensorRef {
	node, rest, _ := strings.Cut(name, ":")
	if i, ok := b.params[node]; ok {
		return tensorRef{"", i}
	}
	arg, number, named := strings.Cut(rest, ":")
	if !named {
		number = arg
	}
	index, err := strconv.Atoi(number)
	if err != nil || index < 0 || index > maxFlatInputs {
		index = 0
	}
	if n := b.nodes[node]; named && n != nil {
		index += n.firstOutput(arg)
	}
	return tensorRef{node, index}
}

// firstOutput returns the number of the first output with this name. The operations that a walk
// follows have only one, except those listed here.
func (n *graphNode) firstOutput(result string) int {
	switch n.op {
	case "Switch":
		if result == "output_true" {
			return 1
		}
	case "ParseExample", "ParseExampleV2", "ParseSingleExample":
		return n.exampleOutput(result)
	}
	return 0
}

// A use is an input of a node.
type use struct {
	node *graphNode
	slot int
}

// usesOf returns the inputs of nodes that use a tensor of b.
func (b *body) usesOf(t tensorRef) []use {
	if b.uses == nil {
		b.uses = make(map[tensorRef][]use)
		for _, n := range b.order {
			for slot, in := range n.inputs {
				ref := b.ref(in)
				b.uses[ref] = append(b.uses[ref], use{n, slot})
			}
		}
	}
	return b.uses[t]
}

// returnsOf returns the numbers of the function's results that are the tensor.
func (b *body) returnsOf(t tensorRef) []int {
	if b.rets == nil {
		b.rets = make(map[tensorRef][]int)
		for i, r := range b.results {
			ref := b.ref(r)
			b.rets[ref] = append(b.rets[ref], i)
		}
	}
	return b.rets[t]
}

// forResults returns the nodes that a body's results need. The results of the main graph are the
// outputs of the signature that is followed; Graph.Input sets that.
func (b *body) forResults() map[string]bool {
	if b.needed == nil {
		b.needed = b.needs(b.results)
	}
	return b.needed
}

// needs returns the nodes that compute the given tensors of b.
func (b *body) needs(tensors []string) map[string]bool {
	needed := make(map[string]bool)
	for stack := slices.Clone(tensors); len(stack) > 0; {
		name := nodeOf(stack[len(stack)-1])
		stack = stack[:len(stack)-1]
		n := b.nodes[name]
		if n == nil || needed[name] {
			continue
		}
		needed[name] = true
		stack = append(stack, n.inputs...)
	}
	return needed
}
