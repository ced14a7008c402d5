package savedmodel

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// nativeBFloat16 says whether the processor has an instruction that multiplies and adds bfloat16
// numbers. Without it, oneDNN computes in float32 anyway.
var nativeBFloat16 = cpu.X86.HasAVX512BF16

// Names of oneDNN's pooling operations.
const (
	oneDNNMaxPool = "_MklNativeMaxPool"
	oneDNNAvgPool = "_MklNativeAvgPool"
)

// inBFloat16 are the operations that work in bfloat16 if all their inputs are bfloat16, with their
// names in that case.
var inBFloat16 = map[string]string{"AvgPool": oneDNNAvgPool, "ConcatV2": "ConcatV2", "MaxPool": oneDNNMaxPool}

// bfloat16Missing returns why the library or the processor cannot compute in bfloat16 with these
// kernels; empty: they can.
func bfloat16Missing(k Kernels) string {
	switch {
	case !nativeBFloat16:
		return "the processor has no instructions for bfloat16"
	case k != KernelsOneDNN:
		return "only oneDNN's kernels support bfloat16"
	}
	// A kernel's description holds the types that it supports in this form.
	constraint, err := proto.Marshal(typesAttr([]tfpb.DataType{tfpb.DataType_DT_BFLOAT16}))
	for _, op := range []string{oneDNNConv, oneDNNMaxPool, oneDNNAvgPool} {
		var kernels []byte
		if err == nil {
			kernels, err = ctf.RegisteredKernels(op)
		}
		if err != nil || !bytes.Contains(kernels, constraint) || !bytes.Contains(kernels, []byte(oneDNNLabel)) {
			return "the library has no kernels for bfloat16"
		}
	}
	return ""
}

// narrow converts oneDNN's convolutions, and operations that pool or concatenate only their
// results, to bfloat16. It returns false if there is nothing to convert.
func (g *frozenGraph) narrow() bool {
	n := narrowing{frozenGraph: g, chosen: g.narrowable(), casts: make(map[string]string)}
	if len(n.chosen) == 0 {
		return false
	}
	for _, name := range slices.Clone(g.order) {
		if n.chosen[name] {
			n.change(name)
		} else {
			n.widenInputs(name)
		}
	}
	g.prune(g.roots)
	return true
}

// narrowable returns the operations to convert to bfloat16. It leaves the first convolutions in
// float32: they have few channels, and the pixels' precision matters. With Inception v3 that
// keeps the scores of photos closer to float32's, and no run takes longer.
func (g *frozenGraph) narrowable() map[string]bool {
	chosen, behind := make(map[string]bool), make(map[string]bool) // behind a convolution
	for _, name := range g.order {
		n := g.nodes[name]
		first := !slices.ContainsFunc(n.GetInput(), func(in string) bool { return behind[nodeOf(in)] })
		behind[name] = !first || n.GetOp() == oneDNNConv
		if slices.Contains(g.roots, name) || !isFloat32(n) {
			continue
		}
		ok := false
		if n.GetOp() == oneDNNConv {
			ok = !first && g.fusedHere(n)
		} else if data := narrowInputs(n); len(data) > 0 {
			ok = !slices.ContainsFunc(data, func(in string) bool { return !chosen[in] })
		}
		if ok {
			chosen[name] = true
		}
	}
	return chosen
}

// isFloat32 says whether an operation's type T is float32, which MaxPool may leave out.
func isFloat32(n *tfpb.NodeDef) bool {
	t := n.GetAttr()["T"]
	return t.GetType() == tfpb.DataType_DT_FLOAT || t == nil && n.GetOp() == "MaxPool"
}

// fusedHere says whether fuse made this oneDNN convolution. A model's file may hold others, with
// any inputs.
func (g *frozenGraph) fusedHere(n *tfpb.NodeDef) bool {
	if len(n.GetInput()) != 3 {
		return false
	}
	_, w := g.weightOf(n.GetInput()[1])
	return w != nil && w.entry.dtype == Float32
}

// narrowInputs returns the inputs that must be bfloat16 for an operation to work in bfloat16. It
// returns nil if the operation cannot.
func narrowInputs(n *tfpb.NodeDef) []string {
	count, ksize := int64(1), n.GetAttr()["ksize"].GetList().GetI()
	switch format := string(n.GetAttr()["data_format"].GetS()); {
	case inBFloat16[n.GetOp()] == "":
		return nil
	case n.GetOp() == "ConcatV2":
		count = n.GetAttr()["N"].GetI()
	case format != "" && format != "NHWC", string(n.GetAttr()["padding"].GetS()) == "EXPLICIT", len(ksize) != 4 || ksize[0] != 1 || ksize[3] != 1:
		return nil // oneDNN's pools do not support it
	}
	if count < 1 || count > int64(len(n.GetInput())) {
		return nil
	}
	return n.GetInput()[:count]
}

// A narrowing converts the chosen operations of a graph to bfloat16.
type narrowing struct {
	*frozenGraph
	chosen map[string]bool
	casts  map[string]string // converted tensors and variables, by the original's name
}

// change converts a chosen operation to bfloat16.
func (n *narrowing) change(name string) {
	c := cloneNode(n.nodes[name])
	c.Attr["T"] = typeAttr(tfpb.DataType_DT_BFLOAT16)
	if c.Op == oneDNNConv {
		handle, w := n.weightOf(c.Input[1])
		c.Input = []string{n.narrowTensor(c.Input[0]), n.narrowWeight(handle, w), n.narrowTensor(c.Input[2])}
		c.Attr["TArgs"] = typesAttr([]tfpb.DataType{tfpb.DataType_DT_BFLOAT16})
	} else if c.Op = inBFloat16[c.Op]; c.Op != "ConcatV2" {
		c.Attr["_kernel"] = bytesAttr(oneDNNLabel)
	}
	n.nodes[name] = c
}

// widenInputs converts the inputs of an operation that was not chosen back to float32.
func (n *narrowing) widenInputs(name string) {
	c := n.nodes[name]
	for i, in := range c.GetInput() {
		if !n.chosen[in] {
			continue
		}
		if c == n.nodes[name] {
			c = cloneNode(c)
		}
		c.Input[i] = n.cast(in, tfpb.DataType_DT_BFLOAT16, tfpb.DataType_DT_FLOAT)
	}
	n.nodes[name] = c
}

// narrowTensor returns a tensor as bfloat16.
func (n *narrowing) narrowTensor(tensor string) string {
	if n.chosen[tensor] {
		return tensor
	}
	return n.cast(tensor, tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_BFLOAT16)
}

func (n *narrowing) cast(tensor string, from, to tfpb.DataType) string {
	if name, ok := n.casts[tensor]; ok {
		return name
	}
	name := n.fresh(strings.ReplaceAll(tensor, ":", "_") + "/" + DataType(to).String())
	n.casts[tensor] = name
	n.append(&tfpb.NodeDef{Name: name, Op: "Cast", Input: []string{tensor}, Attr: map[string]*tfpb.AttrValue{
		"SrcT": typeAttr(from), "DstT": typeAttr(to), "Truncate": boolAttr(false),
	}})
	return name
}

// narrowWeight returns the node that reads a weight as bfloat16. Convolutions with the same filter
// share it.
func (n *narrowing) narrowWeight(handle string, w *weight) string {
	if read, ok := n.casts[handle]; ok {
		return read
	}
	name := n.fresh(handle + "/" + BFloat16.String())
	read := n.fresh(name + "/read")
	n.casts[handle] = read
	short := *w
	short.narrow = true
	n.weights[name] = &short
	e := w.entry
	e.dtype = BFloat16
	n.append(handleNode(name, e), readNode(read, name, e))
	return read
}

// narrowFloats writes float32 numbers as bfloat16. It rounds to the nearest, ties to even, as
// TensorFlow's Cast does. NaN stays NaN.
func narrowFloats(dst, src []byte) {
	const infinity = 0x7f80_0000
	for i := 0; i+4 <= len(src); i += 4 {
		v := binary.LittleEndian.Uint32(src[i:])
		if v&0x7fff_ffff > infinity {
			v |= 1 << 22 // make NaN quiet, so that it does not become infinite
		} else {
			v += 0x7fff + v>>16&1
		}
		binary.LittleEndian.PutUint16(dst[i/2:], uint16(v>>16))
	}
}
