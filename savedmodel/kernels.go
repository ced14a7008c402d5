package savedmodel

import (
	"bytes"
	"slices"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// Kernels says whose convolutions an optimized graph calls. The outputs differ by rounding only.
type Kernels int

const (
	// KernelsAuto means oneDNN's kernels if the library has them, else TensorFlow's choice.
	KernelsAuto Kernels = iota
	// KernelsTensorFlow means the kernels that TensorFlow chooses: its own, or oneDNN's if
	// TF_ENABLE_ONEDNN_OPTS turns oneDNN on.
	KernelsTensorFlow
	// KernelsOneDNN means oneDNN's kernels, whether or not oneDNN is on. They keep a second copy of
	// the filters, in an order of their own.
	KernelsOneDNN
)

// String returns "auto", "tensorflow" or "onednn".
func (k Kernels) String() string {
	switch k {
	case KernelsTensorFlow:
		return "tensorflow"
	case KernelsOneDNN:
		return "onednn"
	}
	return "auto"
}

// Fused operations. TensorFlow's graph optimizer replaces a convolution or product and its BiasAdd
// and Relu by fusedConv or fusedProduct. oneDNN's rewriting pass replaces fusedConv by oneDNNConv,
// whose kernels have the label oneDNNLabel.
const (
	fusedConv    = "_FusedConv2D"
	fusedProduct = "_FusedMatMul"
	oneDNNConv   = "_MklNativeFusedConv2D"
	oneDNNLabel  = "MklNameChangeOp"
)

// fuse replaces a convolution or matrix product, and the BiasAdd and Relu after it, by one
// operation with the last one's name. It leaves alone those whose name is in except.
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
		// A fused Relu hides NaN. In control flow no check for that can be fetched; see
		// addFiniteChecks.
		if u := users[name]; len(u) == 1 && !slices.Contains(g.roots, name) && !g.inControlFlow[name] {
			if relu := g.nodes[u[0]]; (relu.GetOp() == "Relu" || relu.GetOp() == "Relu6") && len(relu.GetInput()) == 1 {
				fused.Name = u[0]
				fused.Attr["fused_ops"] = wordsAttr("BiasAdd", relu.GetOp())
			}
		}
		fused.Attr["num_args"] = intAttr(1)
		fused.Op = fusedProduct
		for _, key := range []string{"grad_a", "grad_b"} { // attributes that the fused product lacks
			delete(fused.Attr, key)
		}
		if n.GetOp() == "Conv2D" {
			fused.Op = fusedConv
			fused.Attr["TArgs"] = typesAttr([]tfpb.DataType{tfpb.DataType_DT_FLOAT})
			if _, w := g.weightOf(n.GetInput()[1]); w != nil && k == KernelsOneDNN {
				fused.Op = oneDNNConv
				fused.Attr["is_filter_const"] = boolAttr(true) // reorder the filter only once
				fused.Attr["_kernel"] = bytesAttr(oneDNNLabel)
			}
		}
		if !slices.Contains(except, fused.Name) {
			g.nodes[fused.Name] = fused
		}
	}
	g.prune(g.roots)
}

// fusible says whether add is the only user of n and the fused kernels support both.
func (g *frozenGraph) fusible(n, add *tfpb.NodeDef, users map[string][]string) bool {
	for _, x := range []*tfpb.NodeDef{n, add} {
		format := string(x.GetAttr()["data_format"].GetS())
		if len(x.GetInput()) != 2 || format != "" && format != "NHWC" || x.GetAttr()["T"].GetType() != tfpb.DataType_DT_FLOAT {
			return false
		}
	}
	if string(n.GetAttr()["padding"].GetS()) == "EXPLICIT" {
		return false // not all fused kernels support it
	}
	op := n.GetOp()
	return (op == "Conv2D" || op == "MatMul") && len(users[n.GetName()]) == 1 && !slices.Contains(g.roots, n.GetName())
}

// notFusible lists the fused convolutions that may be grouped, because TensorFlow's fused kernel
// does not support groups. A convolution may be grouped unless the session's graph knows that its
// input has as many channels as its filter. Names in l.except are left out: the file itself may
// hold such an operation, which fuse did not make.
func (l *graphLoader) notFusible(s *Session) ([]string, error) {
	var names []string
	for _, name := range l.order {
		n := l.nodes[name]
		if n.GetOp() != fusedConv && n.GetOp() != oneDNNConv || slices.Contains(l.except, name) {
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

// available returns the kernels to use for k with the open library.
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
	return k, notOptimized("the library has no oneDNN kernels")
}

// nothingToOptimize lists operations that TensorFlow's graph optimizer cannot improve once
// convolutions and products are fused.
var nothingToOptimize = map[string]bool{}

func init() {
	for _, op := range []string{
		"Add", "AddV2", "All", "ArgMax", "Assert", "AvgPool", "BiasAdd", "Cast", "ConcatV2", "Const", "Conv2D", "DecodeImage", "DecodeJpeg",
		"DecodePng", "DepthwiseConv2dNative", "EnsureShape", "ExpandDims", "Greater", "GreaterEqual", "HashTable", "HashTableV2", "Identity",
		"IdentityN", "IsFinite", "Less", "LogicalAnd", "LogicalNot", "LookupTableFind", "LookupTableFindV2", "MatMul", "Max", "MaxPool", "Mean",
		"Mul", "NoOp", "Pack", "Pad", "ParseExample", "ParseExampleV2", "Placeholder", "PlaceholderWithDefault", "Range", "ReadVariableOp",
		"RealDiv", "Relu", "Relu6", "Reshape", "ResizeBilinear", "Shape", "Sigmoid", "Size", "Slice", "Softmax", "Squeeze", "StatelessWhile",
		"StridedSlice", "Sub", "TensorListFromTensor", "TensorListReserve", "TensorListStack", "Tile", "TopKV2", "VarHandleOp", "While",
		fusedConv, fusedProduct, oneDNNConv, oneDNNMaxPool, oneDNNAvgPool,
		quantizedConv, quantizedMaxPool, quantizedAvgPool, quantizeOp, dequantizeOp,
	} {
		nothingToOptimize[op] = true
	}
}

// skipOptimizer says whether to turn TensorFlow's graph optimizer off. It must be off if control
// flow has layers, because fused layers hide NaN; see addFiniteChecks.
func (g *frozenGraph) skipOptimizer() bool {
	if slices.ContainsFunc(g.order, func(name string) bool { return g.inControlFlow[name] && linear[g.nodes[name].GetOp()] > 0 }) {
		return true
	}
	return !slices.ContainsFunc(g.order, func(name string) bool {
		op := g.nodes[name].GetOp()
		return !nothingToOptimize[op] && !controlFlow[op] && !isTensorArray(op) && !tableFillers[op]
	})
}
