package pixels

import "math"

// stretch returns how many pixels of the input one pixel of the output spans.
func stretch(in, out int, alignCorners bool) float32 {
	if alignCorners && in > 1 && out > 1 {
		return float32(in-1) / float32(out-1)
	}
	return float32(in) / float32(out)
}

// center returns where in the input the centre of an output pixel lies, counted from the
// centre of the first pixel.
func (r Recipe) center(i int, scale float32) float32 {
	if r.HalfPixelCenters {
		return float32((float32(i)+0.5)*scale) - 0.5
	}
	return float32(i) * scale
}

// A lerp is the position of an output pixel between two input pixels.
type lerp struct {
	lower, upper int
	part         float32 // of the way from lower to upper
}

func (r Recipe) lerp(i, in int, scale float32) lerp {
	at := r.center(i, scale)
	floor := math.Floor(float64(at))
	upper := min(int(math.Ceil(float64(at))), in-1)
	return lerp{min(max(int(floor), 0), upper), upper, at - float32(floor)}
}

// bilinear is TensorFlow's ResizeBilinear.
func (r Recipe) bilinear(p region, out *sink) {
	xs := make([]lerp, out.place.Dx())
	scale := stretch(p.Dx(), len(xs), r.AlignCorners)
	for i := range xs {
		xs[i] = r.lerp(i, p.Dx(), scale)
	}
	rows := out.place.Dy()
	scale = stretch(p.Dy(), rows, r.AlignCorners)
	for i := range rows {
		y := r.lerp(i, p.Dy(), scale)
		top, bottom := p.row(y.lower), p.row(y.upper)
		for i, x := range xs {
			to, l, u := out.line[3*i:3*i+3], 3*x.lower, 3*x.upper
			for c := range to {
				t := between(float32(top[l+c]), float32(top[u+c]), x.part)
				b := between(float32(bottom[l+c]), float32(bottom[u+c]), x.part)
				to[c] = between(t, b, y.part)
			}
		}
		out.put()
	}
}

func between(a, b, part float32) float32 { return a + float32((b-a)*part) }

// picks returns, for each pixel of the output, the pixel of the input that it copies.
func (r Recipe) picks(in, out int) []int {
	scale := stretch(in, out, r.AlignCorners)
	all := make([]int, out)
	for i := range all {
		at := float64(float32(i) * scale)
		switch {
		case r.HalfPixelCenters:
			at = math.Floor(float64((float32(i) + 0.5) * scale))
		case r.AlignCorners:
			at = math.Round(at)
		}
		all[i] = min(int(at), in-1)
	}
	return all
}

// nearest is TensorFlow's ResizeNearestNeighbor.
func (r Recipe) nearest(p region, out *sink) {
	xs := r.picks(p.Dx(), out.place.Dx())
	for _, y := range r.picks(p.Dy(), out.place.Dy()) {
		from := p.row(y)
		for i, x := range xs {
			for c, v := range from[3*x : 3*x+3] {
				out.line[3*i+c] = float32(v)
			}
		}
		out.put()
	}
}

// A span is the input pixels that one output pixel covers, wholly or in part.
type span struct {
	start, end int
	parts      []float32 // how much of each pixel from start to end is covered
}

// spans divides a side. Rounding may lead beyond the edge of the input: such a pixel stands
// for the last one.
func (r Recipe) spans(in, out int) (spans []span, scale float32) {
	scale = stretch(in, out, r.AlignCorners)
	spans = make([]span, out)
	parts := make([]float32, 0, in+2*out) // of all spans
	for i := range spans {
		from, to := float32(i)*scale, float32(i+1)*scale
		s := span{start: int(math.Floor(float64(from))), end: int(math.Ceil(float64(to)))}
		first := len(parts)
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
			parts = append(parts, part)
		}
		s.parts = parts[first:]
		spans[i] = s
	}
	return spans, scale
}

// area is TensorFlow's ResizeArea.
func (r Recipe) area(p region, out *sink) {
	xs, scaleX := r.spans(p.Dx(), out.place.Dx())
	ys, scaleY := r.spans(p.Dy(), out.place.Dy())
	scale := float32(1 / float64(scaleY*scaleX))
	for _, y := range ys {
		for i, x := range xs {
			var sum [3]float32
			for j, partY := range y.parts {
				row := p.row(min(y.start+j, p.Dy()-1))
				var line [3]float32
				for i, partX := range x.parts {
					at := 3 * min(x.start+i, p.Dx()-1)
					for c := range line {
						line[c] += float32(float32(row[at+c]) * partX)
					}
				}
				for c := range sum {
					sum[c] += float32(line[c] * partY)
				}
			}
			for c, v := range sum {
				out.line[3*i+c] = v * scale
			}
		}
		out.put()
	}
}
