package savedmodel

import (
	"bytes"
	"slices"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// Kernels says whose convolutions an optimized graph calls. Outputs differ by
// rounding only.
type Kernels int

const (
	// KernelsAuto are oneDNN's where the library has them.
	KernelsAuto Kernels = iota
	// KernelsTensorFlow are those that TensorFlow chooses by itself: its own,
	// unless oneDNN is on (TF_ENABLE_ONEDNN_OPTS).
	KernelsTensorFlow
	// KernelsOneDNN are oneDNN's, called by their names, so that it does not
	// matter whether oneDNN is on. They keep a second copy of the filters, in
	// their own order.
	KernelsOneDNN
)

func (k Kernels) String() string {
	switch k {
	case KernelsTensorFlow:
		return "tensorflow"
	case KernelsOneDNN:
		return "onednn"
	}
	return "auto"
}

// What TensorFlow's graph optimizer writes in the place of a convolution or
// product with its BiasAdd and Relu, and oneDNN's rewriting pass in the place
// of that. The last one's kernels have this label.
const (
	fusedConv    = "_FusedConv2D"
	fusedProduct = "_FusedMatMul"
	oneDNNConv   = "_MklNativeFusedConv2D"
	oneDNNLabel  = "MklNameChangeOp"
)

// fuse makes a convolution, or product of matrices, and the BiasAdd and Relu
// after it one operation, which has the last one's name, unless that is among
// the exceptions.
func (g *frozenGraph) fuse(k Kernels, except []string) {
	users := g.users()
	for _, name := range slices.Clone(g.order) {
		add := g.nodes[name]
		if add.GetOp() != "BiasAdd" || len(add.GetInput()) != 2 {
			continue
		}
		n := g.nodes[add.GetInput()[0]]
		if !g.fusible(n, add, users) {
			continue
		}
		fused := cloneNode(n)
		fused.Name = name
		fused.Input = append(fused.Input, add.GetInput()[1])
		fused.Attr["fused_ops"] = wordsAttr("BiasAdd")
		// Fused, a Relu hides NaN. Under a condition or in a loop nobody could tell; see watch.
		if u := users[name]; len(u) == 1 && !slices.Contains(g.roots, name) && !g.flow[name] {
			if relu := g.nodes[u[0]]; (relu.GetOp() == "Relu" || relu.GetOp() == "Relu6") && len(relu.GetInput()) == 1 {
				fused.Name = u[0]
				fused.Attr["fused_ops"] = wordsAttr("BiasAdd", relu.GetOp())
			}
		}
		fused.Attr["num_args"] = intAttr(1)
		fused.Op = fusedProduct
		for _, key := range []string{"grad_a", "grad_b"} { // which the fused product does not have
			delete(fused.Attr, key)
		}
		if n.GetOp() == "Conv2D" {
			fused.Op = fusedConv
			fused.Attr["TArgs"] = typesAttr([]tfpb.DataType{tfpb.DataType_DT_FLOAT})
			if _, w := g.weightOf(n.GetInput()[1]); w != nil && k == KernelsOneDNN {
				fused.Op = oneDNNConv
				fused.Attr["is_filter_const"] = boolAttr(true) // so that its order is changed only once
				fused.Attr["_kernel"] = bytesAttr(oneDNNLabel)
			}
		}
		if !slices.Contains(except, fused.Name) {
			g.nodes[fused.Name] = fused
		}
	}
	g.prune(g.roots)
}

// fusible tells whether add is all that is done with n, and both are plain.
func (g *frozenGraph) fusible(n, add *tfpb.NodeDef, users map[string][]string) bool {
	for _, x := range []*tfpb.NodeDef{n, add} {
		format := string(x.GetAttr()["data_format"].GetS())
		if len(x.GetInput()) != 2 || format != "" && format != "NHWC" || x.GetAttr()["T"].GetType() != tfpb.DataType_DT_FLOAT {
			return false
		}
	}
	if string(n.GetAttr()["padding"].GetS()) == "EXPLICIT" {
		return false // not all kernels know it
	}
	op := n.GetOp()
	return (op == "Conv2D" || op == "MatMul") && len(users[n.GetName()]) == 1 && !slices.Contains(g.roots, n.GetName())
}

// notFusible lists the fused convolutions that may be grouped, which
// TensorFlow's fused kernel does not do: those whose input does not have as
// many channels as the filter, as far as the session's graph knows. Exceptions are not listed
// again: the file itself may hold such operations, which nobody has fused here.
func (g *frozenGraph) notFusible(s *Session, except []string) ([]string, error) {
	var names []string
	for _, name := range g.order {
		n := g.nodes[name]
		if n.GetOp() != fusedConv && n.GetOp() != oneDNNConv || slices.Contains(except, name) {
			continue
		}
		var shapes [2][]int64 // of input and filter
		for i := range shapes {
			o, err := s.output(n.GetInput()[i])
			if err != nil {
				return nil, err
			}
			if shapes[i], err = s.graph.Shape(o); err != nil {
				return nil, err
			}
		}
		const rank, channels, filterChannels = 4, 3, 2
		if len(shapes[0]) != rank || len(shapes[1]) != rank || shapes[0][channels] < 0 || shapes[0][channels] != shapes[1][filterChannels] {
			names = append(names, name)
		}
	}
	return names, nil
}

// available is k, or what is to be used in its place with the open library.
func (k Kernels) available(ops map[string]*tfpb.OpDef) (Kernels, error) {
	if k == KernelsTensorFlow {
		return k, nil
	}
	kernels, err := ctf.RegisteredKernels(oneDNNConv)
	switch {
	case err == nil && ops[oneDNNConv] != nil && bytes.Contains(kernels, []byte(oneDNNLabel)):
		return KernelsOneDNN, nil
	case k == KernelsAuto:
		return KernelsTensorFlow, nil
	}
	return k, refuse("the library has no kernels of oneDNN")
}

// finished are operations that TensorFlow's graph optimizer has nothing to do
// for, once convolutions and products are fused.
var finished = map[string]bool{}

func init() {
	for _, op := range []string{
		"Add", "AddV2", "All", "ArgMax", "Assert", "AvgPool", "BiasAdd", "Cast", "ConcatV2", "Const", "Conv2D", "DecodeImage", "DecodeJpeg",
		"DecodePng", "DepthwiseConv2dNative", "EnsureShape", "ExpandDims", "Greater", "GreaterEqual", "HashTable", "HashTableV2", "Identity",
		"IdentityN", "IsFinite", "Less", "LogicalAnd", "LogicalNot", "LookupTableFind", "LookupTableFindV2", "MatMul", "Max", "MaxPool", "Mean",
		"Mul", "NoOp", "Pack", "Pad", "ParseExample", "ParseExampleV2", "Placeholder", "PlaceholderWithDefault", "Range", "ReadVariableOp",
		"RealDiv", "Relu", "Relu6", "Reshape", "ResizeBilinear", "Shape", "Sigmoid", "Size", "Slice", "Softmax", "Squeeze", "StatelessWhile",
		"StridedSlice", "Sub", "TensorListFromTensor", "TensorListReserve", "TensorListStack", "Tile", "TopKV2", "VarHandleOp", "While",
		fusedConv, fusedProduct, oneDNNConv, oneDNNMaxPool, oneDNNAvgPool,
	} {
		finished[op] = true
	}
}

// finished tells whether TensorFlow's graph optimizer may rest. It must where a
// condition or a loop has layers: fused, they would hide NaN, see watch.
func (g *frozenGraph) finished() bool {
	if slices.ContainsFunc(g.order, func(name string) bool { return g.flow[name] && linear[g.nodes[name].GetOp()] > 0 }) {
		return true
	}
	return !slices.ContainsFunc(g.order, func(name string) bool {
		op := g.nodes[name].GetOp()
		return !finished[op] && !controlFlow[op] && !isTensorArray(op) && !tableFillers[op]
	})
}
