package pixels

import "math"

// stretch is how many pixels of the input one pixel of the output spans.
func stretch(in, out int, alignCorners bool) float32 {
	if alignCorners && in > 1 && out > 1 {
		return float32(in-1) / float32(out-1)
	}
	return float32(in) / float32(out)
}

// A lerp is where a pixel of the output lies between two of the input.
type lerp struct {
	lower, upper int
	part         float32 // of the way from lower to upper
}

func (r Recipe) lerps(in, out int) []lerp {
	scale := stretch(in, out, r.AlignCorners)
	all := make([]lerp, out)
	for i := range all {
		at := float32(i) * scale
		if r.HalfPixelCenters {
			at = float32((float32(i)+0.5)*scale) - 0.5
		}
		floor := math.Floor(float64(at))
		upper := min(int(math.Ceil(float64(at))), in-1)
		all[i] = lerp{min(max(int(floor), 0), upper), upper, at - float32(floor)}
	}
	return all
}

// bilinear is TensorFlow's ResizeBilinear.
func (r Recipe) bilinear(p picture, out *sink) {
	xs := r.lerps(p.width, r.Width)
	for _, y := range r.lerps(p.height, r.Height) {
		top, bottom := p.row(y.lower), p.row(y.upper)
		for _, x := range xs {
			for c := range 3 {
				l, u := 3*x.lower+c, 3*x.upper+c
				t := between(float32(top[l]), float32(top[u]), x.part)
				b := between(float32(bottom[l]), float32(bottom[u]), x.part)
				out.put(between(t, b, y.part))
			}
		}
	}
}

func between(a, b, part float32) float32 { return a + float32((b-a)*part) }

// A span is the pixels of the input that lie, wholly or in part, under one
// pixel of the output.
type span struct {
	start, end int
	parts      []float32 // of each pixel from start to end
}

// spans cuts a side. A pixel beyond the input's edge, where rounding leads,
// stands for the last one.
func (r Recipe) spans(in, out int) (spans []span, scale float32) {
	scale = stretch(in, out, r.AlignCorners)
	spans = make([]span, out)
	for i := range spans {
		from, to := float32(i)*scale, float32(i+1)*scale
		s := span{start: int(math.Floor(float64(from))), end: int(math.Ceil(float64(to)))}
		for j := s.start; j < s.end; j++ {
			part := float32(1)
			switch before, after := float32(j) < from, float32(j+1) > to; {
			case before && after:
				part = scale
			case before:
				part = float32(j+1) - from
			case after:
				part = to - float32(j)
			}
			s.parts = append(s.parts, part)
		}
		spans[i] = s
	}
	return spans, scale
}

// area is TensorFlow's ResizeArea.
func (r Recipe) area(p picture, out *sink) {
	xs, scaleX := r.spans(p.width, r.Width)
	ys, scaleY := r.spans(p.height, r.Height)
	scale := float32(1 / float64(scaleY*scaleX))
	for _, y := range ys {
		for _, x := range xs {
			var sum [3]float32
			for j, partY := range y.parts {
				row := p.row(min(y.start+j, p.height-1))
				var line [3]float32
				for i, partX := range x.parts {
					at := 3 * min(x.start+i, p.width-1)
					for c := range line {
						line[c] += float32(float32(row[at+c]) * partX)
					}
				}
				for c := range sum {
					sum[c] += float32(line[c] * partY)
				}
			}
			for _, v := range sum {
				out.put(v * scale)
			}
		}
	}
}
