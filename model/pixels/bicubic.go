package pixels

import (
	"math"
	"sync"
)

// cubicSteps is how many positions between two pixels TensorFlow's ResizeBicubic distinguishes.
const cubicSteps = 1024

// cubicTable holds the weights of pixels by their distance in steps, as TensorFlow's table
// does: near for up to one pixel, far for one to two.
type cubicTable struct{ near, far [cubicSteps + 1]float32 }

// TensorFlow uses the weights of Keys with half-pixel centers, and sharper ones without.
var (
	keysCubics   = sync.OnceValue(func() *cubicTable { return newCubicTable(-0.5) })
	legacyCubics = sync.OnceValue(func() *cubicTable { return newCubicTable(-0.75) })
)

func newCubicTable(a float64) *cubicTable {
	t := &cubicTable{}
	for i := range t.near {
		x := float64(i) / cubicSteps
		t.near[i] = float32(((a+2)*x-(a+3))*x*x + 1)
		x++
		t.far[i] = float32(((a*x-5*a)*x+8*a)*x - 4*a)
	}
	return t
}

// A cubic is the four pixels of the input that a pixel of the output is computed from.
type cubic struct {
	index  [4]int
	weight [4]float32
}

func (r Recipe) cubics(in, out int) []cubic {
	scale := stretch(in, out, r.AlignCorners)
	table := legacyCubics()
	if r.HalfPixelCenters {
		table = keysCubics()
	}
	all := make([]cubic, out)
	for i := range all {
		at := r.center(i, scale)
		floor := float32(math.Floor(float64(at)))
		step := int(math.RoundToEven(float64((at - floor) * cubicSteps)))
		p := cubic{weight: [4]float32{table.far[step], table.near[step], table.near[cubicSteps-step], table.far[cubicSteps-step]}}
		for j := range p.index {
			index := int(floor) - 1 + j
			p.index[j] = min(max(index, 0), in-1)
			if r.HalfPixelCenters && p.index[j] != index {
				p.weight[j] = 0 // TensorFlow's older resize repeats the pixel at the edge
			}
		}
		if r.HalfPixelCenters {
			p.normalize()
		}
		all[i] = p
	}
	return all
}

// normalize makes the sum of the weights 1.
func (p *cubic) normalize() {
	sum := p.weight[0] + p.weight[1] + p.weight[2] + p.weight[3]
	if float32(math.Abs(float64(sum))) < 1000*0x1p-126 {
		return
	}
	for i := range p.weight {
		p.weight[i] *= 1 / sum
	}
}

func (p *cubic) mix(a, b, c, d float32) float32 {
	return float32(a*p.weight[0]) + float32(b*p.weight[1]) + float32(c*p.weight[2]) + float32(d*p.weight[3])
}

// bicubic is TensorFlow's ResizeBicubic.
func (r Recipe) bicubic(p region, out *sink) {
	xs := r.cubics(p.Dx(), out.place.Dx())
	for _, y := range r.cubics(p.Dy(), out.place.Dy()) {
		var rows [4][]byte
		for i := range rows {
			rows[i] = p.row(y.index[i])
		}
		column := func(x, c int) float32 {
			at := 3*x + c
			return y.mix(float32(rows[0][at]), float32(rows[1][at]), float32(rows[2][at]), float32(rows[3][at]))
		}
		for i := range xs {
			x := &xs[i]
			for c := range 3 {
				out.line[3*i+c] = x.mix(column(x.index[0], c), column(x.index[1], c), column(x.index[2], c), column(x.index[3], c))
			}
		}
		out.put()
	}
}
