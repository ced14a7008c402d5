package savedmodel

import (
	"errors"

	"inceptor/savedmodel/tfpb"
)

func isExampleParser(op string) bool {
	return op == "ParseExample" || op == "ParseExampleV2" || op == "ParseSingleExample"
}

// maxFeatures bounds the features of one tf.Example.
const maxFeatures = 10_000

// sparseFeatures returns the number of sparse features of a parser of tf.Examples.
func (n *graphNode) sparseFeatures() int {
	count := n.attr["Nsparse"].GetI()
	if n.op != "ParseExample" {
		count = n.attr["num_sparse"].GetI()
	}
	return int(max(0, min(count, maxFeatures)))
}

// exampleOutput returns the number of the first output with this name. A parser's outputs are the
// indices, values and shapes of all sparse features, then the values of the dense features, then
// the values and row splits of the ragged ones.
func (n *graphNode) exampleOutput(result string) int {
	sparse := n.sparseFeatures()
	switch result {
	case "sparse_values":
		return sparse
	case "sparse_shapes":
		return 2 * sparse
	case "dense_values":
		return 3 * sparse
	case "ragged_values":
		return 3*sparse + len(n.attr["Tdense"].GetList().GetType())
	case "ragged_row_splits":
		return 3*sparse + len(n.attr["Tdense"].GetList().GetType()) + len(n.attr["ragged_value_types"].GetList().GetType())
	}
	return 0
}

var errFeatureNames = errors.New("it is parsed as tf.Examples, but the names of their features are not constants")

// parse follows the features that a parser reads from tf.Examples.
func (t *stringWalk) parse(s state, n *graphNode) error {
	sparse, dense, ragged, defaults, err := t.featureNames(s.frame, n)
	if err != nil {
		return err
	}
	if t.use.Features == nil {
		t.use.Features = make(map[string]Feature)
	}
	add := func(key string, f Feature, output int) {
		if old, ok := t.use.Features[key]; ok { // parsed twice
			f.Decoders, f.Required = old.Decoders, f.Required || old.Required
		}
		t.use.Features[key] = f
		t.push(state{frame: s.frame, tensor: tensorRef{n.name, output}, parsed: true, feature: key})
	}
	for i, key := range sparse {
		add(key, Feature{DType: typeAt(n, "sparse_types", i)}, n.exampleOutput("sparse_values")+i)
	}
	shapes := n.attr["dense_shapes"].GetList().GetShape()
	for i, key := range dense {
		f := Feature{DType: typeAt(n, "Tdense", i), Required: true}
		if i < len(shapes) {
			f.Shape = shapeOf(shapes[i])
		}
		if i < len(defaults) {
			f.Required = t.isEmpty(s.frame, defaults[i])
		}
		add(key, f, n.exampleOutput("dense_values")+i)
	}
	for i, key := range ragged {
		add(key, Feature{DType: typeAt(n, "ragged_value_types", i)}, n.exampleOutput("ragged_values")+i)
	}
	return nil
}

func typeAt(n *graphNode, attr string, i int) DataType {
	types := n.attr[attr].GetList().GetType()
	if i >= len(types) {
		return Invalid
	}
	return DataType(types[i])
}

// isEmpty says whether a default is empty, which means that there is no default.
func (t *stringWalk) isEmpty(f *frame, input string) bool {
	p := t.constOf(f, f.body.ref(input))
	if p == nil {
		return false
	}
	n, ok := shapeOf(p.GetTensorShape()).Elements()
	return ok && n == 0
}

// featureNames returns the names of a parser's features, and its inputs with the defaults of the
// dense ones.
func (t *stringWalk) featureNames(f *frame, n *graphNode) (sparse, dense, ragged, defaults []string, err error) {
	numSparse, numDense := n.sparseFeatures(), len(n.attr["Tdense"].GetList().GetType())
	words := func(slot int) []string {
		if err != nil {
			return nil
		}
		if slot >= len(n.inputs) {
			err = errFeatureNames
			return nil
		}
		var list []string
		list, err = t.stringsOf(f, n.inputs[slot])
		return list
	}
	var after int
	switch n.op {
	case "ParseSingleExample": // serialized, dense_defaults…
		for _, s := range n.attr["sparse_keys"].GetList().GetS() {
			sparse = append(sparse, string(s))
		}
		for _, s := range n.attr["dense_keys"].GetList().GetS() {
			dense = append(dense, string(s))
		}
		after = 1
	case "ParseExampleV2": // serialized, names, sparse_keys, dense_keys, ragged_keys, dense_defaults…
		sparse, dense, ragged = words(2), words(3), words(4)
		after = 5
	default: // serialized, names, sparse_keys…, dense_keys…, dense_defaults…
		after = 2
		for range numSparse {
			sparse = append(sparse, words(after)...)
			after++
		}
		for range numDense {
			dense = append(dense, words(after)...)
			after++
		}
	}
	if err == nil && (len(sparse) != numSparse || len(dense) != numDense) {
		err = errFeatureNames
	}
	return sparse, dense, ragged, n.inputs[min(after, len(n.inputs)):], err
}

// stringsOf returns the strings of a constant.
func (t *stringWalk) stringsOf(f *frame, input string) ([]string, error) {
	p := t.constOf(f, f.body.ref(input))
	n, ok := shapeOf(p.GetTensorShape()).Elements()
	if p == nil || p.GetDtype() != tfpb.DataType_DT_STRING || !ok || n > maxFeatures {
		return nil, errFeatureNames
	}
	if n == 0 {
		return nil, nil
	}
	values, err := filled(p.GetStringVal(), n, stringOverhead)
	if err != nil {
		return nil, errFeatureNames
	}
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list, nil
}
