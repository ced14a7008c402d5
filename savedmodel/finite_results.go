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

// ErrNotFinite says that a run has computed NaN or infinity from its inputs, where a later layer
// would hide it. The model as written would usually answer NaN. If the run is a batch, a single
// input may be the cause.
var ErrNotFinite = errors.New("the model computes NaN or infinity from this input")

// A convolution or product that is fused with the Relu or Relu6 after it may hide NaN: oneDNN's
// kernels turn it into 0. A Relu that is not fused passes NaN on, as all other operations do,
// except MaxPool, which loses it in TensorFlow's own kernel too.
//
// Weights are finite, unless they are masks. So NaN comes from the input, a mask or a constant, or
// from an operation such as a division by zero. A run therefore fetches, together with its outputs,
// one boolean for each tensor that enters such a layer, unless another such layer computes it:
// whether all its numbers are finite.

// keepsFinite are operations that give finite results for finite inputs, unless they overflow
// float32.
var keepsFinite = map[string]bool{}

func init() {
	for _, op := range []string{
		"Add", "AddV2", "AvgPool", "BatchToSpaceND", "BiasAdd", "BroadcastTo", "ConcatV2", "Conv2D", "DepthwiseConv2dNative", "EnsureShape",
		"Elu", "ExpandDims", "GatherV2", "Identity", "LeakyRelu", "MatMul", "MaxPool", "Maximum", "Mean", "Minimum", "MirrorPad", "Mul", "Neg",
		"Pack", "Pad", "PadV2", "Relu", "Relu6", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Selu", "Sigmoid", "Slice", "Softmax",
		"Softplus", "SpaceToBatchND", "SpaceToDepth", "Square", "Squeeze", "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh", "Tile",
		"Transpose",
		fusedConv, fusedProduct, oneDNNConv, quantizedConv, quantizedMaxPool, quantizedAvgPool, dequantizeOp,
	} {
		keepsFinite[op] = true
	}
}

// integers are the types without NaN and infinity.
var integers = []DataType{Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64}

// hidesNaN says whether a node's kernel may turn NaN into a number.
func hidesNaN(n *tfpb.NodeDef) bool {
	if n.GetOp() == quantizeOp {
		return true
	}
	words := n.GetAttr()["fused_ops"].GetList().GetS()
	return len(words) > 0 && len(n.GetInput()) > 0 && slices.Contains([]string{"Relu", "Relu6"}, string(words[len(words)-1]))
}

// oneDNNOn says whether TensorFlow calls oneDNN's kernels by itself (IsMKLEnabled in
// tensorflow/core/util/util.cc). If so, TensorFlow's remapper does not make Inception faster; if
// not, it saves a twentieth of the time.
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

// addFiniteChecks adds an operation for each tensor that must be finite, which says whether it is.
// It also finds the checks that belong to each output of the signatures.
func (g *frozenGraph) addFiniteChecks() error {
	c := finiteChecker{frozenGraph: g, suspect: make(map[string]bool), checks: make(map[string]string)}
	for _, name := range g.sorted() {
		if err := c.add(g.nodes[name]); err != nil {
			return err
		}
	}
	if err := c.assign(); err != nil {
		return err
	}
	for _, check := range c.checks {
		g.roots = append(g.roots, check)
	}
	return nil
}

// A finiteChecker adds the checks. It visits each node after its inputs.
type finiteChecker struct {
	*frozenGraph
	suspect map[string]bool   // nodes that may give NaN or infinity
	checks  map[string]string // the check of a tensor
}

// add adds the checks that a node needs.
func (c *finiteChecker) add(n *tfpb.NodeDef) error {
	c.suspect[n.GetName()] = c.mayBeNonFinite(n)
	if !hidesNaN(n) {
		return nil
	}
	if slices.ContainsFunc(n.GetInput(), func(in string) bool { return c.inControlFlow[nodeOf(in)] }) {
		return nil // a check could not be fetched
	}
	for _, in := range n.GetInput() {
		if !c.suspect[nodeOf(in)] || c.checks[in] != "" || isControl(in) {
			continue
		}
		dtype := n.GetAttr()["T"]
		if n.GetOp() == quantizeOp { // T is the type of its result
			dtype = typeAttr(tfpb.DataType_DT_FLOAT)
		}
		check, err := c.addCheck(in, dtype)
		if err != nil {
			return err
		}
		c.checks[in] = check
	}
	c.suspect[n.GetName()] = c.fed[n.GetName()] // a run whose check fails has no results
	return nil
}

// assign sets the graph's finiteChecks.
func (c *finiteChecker) assign() error {
	c.finiteChecks = make(map[signatureOutput][]string)
	for key, def := range c.meta.GetSignatureDef() {
		if !callable(key) || len(c.checks) == 0 {
			continue
		}
		inputs := make(map[string]bool)
		for _, info := range def.GetInputs() {
			inputs[nodeOf(info.GetName())] = true
		}
		for _, info := range def.GetOutputs() {
			root := nodeOf(info.GetName())
			list, err := c.checksOn(root, inputs)
			if err != nil {
				return err
			}
			if len(list) > 0 {
				c.finiteChecks[signatureOutput{key, root}] = list
			}
		}
	}
	return nil
}

// A signatureOutput is the node of a signature's output. In another signature the same node may
// depend on other inputs.
type signatureOutput struct{ signature, node string }

// checksOn lists the checks of the layers that a run computes for an output, given the nodes of the
// signature's inputs.
func (c *finiteChecker) checksOn(root string, inputs map[string]bool) ([]string, error) {
	var list []string
	seen, stack := make(map[string]bool), []string{root}
	for len(stack) > 0 {
		name := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[name] || inputs[name] {
			continue
		}
		seen[name] = true
		n := c.nodes[name]
		if err := c.budget.charge(int64(1 + len(n.GetInput()))); err != nil {
			return nil, err
		}
		for _, in := range n.GetInput() {
			if check := c.checks[in]; check != "" && hidesNaN(n) && !slices.Contains(list, check) {
				list = append(list, check)
			}
			stack = append(stack, nodeOf(in))
		}
	}
	return list, nil
}

// mayBeNonFinite says whether a node may give NaN or infinity.
func (c *finiteChecker) mayBeNonFinite(n *tfpb.NodeDef) bool {
	dtype := func(key string) DataType { return DataType(n.GetAttr()[key].GetType()) }
	data := n.GetInput()
	switch op := n.GetOp(); {
	case c.fed[n.GetName()]:
		return !slices.Contains(integers, dtype("dtype"))
	case op == "Const":
		return hasNonFinite(n.GetAttr()["value"].GetTensor())
	case op == "ReadVariableOp" && len(data) > 0:
		return c.hasInfinity(c.weights[c.handle(data[0])])
	case op == "VarHandleOp":
		return false
	case op == "Cast" && slices.Contains(integers, dtype("SrcT")), slices.Contains(integers, dtype("T")):
		return false
	case op == "RealDiv" && len(data) == 2:
		if by := c.nodes[data[1]]; by.GetOp() != "Const" || !safeDivisor(floatsOf(by.GetAttr()["value"].GetTensor())) {
			return true
		}
		data = data[:1]
	case op != "Cast" && !keepsFinite[op]:
		return true
	}
	return slices.ContainsFunc(data, func(in string) bool { return c.suspect[nodeOf(in)] })
}

// safeDivisor says whether a finite number stays finite when it is divided by the constant.
func safeDivisor(c *constant) bool {
	return c != nil && !slices.ContainsFunc(c.data, func(v float64) bool { return math.IsNaN(v) || math.Abs(v) < 1e-6 })
}

// addCheck adds operations that say whether all numbers of a tensor are finite. It returns the name
// of the result.
func (c *finiteChecker) addCheck(tensor string, dtype *tfpb.AttrValue) (string, error) {
	name := fmt.Sprintf("inceptor/finite_%d", len(c.checks))
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
		if err := c.insert(n); err != nil {
			return "", err
		}
	}
	return name, nil
}

// sorted lists the nodes, each after its inputs, except for loops' back edges. The nodes in g.order
// are not sorted any more, because fold adds nodes at the end.
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
					continue // a loop's back edge
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
