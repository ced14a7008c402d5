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
// after it one operation.
func (g *frozenGraph) fuse(k Kernels) {
	users := g.users()
	for _, name := range slices.Clone(g.order) {
		add := g.nodes[name]
		if add == nil || add.GetOp() != "BiasAdd" {
			continue
		}
		n := g.nodes[add.GetInput()[0]]
		if n == nil || !g.fusible(n, add, users) {
			continue
		}
		fused := cloneNode(n)
		fused.Name = name
		fused.Input = append(fused.Input, add.GetInput()[1])
		fused.Attr["fused_ops"] = wordsAttr("BiasAdd")
		if u := users[name]; len(u) == 1 && !slices.Contains(g.roots, name) {
			if relu := g.nodes[u[0]]; relu.GetOp() == "Relu" && len(relu.GetInput()) == 1 {
				fused.Name = u[0]
				fused.Attr["fused_ops"] = wordsAttr("BiasAdd", "Relu")
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
		g.nodes[fused.Name] = fused
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
	op := n.GetOp()
	return (op == "Conv2D" || op == "MatMul") && len(users[n.GetName()]) == 1 && !slices.Contains(g.roots, n.GetName())
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
		"Add", "AddV2", "Assert", "AvgPool", "BiasAdd", "Cast", "ConcatV2", "Const", "Conv2D", "DecodeImage", "DepthwiseConv2dNative",
		"EnsureShape", "ExpandDims", "Identity", "IdentityN", "MatMul", "MaxPool", "Mean", "Mul", "NoOp", "Pack", "Pad", "Placeholder",
		"ReadVariableOp", "Relu", "Relu6", "Reshape", "ResizeBilinear", "Shape", "Sigmoid", "Softmax", "Squeeze", "StatelessWhile",
		"StridedSlice", "Sub", "TensorListFromTensor", "TensorListReserve", "TensorListStack", "VarHandleOp", "While",
		fusedConv, fusedProduct, oneDNNConv,
	} {
		finished[op] = true
	}
}

// finished tells whether TensorFlow's graph optimizer may rest.
func (g *frozenGraph) finished() bool {
	return !slices.ContainsFunc(g.order, func(name string) bool { return !finished[g.nodes[name].GetOp()] })
}
