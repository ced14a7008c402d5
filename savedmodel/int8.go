package savedmodel

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// Ranges are the largest absolute values of the results of layers, by the layer's name. Calibration
// measures them: see Model.Layers. Without its own range and those of its input, which must be
// finite and not all 0, a convolution stays in float32.
type Ranges map[string]float32

// Operations that oneDNN computes in int8. Activations are quint8, from 0 to their range, or qint8,
// from -range to range; filters are qint8 with a range for each output channel.
const (
	quantizedConv    = "_FusedQuantizedConv2D"
	quantizedMaxPool = "_MklQuantizedMaxPool"
	quantizedAvgPool = "_MklQuantizedAvgPool"
	quantizeOp       = "_MklQuantizeV2"
	dequantizeOp     = "_MklDequantize"
	quantizedLabel   = "QuantizedMklOp" // of the kernels, except quantizedConv's
)

// inInt8 are the operations that work on quint8 if all their inputs are quint8 of the same range,
// with their names in that case. Their result has that range, too.
var inInt8 = map[string]string{"AvgPool": quantizedAvgPool, "ConcatV2": "ConcatV2", "MaxPool": quantizedMaxPool}

// int8Missing returns why the library or the processor cannot compute in int8; empty: they can.
func int8Missing(ops map[string]*tfpb.OpDef) string {
	for _, op := range []string{quantizedConv, quantizeOp, dequantizeOp, quantizedMaxPool, quantizedAvgPool} {
		kernels, err := ctf.RegisteredKernels(op)
		labelled := op == quantizedConv || bytes.Contains(kernels, []byte(quantizedLabel))
		if err != nil || ops[op] == nil || len(kernels) == 0 || !labelled {
			return "the library has no kernels for int8"
		}
	}
	return ""
}

// filterLimit is the largest absolute value of a filter in int8. An x86-64 processor without VNNI
// adds pairs of products in 16 bits: 2 × 255 × 64 is the most that fits. Others add in 32 bits.
func filterLimit() float64 {
	if runtime.GOARCH != "amd64" {
		return 127
	}
	capped := os.Getenv("ONEDNN_MAX_CPU_ISA")
	if capped == "" {
		capped = os.Getenv("DNNL_MAX_CPU_ISA")
	}
	x := cpu.X86
	if !x.HasAVX512VNNI && !x.HasAVXVNNI && !x.HasAMXInt8 || slices.Contains([]string{"SSE41", "AVX", "AVX2", "AVX512_CORE"}, strings.ToUpper(capped)) {
		return 63
	}
	return 127
}

// An int8Node is a node that gives a quantized tensor and its range, as outputs 0, 1 and 2; or a
// tensor whose range another node gives.
type int8Node struct{ tensor, lowest, highest string }

// quantize computes the chosen operations in int8. Each float tensor that is still used keeps its
// name. It returns false if there is no convolution to compute in int8, or an error of the
// checkpoint.
func (g *frozenGraph) quantize(ranges Ranges) (bool, error) {
	if len(ranges) == 0 {
		return false, nil
	}
	q := newQuantization(g, ranges)
	if len(q.chosen)+len(q.signed) == 0 {
		return false, nil
	}
	for _, name := range g.sorted() {
		n := g.nodes[name]
		if !q.chosen[name] && !q.signed[name] {
			continue
		}
		if isConv(n) {
			if err := q.quantizeConv(n); err != nil {
				return false, err
			}
		} else {
			q.quantizePool(n)
		}
		g.nodes[name] = &tfpb.NodeDef{Name: name, Op: dequantizeOp, Input: q.results[name].inputs(), Attr: map[string]*tfpb.AttrValue{
			"T": typeAttr(q.resultType(name)), "dtype": typeAttr(tfpb.DataType_DT_FLOAT), "mode": bytesAttr("SCALED"), "_kernel": bytesAttr(quantizedLabel),
		}}
	}
	g.prune(g.roots)
	return true, nil
}

func (t *int8Node) inputs() []string { return []string{t.tensor, t.lowest, t.highest} }

func (q *quantization) resultType(name string) tfpb.DataType {
	if q.signed[name] {
		return tfpb.DataType_DT_QINT8
	}
	return tfpb.DataType_DT_QUINT8
}

// quantized returns a tensor in int8.
func (q *quantization) quantized(tensor string) *int8Node {
	if t := q.results[tensor]; t != nil {
		return t
	}
	name := q.fresh(strings.ReplaceAll(tensor, ":", "_") + "/int8")
	q.append(&tfpb.NodeDef{
		Name: name, Op: quantizeOp, Input: []string{tensor, q.number(name+"/min", 0), q.number(name+"/max", q.rangeOf(tensor))},
		Attr: map[string]*tfpb.AttrValue{
			"T": typeAttr(tfpb.DataType_DT_QUINT8), "mode": bytesAttr("SCALED"), "round_mode": bytesAttr("HALF_TO_EVEN"),
			"ensure_minimum_range": floatAttr(0), "_kernel": bytesAttr(quantizedLabel),
		},
	})
	return q.add(tensor, name)
}

// add records that the node name gives a tensor in int8.
func (q *quantization) add(tensor, name string) *int8Node {
	t := &int8Node{name, output(name, 1), output(name, 2)}
	q.results[tensor] = t
	return t
}

// number adds a constant, and returns its name.
func (q *quantization) number(name string, v float32) string {
	return q.numbers(name, Shape{}, []float32{v})
}

func (q *quantization) numbers(name string, shape Shape, values []float32) string {
	name = q.fresh(name)
	q.append(floatConst(name, shape, values))
	return name
}

// quantizeConv adds a convolution in int8, with the Relu and the conversion of its sums to 8 bits.
func (q *quantization) quantizeConv(n *tfpb.NodeDef) error {
	name := n.GetName()
	from := q.quantized(n.GetInput()[0])
	handle, w := q.weightOf(n.GetInput()[1])
	biases, err := q.values(n.GetInput()[2])
	if err != nil {
		return err
	}
	filter, steps, err := q.quantizedFilter(handle, w, q.rangeOf(n.GetInput()[0]), biases)
	if err != nil {
		return err
	}
	highest := make([]float32, len(steps)) // that 127 stands for
	lowest := make([]float32, len(steps))
	for i, s := range steps {
		highest[i] = 127 * s
		lowest[i] = -127 * s
	}
	channels := Shape{int64(len(steps))}
	result, least, fused := tfpb.DataType_DT_QUINT8, float32(0), wordsAttr("BiasAdd", "Relu", "Requantize")
	if q.signed[name] {
		result, least, fused = tfpb.DataType_DT_QINT8, -q.rangeOf(name), wordsAttr("BiasAdd", "Requantize")
	}
	own := q.fresh(name + "/int8")
	const float = tfpb.DataType_DT_FLOAT
	c := &tfpb.NodeDef{
		Name: own, Op: quantizedConv,
		Input: []string{
			from.tensor, filter, n.GetInput()[2], from.lowest, from.highest,
			q.numbers(own+"/min_filter", channels, lowest), q.numbers(own+"/max_filter", channels, highest),
			q.number(own+"/min", least), q.number(own+"/max", q.rangeOf(name)),
		},
		Attr: map[string]*tfpb.AttrValue{
			"Tinput": typeAttr(tfpb.DataType_DT_QUINT8), "Tfilter": typeAttr(tfpb.DataType_DT_QINT8), "Tbias": typeAttr(float),
			"Tsummand": typeAttr(result), "out_type": typeAttr(result),
			"Tdevice_inputs": typesAttr(nil), "Tdevice_outputs": typesAttr(nil),
			"Thost_inputs":  typesAttr([]tfpb.DataType{tfpb.DataType_DT_QUINT8, tfpb.DataType_DT_QINT8, float, float, float, float, float, float, float}),
			"Thost_outputs": typesAttr([]tfpb.DataType{result, float, float}),
			"fused_ops":     fused, "is_filter_const": boolAttr(true), "is_bias_const": boolAttr(true),
		},
	}
	for _, key := range []string{"strides", "padding", "dilations"} {
		if a := n.GetAttr()[key]; a != nil {
			c.Attr[key] = a
		}
	}
	q.append(c)
	q.add(name, own)
	return nil
}

// values returns the values of a constant or weight.
func (q *quantization) values(tensor string) ([]float64, error) {
	if _, w := q.weightOf(tensor); w != nil {
		b, err := q.bytesOf(w)
		return floats(b), err
	}
	if c := floatsOf(q.nodes[q.source(tensor)].GetAttr()["value"].GetTensor()); c != nil {
		return c.data, nil
	}
	return nil, nil
}

// bytesOf reads a weight from the checkpoint.
func (q *quantization) bytesOf(w *weight) ([]byte, error) {
	if err := w.check(q.frozenGraph.values); err != nil {
		return nil, err
	}
	b := make([]byte, w.entry.size)
	return b, w.read(q.frozenGraph.values, b)
}

// quantizedFilter returns the node that reads a filter in int8, and the value of 1 for each output
// channel. The channel's bias has to fit into the same sums of 32 bits, in units of that value
// times the value of 1 of the input, whose range is given.
func (q *quantization) quantizedFilter(handle string, w *weight, input float32, biases []float64) (read string, steps []float32, err error) {
	b, err := q.bytesOf(w)
	if err != nil {
		return "", nil, err
	}
	steps = make([]float32, w.entry.shape[3])
	for i := 0; i+4 <= len(b); i += 4 {
		channel := i / 4 % len(steps)
		steps[channel] = max(steps[channel], float32(math.Abs(float64(math.Float32frombits(order.Uint32(b[i:]))))))
	}
	limit := filterLimit()
	for i, most := range steps {
		step := float64(most) / limit
		if i < len(biases) {
			step = max(step, math.Abs(biases[i])*255/float64(input)/(1<<30))
		}
		if step == 0 {
			step = 1
		}
		steps[i] = float32(step)
	}
	name := q.fresh(handle + "/int8")
	read = q.fresh(name + "/read")
	small := *w
	small.steps = steps
	q.weights[name] = &small
	e := w.entry
	e.dtype, e.size = QInt8, e.size/4
	q.append(handleNode(name, e), readNode(read, name, e))
	return read, steps, nil
}

// quantizePool adds a pool or a concatenation of quantized tensors.
func (q *quantization) quantizePool(n *tfpb.NodeDef) {
	data := q.pooled[n.GetName()]
	from := q.results[data[0]]
	c := cloneNode(n)
	c.Op, c.Name = inInt8[n.GetOp()], q.fresh(n.GetName()+"/int8")
	c.Attr["T"] = typeAttr(tfpb.DataType_DT_QUINT8)
	if n.GetOp() == "ConcatV2" {
		for i, in := range data {
			c.Input[i] = q.results[in].tensor
		}
		q.results[n.GetName()] = &int8Node{c.Name, from.lowest, from.highest}
	} else {
		controls := c.Input[1:]
		c.Input = append(from.inputs(), controls...)
		delete(c.Attr, "data_format")
		delete(c.Attr, "explicit_paddings")
		c.Attr["_kernel"] = bytesAttr(quantizedLabel)
		q.add(n.GetName(), c.Name)
	}
	q.append(c)
}

// quantizeFloats writes float32 numbers as int8: each is divided by its channel's step and rounded
// to the nearest, ties to even.
func quantizeFloats(dst, src []byte, steps []float32) {
	for i := range dst {
		v := math.RoundToEven(float64(math.Float32frombits(order.Uint32(src[4*i:]))) / float64(steps[i%len(steps)]))
		dst[i] = byte(int8(min(127, max(-127, v))))
	}
}
