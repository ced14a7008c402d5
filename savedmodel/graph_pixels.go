package savedmodel

// maxPixelSteps bounds the operations that a pixelWalk follows.
const maxPixelSteps = 1000

// A pixelWalk follows an input's pixels from operation to operation. It stops where they go to
// several operations, or to one that it does not know.
type pixelWalk struct {
	*graphWalk
	frame  *frame
	tensor tensorRef

	affine Affine
	known  bool  // an operation has changed the numbers
	order  []int // channel i is the input's channel order[i]; nil for the input's order
	moved  bool  // the channels may no longer be the last dimension
}

// pixels returns InputUse.Pixels of an input. It ignores the rounding of a Cast to integers.
func (w *graphWalk) pixels(start tensorRef) (*Affine, error) {
	p := &pixelWalk{graphWalk: w, frame: w.top, tensor: start, affine: Affine{Scale: []float64{1}, Offset: []float64{0}}}
	for range maxPixelSteps {
		if goes, err := p.next(); err != nil {
			return nil, err
		} else if !goes {
			break
		}
	}
	if !p.known {
		return nil, nil
	}
	return &p.affine, nil
}

// next follows one operation. It returns false if the walk ends here.
func (p *pixelWalk) next() (bool, error) {
	uses, err := p.uses()
	if err != nil || len(uses) == 0 {
		return false, err
	}
	if len(uses) > 1 {
		return p.stacked(uses), nil
	}
	u := uses[0]
	n := u.node
	if isPlainCall(n.op) {
		inner, err := p.enter(p.frame, n, p.g.callees(n)[0])
		if err != nil || inner == nil {
			return false, err
		}
		p.frame, p.tensor = inner, tensorRef{"", u.slot}
		return true, nil
	}
	switch n.op {
	case "Identity", "Snapshot", "StopGradient", "PreventGradient", "CheckNumerics", "PlaceholderWithDefault", "EnsureShape", "Cast",
		"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea", "ScaleAndTranslate", "CropAndResize":
	case "Reshape", "ExpandDims", "Squeeze", "Transpose":
		p.moved = true
	case "StridedSlice", "ReverseV2":
		if p.moved || !p.reverses(n) {
			return false, nil
		}
		p.reorder([]int{2, 1, 0})
	default:
		p.tensor = tensorRef{n.name, 0}
		return p.apply(u)
	}
	p.tensor = tensorRef{n.name, 0}
	return u.slot == 0, nil
}

// uses returns the inputs of operations that the pixels go to. If the pixels are a function's
// result, it follows them to the caller's frame. It returns none if they go to both, or if that
// is unknown.
func (p *pixelWalk) uses() ([]use, error) {
	for {
		b := p.frame.body
		needed := b.forResults()
		var uses []use
		for _, u := range b.usesOf(p.tensor) {
			if err := p.step(); err != nil {
				return nil, err
			}
			if needed[u.node.name] && !shapeReaders[u.node.op] {
				uses = append(uses, u)
			}
		}
		results := b.returnsOf(p.tensor)
		switch {
		case len(results) == 0:
			return uses, nil
		case len(results) > 1 || len(uses) > 0 || !isPlainCall(p.frame.call.op):
			return nil, nil
		}
		p.frame, p.tensor = p.frame.caller, tensorRef{p.frame.call.name, results[0]}
	}
}

// isPlainCall says whether an operation calls a function exactly once.
func isPlainCall(op string) bool { return op == "PartitionedCall" || op == "StatefulPartitionedCall" }

// measures are operations that look at a tensor's shape alone.
var shapeReaders = map[string]bool{"Shape": true, "ShapeN": true, "Rank": true, "Size": true}

// reorder moves channel order[i] to channel i.
func (p *pixelWalk) reorder(order []int) {
	if p.order == nil {
		p.order = []int{0, 1, 2}
	}
	next := make([]int, len(order))
	for i, from := range order {
		next[i] = p.order[from]
	}
	p.order = next
}

// reverses says whether an operation only reverses the order of the channels.
func (p *pixelWalk) reverses(n *graphNode) bool {
	if n.op == "ReverseV2" {
		return len(n.inputs) == 2 && isChannelAxis(p.vector(n.inputs[1]))
	}
	if len(n.inputs) != 4 || n.mask("shrink_axis_mask") != 0 || n.mask("new_axis_mask") != 0 {
		return false
	}
	strides := p.vector(n.inputs[3])
	last := len(strides) - 1
	if last < 0 || strides[last] != -1 || !n.whole(last) {
		return false
	}
	for i, stride := range strides[:last] {
		if stride != 1 || !n.whole(i) {
			return false
		}
	}
	return n.mask("ellipsis_mask") != 0 && last == 1 || last == 3
}

// stacked says whether each use takes one channel, and one Pack puts all of them together again. If
// so, it follows the pixels to the Pack.
func (p *pixelWalk) stacked(uses []use) bool {
	const channels = 3
	order := make([]int, channels)
	taken := make([]bool, channels)
	var pack *graphNode
	for _, u := range uses {
		slice := u.node
		channel := p.channel(u)
		next := p.frame.body.usesOf(tensorRef{slice.name, 0})
		if channel < 0 || channel >= channels || len(next) != 1 || pack != nil && next[0].node != pack {
			return false
		}
		pack = next[0].node
		if next[0].slot >= channels || taken[next[0].slot] {
			return false
		}
		order[next[0].slot], taken[next[0].slot] = channel, true
	}
	axis := float64(pack.attr["axis"].GetI())
	if p.moved || len(uses) != channels || pack.op != "Pack" || len(pack.inputs) != channels || !isChannelAxis([]float64{axis}) {
		return false
	}
	p.reorder(order)
	p.tensor = tensorRef{pack.name, 0}
	return true
}

// channel returns the channel i that a StridedSlice takes as x[..., i]. It returns -1 for any other
// use.
func (p *pixelWalk) channel(u use) int {
	n := u.node
	if n.op != "StridedSlice" || u.slot != 0 || len(n.inputs) != 4 || n.mask("new_axis_mask") != 0 {
		return -1
	}
	begin := p.vector(n.inputs[1])
	last := len(begin) - 1
	if last < 0 || n.mask("shrink_axis_mask") != 1<<last {
		return -1
	}
	for i := range last {
		if !n.whole(i) {
			return -1
		}
	}
	if n.mask("ellipsis_mask") != 0 && last == 1 || last == 3 {
		return int(begin[last])
	}
	return -1
}

func (n *graphNode) mask(name string) int64 { return n.attr[name].GetI() }

// whole says whether a StridedSlice keeps all of dimension i. If i is the ellipsis, it stands for
// several dimensions.
func (n *graphNode) whole(i int) bool {
	return n.mask("ellipsis_mask")>>i&1 == 1 || n.mask("begin_mask")>>i&1 == 1 && n.mask("end_mask")>>i&1 == 1
}

func isChannelAxis(axis []float64) bool { return len(axis) == 1 && (axis[0] == -1 || axis[0] == 3) }

// vector returns the numbers of a constant input.
func (p *pixelWalk) vector(input string) []float64 {
	return channelNumbers(p.constOf(p.frame, p.frame.body.ref(input)))
}

// apply adds an operation on the pixels to p.affine. It returns false if the operation is not
// affine or not known.
func (p *pixelWalk) apply(u use) (bool, error) {
	n := u.node
	if len(n.inputs) == 1 && n.op == "Neg" {
		p.affine, p.known = p.affine.times([]float64{-1}), true
		return true, nil
	}
	if len(n.inputs) != 2 {
		return false, nil
	}
	c, err := p.number(p.frame, p.frame.body.ref(n.inputs[1-u.slot]), 0)
	if err != nil || c == nil || p.moved && len(c) > 1 {
		return false, err
	}
	if len(c) > 1 && p.order != nil {
		if len(c) != len(p.order) {
			return false, nil
		}
		ordered := make([]float64, len(c))
		for i, from := range p.order {
			ordered[from] = c[i]
		}
		c = ordered
	}
	if !p.affine.broadcasts(c) {
		return false, nil
	}
	first := u.slot == 0
	switch {
	case n.op == "Mul":
		p.affine = p.affine.times(c)
	case (n.op == "RealDiv" || n.op == "Div") && first:
		p.affine = p.affine.times(each(c, func(x float64) float64 { return 1 / x }))
	case n.op == "Add", n.op == "AddV2", n.op == "BiasAdd" && first && string(n.attr["data_format"].GetS()) != "NCHW":
		p.affine = p.affine.plus(c)
	case n.op == "Sub" && first:
		p.affine = p.affine.plus(each(c, func(x float64) float64 { return -x }))
	case n.op == "Sub":
		p.affine = p.affine.times([]float64{-1}).plus(c)
	default:
		return false, nil
	}
	p.known = true
	return true, nil
}

// broadcasts says whether a list has one element, or as many as a has channels.
func (a Affine) broadcasts(c []float64) bool {
	return len(c) == 1 || (len(a.Scale) == 1 || len(a.Scale) == len(c)) && (len(a.Offset) == 1 || len(a.Offset) == len(c))
}

func (a Affine) times(c []float64) Affine {
	mul := func(x, y float64) float64 { return x * y }
	return Affine{both(a.Scale, c, mul), both(a.Offset, c, mul)}
}

func (a Affine) plus(c []float64) Affine {
	return Affine{a.Scale, both(a.Offset, c, func(x, y float64) float64 { return x + y })}
}

// both applies f to the elements of two lists. A list of one element stands for all channels.
func both(a, b []float64, f func(x, y float64) float64) []float64 {
	v := make([]float64, max(len(a), len(b)))
	for i := range v {
		v[i] = f(a[i%len(a)], b[i%len(b)])
	}
	return v
}

func each(a []float64, f func(float64) float64) []float64 {
	v := make([]float64, len(a))
	for i, x := range a {
		v[i] = f(x)
	}
	return v
}
