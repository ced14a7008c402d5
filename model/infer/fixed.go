package infer

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// A Value is what inceptor.yaml feeds to an input that takes nothing from records: a number, true
// or false, a string, or a list of them.
type Value struct {
	elements []element
	list     bool
}

type element struct{ tag, text string }

// maxValueElements bounds the elements of a value.
const maxValueElements = 1 << 16

// UnmarshalYAML takes a scalar or a list of scalars.
func (v *Value) UnmarshalYAML(node *yaml.Node) error {
	node = resolve(node)
	*v = Value{list: node.Kind == yaml.SequenceNode}
	nodes := []*yaml.Node{node}
	if v.list {
		nodes = node.Content
	}
	for _, n := range nodes {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return fmt.Errorf("line %d: inputs: want a number, true, false, a string, or a list of them", n.Line)
		}
		v.elements = append(v.elements, element{n.Tag, n.Value})
	}
	return nil
}

// bindFixed feeds an input with a value of inceptor.yaml: the same for each record or, if the shape
// of the input has no batch, once for the batch.
func (b *binder) bindFixed(key string, in savedmodel.TensorInfo, v Value) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: inputs: %s: the input is %v, "+format, append([]any{b.fileName(), key, in}, args...)...)
	}
	f := feed{key: key, dtype: in.DType, shape: in.Shape, from: fromFile, perBatch: true}
	if len(in.Shape) > 0 && in.Shape[0] < 0 {
		f.perBatch, f.shape = false, in.Shape[1:]
	}
	if in.Shape == nil { // of any shape
		f.shape = savedmodel.Shape{}
		if v.list {
			f.shape = savedmodel.Shape{int64(len(v.elements))}
		}
	}
	n, ok := f.shape.Elements()
	switch {
	case in.Encoding != "" || !slices.Contains(rowTypes, in.DType):
		return wrong("and values can be %s: name a signature without it", commaList(rowTypes))
	case !ok || n < 1 || n > maxValueElements:
		return wrong("whose size is unknown or over %d elements: name a signature without it", maxValueElements)
	case int64(len(v.elements)) != n:
		return wrong("want %d elements, not %d", n, len(v.elements))
	}
	f.count, f.value = int(n), blankRow([]feed{{dtype: in.DType, count: int(n)}}, nil)
	for i, e := range v.elements {
		if !f.put(i, e) {
			return wrong("not %q", e.text)
		}
	}
	b.feeds = append(b.feeds, f)
	return nil
}

// put writes element i of the value; false: it is not of the input's type.
func (f feed) put(i int, e element) bool {
	size := f.dtype.Size()
	switch f.dtype {
	case savedmodel.String:
		f.value.strings[i] = []byte(e.text)
		return true
	case savedmodel.Bool:
		return (e.text == "true" || e.text == "false") && putElement(f.value.numbers[i:][:1], f.dtype, jsontext.Value(e.text))
	default:
		return (e.tag == "!!int" || e.tag == "!!float") && putElement(f.value.numbers[i*size:][:size], f.dtype, jsontext.Value(e.text))
	}
}
