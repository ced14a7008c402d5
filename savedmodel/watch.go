package savedmodel

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/cpu"

	"inceptor/savedmodel/tfpb"
)

// ErrNotFinite is wrapped by a run's error if what the model computes of its input, before its
// first layer that would hide that, is NaN or infinite. As the model is written, its scores mostly
// are NaN then; a batch may have one such input among others.
var ErrNotFinite = errors.New("what the model makes of its input is not finite")

// A convolution or product that is fused with the Relu or Relu6 after it may hide NaN: oneDNN's
// kernels make it 0, whoever fuses them. A Relu by itself hands it on, as all other operations do
// but MaxPool, which loses it in TensorFlow's own kernel too.
//
// Weights are finite, or masks. So NaN comes by the input, by a mask or a constant, or by an
// operation that makes it of finite numbers, such as a division by zero. A run therefore fetches,
// beside its outputs, one boolean for each tensor that enters such a layer and is not the result of
// another one: whether all its numbers are finite.

// keeping are operations of which finite numbers get finite ones, unless they are so large that
// float32 ends.
var keeping = map[string]bool{}

func init() {
	for _, op := range []string{
		"Add", "AddV2", "AvgPool", "BatchToSpaceND", "BiasAdd", "BroadcastTo", "ConcatV2", "Conv2D", "DepthwiseConv2dNative", "EnsureShape",
		"Elu", "ExpandDims", "GatherV2", "Identity", "LeakyRelu", "MatMul", "MaxPool", "Maximum", "Mean", "Minimum", "MirrorPad", "Mul", "Neg",
		"Pack", "Pad", "PadV2", "Relu", "Relu6", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Selu", "Sigmoid", "Slice", "Softmax",
		"Softplus", "SpaceToBatchND", "SpaceToDepth", "Square", "Squeeze", "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh", "Tile",
		"Transpose",
		fusedConv, fusedProduct, oneDNNConv,
	} {
		keeping[op] = true
	}
}

// integers are the types whose numbers are finite.
var integers = []DataType{Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64}

// hides tells whether a node's kernel may make a number of what is none.
func hides(n *tfpb.NodeDef) bool {
	words := n.GetAttr()["fused_ops"].GetList().GetS()
	return len(words) > 0 && len(n.GetInput()) > 0 && slices.Contains([]string{"Relu", "Relu6"}, string(words[len(words)-1]))
}

// oneDNNOn tells whether TensorFlow calls oneDNN's kernels by itself (IsMKLEnabled in
// tensorflow/core/util/util.cc). Its remapper then gains nothing with Inception, else a twentieth.
func oneDNNOn() bool {
	switch os.Getenv("TF_ENABLE_ONEDNN_OPTS") {
	case "0", "false":
		return false
	case "":
		x := cpu.X86
		return runtime.GOARCH != "amd64" || x.HasAVX512VNNI || x.HasAVX512BF16 || x.HasAVXVNNI || x.HasAMXTile || x.HasAMXInt8 || x.HasAMXBF16
	}
	return true
}

// watch adds, for each tensor that has to be finite, an operation that tells whether it is, and
// notes which of them are above each output of the signatures.
func (g *frozenGraph) watch() error {
	doubtful := make(map[string]bool) // by node: it may give what is not finite, as far as its operation tells
	finiteOf := make(map[string]string)
	for _, name := range g.sorted() {
		n := g.nodes[name]
		doubtful[name] = g.mayBreak(n, doubtful)
		if !hides(n) {
			continue
		}
		if slices.ContainsFunc(n.GetInput(), func(in string) bool { return g.flow[nodeOf(in)] }) {
			continue // it cannot be fetched
		}
		for _, in := range n.GetInput() {
			if !doubtful[nodeOf(in)] || finiteOf[in] != "" || isControl(in) {
				continue
			}
			told, err := g.tellFinite(in, n.GetAttr()["T"], fmt.Sprintf("inceptor/finite_%d", len(finiteOf)))
			if err != nil {
				return err
			}
			finiteOf[in] = told
		}
		doubtful[name] = g.fed[name] // or the run fails
	}
	g.watched = make(map[signatureOutput][]string)
	for key, def := range g.meta.GetSignatureDef() {
		if !callable(key) || len(finiteOf) == 0 {
			continue
		}
		inputs := make(map[string]bool)
		for _, info := range def.GetInputs() {
			inputs[nodeOf(info.GetName())] = true
		}
		for _, info := range def.GetOutputs() {
			root := nodeOf(info.GetName())
			list, err := g.above(root, inputs, finiteOf)
			if err != nil {
				return err
			}
			if len(list) > 0 {
				g.watched[signatureOutput{key, root}] = list
			}
		}
	}
	for _, told := range finiteOf {
		g.roots = append(g.roots, told)
	}
	return nil
}

// A signatureOutput is a node that gives an output of a signature. The same node may be computed of
// other inputs in another signature.
type signatureOutput struct{ signature, node string }

// above lists what tells about the layers that a run computes for an output, given the nodes that
// are its inputs.
func (g *frozenGraph) above(root string, inputs map[string]bool, finiteOf map[string]string) ([]string, error) {
	var list []string
	seen, stack := make(map[string]bool), []string{root}
	for len(stack) > 0 {
		name := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[name] || inputs[name] {
			continue
		}
		seen[name] = true
		n := g.nodes[name]
		if err := g.work.take(int64(1 + len(n.GetInput()))); err != nil {
			return nil, err
		}
		for _, in := range n.GetInput() {
			if told := finiteOf[in]; told != "" && hides(n) && !slices.Contains(list, told) {
				list = append(list, told)
			}
			stack = append(stack, nodeOf(in))
		}
	}
	return list, nil
}

// mayBreak tells whether a node may give what is not finite though its layers are: those before it
// are known.
func (g *frozenGraph) mayBreak(n *tfpb.NodeDef, doubtful map[string]bool) bool {
	dtype := func(key string) DataType { return DataType(n.GetAttr()[key].GetType()) }
	data := n.GetInput()
	switch op := n.GetOp(); {
	case g.fed[n.GetName()]:
		return !slices.Contains(integers, dtype("dtype"))
	case op == "Const":
		return infiniteConstant(n.GetAttr()["value"].GetTensor())
	case op == "ReadVariableOp" && len(data) > 0:
		return g.infinite(g.weights[g.handle(data[0])])
	case op == "VarHandleOp":
		return false
	case op == "Cast" && slices.Contains(integers, dtype("SrcT")), slices.Contains(integers, dtype("T")):
		return false
	case op == "RealDiv" && len(data) == 2:
		if by := g.nodes[data[1]]; by.GetOp() != "Const" || !divides(floatsOf(by.GetAttr()["value"].GetTensor())) {
			return true
		}
		data = data[:1]
	case op != "Cast" && !keeping[op]:
		return true
	}
	return slices.ContainsFunc(data, func(in string) bool { return doubtful[nodeOf(in)] })
}

// divides tells whether what is divided by the constant stays finite.
func divides(c *constant) bool {
	return c != nil && !slices.ContainsFunc(c.data, func(v float64) bool { return math.IsNaN(v) || math.Abs(v) < 1e-6 })
}

// tellFinite adds what tells whether all numbers of a tensor are finite, and returns its name.
func (g *frozenGraph) tellFinite(tensor string, dtype *tfpb.AttrValue, name string) (string, error) {
	index := func(name string, shape Shape, value int32) *tfpb.NodeDef {
		return &tfpb.NodeDef{Name: name, Op: "Const", Attr: map[string]*tfpb.AttrValue{
			"dtype": typeAttr(tfpb.DataType_DT_INT32),
			"value": tensorAttr(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT32, TensorShape: shapeMessage(shape), IntVal: []int32{value}}),
		}}
	}
	ints := typeAttr(tfpb.DataType_DT_INT32)
	for _, n := range []*tfpb.NodeDef{
		index(name+"/list", Shape{1}, -1), index(name+"/first", Shape{}, 0),
		{Name: name + "/flat", Op: "Reshape", Input: []string{tensor, name + "/list"}, Attr: map[string]*tfpb.AttrValue{"T": dtype, "Tshape": ints}},
		{Name: name + "/each", Op: "IsFinite", Input: []string{name + "/flat"}, Attr: map[string]*tfpb.AttrValue{"T": dtype}},
		{Name: name, Op: "All", Input: []string{name + "/each", name + "/first"}, Attr: map[string]*tfpb.AttrValue{
			"Tidx": ints, "keep_dims": boolAttr(false),
		}},
	} {
		if err := g.insert(n); err != nil {
			return "", err
		}
	}
	return name, nil
}

// sorted are the nodes, each after its inputs, but for those that lead back in a loop. (What fold
// adds is at the end of g.order.)
func (g *flatGraph) sorted() []string {
	list, done := make([]string, 0, len(g.order)), make(map[string]bool, len(g.order))
	var stack []string
	for _, name := range g.order {
		for stack = append(stack, name); len(stack) > 0; {
			name := stack[len(stack)-1]
			open := len(stack)
			merges := g.nodes[name].GetOp() == "Merge"
			for _, in := range g.nodes[name].GetInput() {
				if merges && g.nodes[nodeOf(in)].GetOp() == "NextIteration" {
					continue // which leads back in a loop
				}
				if !done[nodeOf(in)] {
					stack = append(stack, nodeOf(in))
				}
			}
			if len(stack) > open {
				continue
			}
			stack = stack[:open-1]
			if !done[name] {
				done[name] = true
				list = append(list, name)
			}
		}
	}
	return list
}
