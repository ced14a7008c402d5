package savedmodel

import "slices"

// A Layer is a layer of an optimized graph in float32 whose result PrecisionInt8 needs the range
// of.
type Layer struct {
	// Name is the same in each graph that is made of the same files.
	Name string
	// Multiplications of the convolution that gives the result, for one image; 0 if it is not
	// known, or if the layer is not computed in int8 itself.
	Multiplications int64
}

// Layers returns the layers whose ranges PrecisionInt8 needs, in the order of the graph. There is
// none if the graph is not optimized or not in float32, if no convolution could be computed in
// int8, or if the library or the processor cannot compute in int8.
func (m *Model) Layers() []Layer { return slices.Clone(m.layers) }

// LayerFunction is SignatureFunction for a function that also returns the results of layers, after
// the outputs. They are float32 tensors of 4 dimensions, the first the batch, the last the
// channels. TensorFlow makes kernels of its own for the function, which hold the filters once more
// until the model is closed.
func (m *Model) LayerFunction(key string, inputs, outputs, layers []string) (*Function, error) {
	f, err := m.SignatureFunction(key, inputs, outputs)
	if err != nil {
		return nil, err
	}
	checks := f.fetches[len(outputs):]
	results, err := m.Function(nil, layers)
	if err != nil {
		return nil, err
	}
	f.fetches = slices.Concat(f.fetches[:len(outputs)], results.fetches, checks)
	return f, nil
}

// layers returns the layers whose ranges int8 needs, if the graph is in float32, and the part of
// the convolutions' multiplications that the session s of the graph does in int8. If the size of a
// result is not known before an image is, it is the part of the filters' elements.
func (l *graphLoader) layers(s *Session) ([]Layer, float64) {
	type total struct{ all, int8 int64 }
	var multiplications, elements total
	count, known := make(map[string]int64), true // multiplications, by node
	for _, name := range l.order {
		n := l.nodes[name]
		if op := n.GetOp(); op != "Conv2D" && op != "DepthwiseConv2dNative" && op != quantizedConv && !isConv(n) {
			continue
		}
		_, w := l.weightOf(n.GetInput()[1])
		if w == nil || len(w.entry.shape) != 4 {
			continue
		}
		size, _ := w.entry.shape.Elements()
		if places := s.places(name); places >= 0 {
			count[name] = size * places
		} else {
			known = false
		}
		multiplications.all += count[name]
		elements.all += size
		if n.GetOp() == quantizedConv {
			multiplications.int8 += count[name]
			elements.int8 += size
		}
	}
	switch {
	case elements.int8 > 0 && known && multiplications.all > 0:
		return nil, float64(multiplications.int8) / float64(multiplications.all)
	case elements.int8 > 0:
		return nil, float64(elements.int8) / float64(elements.all)
	}
	if int8Missing(l.ops) != "" {
		return nil, 0
	}
	q := newQuantization(l.frozenGraph, nil)
	var list []Layer
	for _, name := range q.layers {
		layer := Layer{Name: name}
		if q.chosen[name] || q.signed[name] {
			layer.Multiplications = count[name]
		}
		list = append(list, layer)
	}
	return list, 0
}

// places returns the height times the width of a node's result of 4 dimensions; -1: they are not
// known.
func (s *Session) places(node string) int64 {
	o, err := s.output(node)
	if err != nil {
		return -1
	}
	shape, err := s.graph.Shape(o)
	if err != nil || len(shape) != 4 || shape[1] < 0 || shape[2] < 0 {
		return -1
	}
	return shape[1] * shape[2]
}
