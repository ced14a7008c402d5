package savedmodel

import "inceptor/savedmodel/tfpb"

// Precision says what the convolutions of an optimized graph compute in.
type Precision int

const (
	// PrecisionFloat32 is the model's own precision.
	PrecisionFloat32 Precision = iota
	// PrecisionBFloat16 computes in bfloat16, a float32 without its 16 lowest bits, and sums in
	// float32. It needs a processor with instructions for that. Inputs and outputs keep their
	// types. The outputs differ by more than rounding; how much depends on the model.
	PrecisionBFloat16
	// PrecisionInt8 computes in 8 bits, with Options.Ranges as the largest values of the results of
	// layers; larger ones are cut off. The first convolutions, what is behind the last pool, and
	// layers that oneDNN cannot compute in int8 stay in float32. Inputs and outputs keep their
	// types. How much the outputs differ depends on the model and on the ranges.
	PrecisionInt8
)

// String returns "float32", "bfloat16" or "int8".
func (p Precision) String() string {
	switch p {
	case PrecisionBFloat16:
		return "bfloat16"
	case PrecisionInt8:
		return "int8"
	}
	return "float32"
}

// available returns the precision to use for p with these kernels. If that is not p, it also
// returns the reason.
func (p Precision) available(k Kernels, ops map[string]*tfpb.OpDef) (Precision, string) {
	why := ""
	switch p {
	case PrecisionBFloat16:
		why = bfloat16Missing(k)
	case PrecisionInt8:
		why = int8Missing(ops)
	}
	if why != "" {
		return PrecisionFloat32, why
	}
	return p, ""
}

// rewrite rewrites a graph for a precision, and adds its checks for NaN. It returns why the graph
// stays in float32; empty: it does not, or p is float32.
func rewrite(g *frozenGraph, p Precision, ranges Ranges) (whyFloat32 string, err error) {
	if p == PrecisionInt8 { // before the checks, since it hides NaN too
		done, err := g.quantize(ranges)
		switch {
		case err != nil:
			return "", err
		case !done && len(ranges) == 0:
			whyFloat32 = "the ranges of its layers are not known"
		case !done:
			whyFloat32 = "no convolution can be computed in int8"
		}
	}
	if err := g.addFiniteChecks(); err != nil {
		return "", err
	}
	if p == PrecisionBFloat16 && !g.narrow() {
		whyFloat32 = "no convolution would gain from bfloat16"
	}
	return whyFloat32, nil
}
