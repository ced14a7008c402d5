package savedmodel

import (
	"math"
	"slices"

	"inceptor/savedmodel/tfpb"
)

// nets are all the nets of TestInt8Nets.
func nets() []net {
	builders := slices.Concat(plainNets(), oddNets(), extremeNets(), hostileNets())
	list := make([]net, len(builders))
	for i, b := range builders {
		list[i] = b.net
	}
	return list
}

// plainNets are of the kinds that people have.
func plainNets() []*netBuilder {
	twice := func(name string, n int, activation string) *netBuilder {
		return begin(name, n).conv("a", "first", shape3, activation, nil).conv("out", "a", shape1, activation, nil)
	}
	return []*netBuilder{
		twice("Relu", 2, "Relu"),
		twice("Relu6", 2, "Relu6"),
		twice("no Relu", 1, ""),
		newNet("only a first convolution", 0).conv("out", "in", []int64{3, 3, 3, 8}, "Relu", nil),
		begin("residual", 3).conv("a", "first", shape3, "Relu", nil).conv("b", "a", shape3, "", nil).
			add(op("sum", "AddV2", nil, "b", "first"), op("relu", "Relu", nil, "sum")).conv("out", "relu", shape1, "Relu", nil),
		begin("residual, without Relu after it", 2).conv("a", "first", shape3, "Relu", nil).conv("b", "a", shape3, "", nil).
			add(op("sum", "AddV2", nil, "b", "first")).conv("out", "sum", shape1, "Relu", nil),
		begin("depthwise", 2).variable("d", 0.3, 3, 3, 8, 1).variable("e", 0.1, 8).conv("a", "first", shape1, "Relu6", nil).
			add(op("depth", "DepthwiseConv2dNative", window(nil), "a", "d/read"), op("biased", "BiasAdd", nil, "depth", "e/read"), op("relu", "Relu6", nil, "biased")).
			conv("out", "relu", shape1, "", nil),
		begin("used twice", 3).conv("a", "first", shape3, "Relu", nil).conv("b", "a", shape3, "Relu", nil).
			conv("c", "a", shape1, "Relu", nil).add(op("out", "AddV2", nil, "b", "c")),
		begin("used by float32 as well", 2).conv("a", "first", shape3, "Relu", nil).conv("b", "a", shape3, "Relu", nil).
			add(op("half", "Softplus", nil, "a"), op("out", "AddV2", nil, "b", "half")),
		begin("output of a signature on the way", 2).conv("out", "first", shape3, "Relu", nil).conv("b", "out", shape3, "Relu", nil).
			with(func(n *net) { n.more = map[string]*tfpb.SignatureDef{"other": signature("in", "b")} }),
		begin("signatures of different parts", 4).conv("a", "first", shape3, "Relu", nil).conv("out", "a", shape1, "Relu", nil).conv("b", "a", shape1, "", nil).
			conv("c", "first", shape1, "Relu6", nil).
			with(func(n *net) {
				n.more = map[string]*tfpb.SignatureDef{"other": signature("in", "b"), "third": signature("in", "c")}
			}),
		begin("signature that begins in the middle", 1).conv("a", "first", shape3, "Relu", nil).conv("b", "a", shape1, "Relu", nil).conv("out", "b", shape1, "Relu", nil).
			with(func(n *net) {
				n.more = map[string]*tfpb.SignatureDef{"other": signature("a", "out")}
				n.within = 0.2 // calibration has not seen the other signature's inputs
			}),
		begin("inception", 4).conv("a", "first", shape1, "Relu", nil).conv("b", "first", shape3, "Relu", nil).
			add(pool("mean", "AvgPool", "first", attrs{"ksize": intsAttr(1, 3, 3, 1)}), scalarInt("axis", 3)).conv("c", "mean", shape1, "Relu", nil).
			add(joined("all", "axis", "a", "b", "c")).conv("out", "all", []int64{1, 7, 24, 8}, "Relu", nil),
		begin("concat of float32 and int8", 2).conv("a", "first", shape3, "Relu", nil).add(scalarInt("axis", -1), joined("all", "axis", "a", "first")).
			conv("out", "all", []int64{1, 1, 16, 8}, "Relu", nil),
		begin("concat of a tensor with itself", 2).conv("a", "first", shape3, "Relu", nil).add(scalarInt("axis", 3), joined("all", "axis", "a", "a")).
			conv("out", "all", []int64{1, 1, 16, 8}, "Relu", nil),
		begin("concat of a concat and a pool", 4).conv("a", "first", shape3, "Relu", nil).conv("b", "first", shape1, "Relu", nil).conv("c", "b", shape1, "Relu", nil).
			add(scalarInt("axis", 3), joined("ab", "axis", "a", "b"), pool("max", "MaxPool", "c", attrs{"ksize": intsAttr(1, 3, 3, 1)}),
				joined("all", "axis", "ab", "max")).conv("out", "all", []int64{1, 1, 24, 8}, "Relu", nil),
		begin("concat of rows", 2).conv("a", "first", shape3, "Relu", nil).add(scalarInt("axis", 1), joined("all", "axis", "a", "a")).
			conv("out", "all", shape1, "Relu", nil).with(func(n *net) { n.convolutions = 1 }),
		begin("concat of Relu and Relu6", 3).conv("a", "first", shape3, "Relu", nil).conv("b", "first", shape3, "Relu6", nil).
			add(scalarInt("axis", 3), joined("all", "axis", "a", "b")).conv("out", "all", []int64{1, 1, 16, 8}, "Relu", nil).
			with(func(n *net) { n.convolutions = 2 }),
	}
}

// oddNets have attributes that not all kernels support.
func oddNets() []*netBuilder {
	one := func(name string, n int, more attrs, shape ...int64) *netBuilder {
		return begin(name, n).conv("out", "first", shape, "Relu", more)
	}
	explicit := attrs{"padding": bytesAttr("EXPLICIT"), "explicit_paddings": intsAttr(0, 0, 1, 2, 0, 3, 0, 0)}
	pooled := func(name, kind string, n int, more attrs) *netBuilder {
		return begin(name, n).conv("a", "first", shape3, "Relu", nil).add(pool("out", kind, "a", more))
	}
	several := func(b *netBuilder) *netBuilder {
		return b.with(func(n *net) { n.sizes = [][]int64{{9, 8}, {16, 5}, {7, 7}, {9, 8}} })
	}
	return []*netBuilder{
		one("dilations", 1, attrs{"dilations": intsAttr(1, 2, 3, 1)}, shape3...),
		one("strides", 1, attrs{"strides": intsAttr(1, 2, 2, 1), "padding": bytesAttr("VALID")}, shape3...),
		one("unequal strides", 1, attrs{"strides": intsAttr(1, 1, 2, 1)}, shape3...),
		one("EXPLICIT padding", 0, explicit, shape3...),
		one("groups", 0, nil, 3, 3, 4, 8),
		one("groups, as many as channels", 0, nil, 3, 3, 1, 16),
		one("one channel out", 1, nil, 3, 3, 8, 1),
		one("odd channels", 1, nil, 3, 3, 8, 17),
		one("even filter", 1, nil, 2, 4, 8, 8),
		one("filter larger than the image", 1, nil, 11, 11, 8, 8),
		newNet("one channel in", 1).conv("first", "in", []int64{1, 1, 3, 1}, "", nil).add(op("square", "Mul", nil, "first", "first"), op("relu", "Relu", nil, "first")).
			conv("out", "relu", []int64{3, 3, 1, 8}, "Relu", nil),
		several(one("images of several sizes", 1, nil, shape3...)),
		pooled("pool as output", "AvgPool", 1, nil),
		pooled("maximum as output", "MaxPool", 1, nil),
		pooled("pool with strides", "AvgPool", 1, attrs{"ksize": intsAttr(1, 3, 3, 1), "strides": intsAttr(1, 2, 2, 1), "padding": bytesAttr("VALID")}),
		pooled("pool with gaps", "MaxPool", 1, attrs{"ksize": intsAttr(1, 2, 2, 1), "strides": intsAttr(1, 4, 4, 1)}),
		pooled("pool of rows", "AvgPool", 1, attrs{"ksize": intsAttr(1, 1, 4, 1)}),
		pooled("pool larger than the image", "AvgPool", 1, attrs{"ksize": intsAttr(1, 20, 20, 1)}),
		pooled("pool over channels", "MaxPool", 1, attrs{"ksize": intsAttr(1, 1, 1, 2), "strides": intsAttr(1, 1, 1, 2), "padding": bytesAttr("VALID")}),
		begin("filter in a constant", 0).add(floatConst("w", Shape{1, 1, 8, 8}, some(64, 1))).around("out", "first", "w", 8, "Relu", nil),
		begin("filter computed from the input", 0).
			add(floatConst("one", Shape{1, 1, 8, 8}, some(64, 1)), op("most", "Max", attrs{"Tidx": typeAttr(dtInt), "keep_dims": boolAttr(false)}, "in", "dims"),
				intConst("dims", 0, 1, 2, 3), op("w", "Mul", nil, "one", "most")).around("out", "first", "w", 8, "Relu", nil),
		begin("bias computed from the input", 1).conv("a", "first", shape3, "Relu", nil).variable("w", 0.3, 1, 1, 8, 8).
			add(intConst("dims", 0, 1, 2), op("bias", "Mean", attrs{"Tidx": typeAttr(dtInt), "keep_dims": boolAttr(false)}, "a", "dims"),
				op("c", "Conv2D", window(nil), "a", "w/read"), op("out", "BiasAdd", nil, "c", "bias")),
		begin("one filter for two convolutions", 2).conv("a", "first", shape1, "Relu", nil).around("out", "a", "a/w/read", 8, "Relu", nil),
	}
}

// extremeNets have values at the ends of what float32 holds.
func extremeNets() []*netBuilder {
	scaled := func(name string, n int, factor float32, within float64) *netBuilder {
		b := begin(name, n).conv("a", "first", shape3, "Relu", nil).conv("out", "a", shape1, "Relu", nil)
		for i := range b.variables["a/w"].values {
			b.variables["a/w"].values[i] *= factor
		}
		return b.with(func(n *net) { n.within = within })
	}
	ranged := func(name string, convolutions int, value float64, within float64) *netBuilder {
		return begin(name, convolutions).conv("a", "first", shape3, "Relu", nil).conv("out", "a", shape1, "Relu", nil).with(func(n *net) {
			n.within = within
			n.ranges = func(r Ranges) { r["a"] = float32(value) }
		})
	}
	dead := begin("dead filters", 2).conv("a", "first", shape3, "Relu", nil).conv("out", "a", shape1, "Relu", nil)
	for i := range dead.variables["a/w"].values {
		if i%8 < 3 {
			dead.variables["a/w"].values[i] = 0
		}
	}
	allDead := begin("only dead filters", 0).conv("a", "first", shape3, "Relu", nil).conv("out", "a", shape1, "Relu", nil)
	clear(allDead.variables["a/w"].values)
	clear(allDead.variables["a/b"].values)
	biased := begin("a bias that dwarfs the filter", 1).conv("out", "first", shape3, "Relu", nil)
	for i := range biased.variables["out/b"].values {
		biased.variables["out/b"].values[i] *= 1e6
	}
	const anything = math.MaxFloat32 // it does not crash
	return []*netBuilder{
		scaled("huge weights", 2, 1e30, 0),
		scaled("tiny weights", 2, 1e-20, 0),
		scaled("denormal weights", 2, 1e-40, 0),
		dead, allDead, biased,
		ranged("range of 0", 0, 0, 0),
		ranged("range that is infinite", 0, math.Inf(1), 0),
		ranged("range that is not a number", 0, math.NaN(), 0),
		ranged("range that is negative", 0, -3, 0),
		ranged("tiny range", 2, 1e-30, anything),
		ranged("denormal range", 2, 1e-45, anything),
		ranged("largest range", 2, math.MaxFloat32, anything),
		ranged("a thousand times the range", 2, 5000, anything),
		ranged("a thousandth of the range", 2, 0.005, anything),
	}
}

// hostileNets are legal, but made to mislead.
func hostileNets() []*netBuilder {
	return []*netBuilder{
		// A bias for each row, not for each channel. The next convolution has groups, of as many
		// channels as there are rows.
		newNet("NCHW bias", 0).conv("first", "in", []int64{1, 1, 3, 16}, "Relu", nil).variable("rows", 1, 8).
			add(op("biased", "BiasAdd", attrs{"data_format": bytesAttr("NCHW")}, "first", "rows/read"), op("relu", "Relu", nil, "biased")).
			conv("out", "relu", []int64{1, 1, 8, 16}, "Relu", nil).with(func(n *net) {
			n.sizes = [][]int64{{8, 5}}
			n.ranges = func(r Ranges) { r["first"], r["relu"], r["out"] = 3, 3, 3 }
		}),
		fusedNet("fused with Elu in the file", 0, nil, "BiasAdd", "Elu"),
		fusedNet("fused with LeakyRelu in the file", 0, nil, "BiasAdd", "LeakyRelu"),
		fusedNet("fused with EXPLICIT padding in the file", 0, attrs{
			"padding": bytesAttr("EXPLICIT"), "explicit_paddings": intsAttr(0, 0, 1, 1, 2, 0, 0, 0),
		}, "BiasAdd", "Relu"),
		begin("filter of two dimensions", 0).variable("w", 1, 8, 8).around("out", "first", "w/read", 8, "Relu", nil).with(func(n *net) { n.fails = true }),
		begin("filter without elements", 0).variable("w", 1, 3, 3, 8, 0).around("out", "first", "w/read", 0, "Relu", nil).with(func(n *net) {
			n.refuse = true
			n.ranges = func(r Ranges) { r["first"], r["out"] = 3, 3 }
		}),
		begin("names that are taken", 2).conv("a", "first", shape3, "Relu", nil).conv("a/int8", "a", shape3, "Relu", nil).
			add(op("out", "AddV2", nil, "a", "a/int8")),
		begin("too small an image", 1).conv("out", "first", []int64{5, 5, 8, 8}, "Relu", attrs{"padding": bytesAttr("VALID")}).
			with(func(n *net) { n.sizes, n.refuse = [][]int64{{9, 8}, {3, 3}}, true }),
		begin("image without pixels", 1).conv("out", "first", shape3, "Relu", nil).
			with(func(n *net) { n.sizes, n.refuse = [][]int64{{9, 8}, {0, 8}}, true }),
	}
}

func fusedNet(name string, convolutions int, more attrs, words ...string) *netBuilder {
	b := begin(name, convolutions).variable("w", 0.2, 3, 3, 8, 8).variable("v", 0.1, 8).variable("x", 0.3, 1, 1, 8, 8).variable("y", 0.1, 8)
	return b.add(fusedInFile("a", "first", "w/read", "v/read", more, words...), fusedInFile("out", "a", "x/read", "y/read", nil, "BiasAdd", "Relu"))
}
