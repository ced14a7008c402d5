package pixels

import "image"

// fromYCbCr converts to RGB as libjpeg-turbo does with TensorFlow's settings: "fancy"
// upsampling, a triangle filter, where chroma is halved in one direction or both, and
// repeated pixels elsewhere; then integers with a fraction of 16 bits.
func fromYCbCr(p picture, img *image.YCbCr) {
	up := upsampler(img.SubsampleRatio, p.width)
	halved := img.SubsampleRatio == image.YCbCrSubsampleRatio420 || img.SubsampleRatio == image.YCbCrSubsampleRatio422
	columns := p.width
	if halved {
		columns = (p.width + 1) / 2
	}
	cb, cr := make([]byte, 2*columns+4), make([]byte, 2*columns+4)
	for y := range p.height {
		up(cb, img.Cb, img, y, columns, p.height)
		up(cr, img.Cr, img, y, columns, p.height)
		luma, to := img.Y[y*img.YStride:], p.row(y)
		for x := range p.width {
			l, b, r := int32(luma[x]), int32(cb[x])-128, int32(cr[x])-128
			to[3*x] = clamp(l + (91881*r+32768)>>16)
			to[3*x+1] = clamp(l + (-22554*b-46802*r+32768)>>16)
			to[3*x+2] = clamp(l + (116130*b+32768)>>16)
		}
	}
}

func clamp(v int32) byte { return byte(min(max(v, 0), 255)) }

// An upsample writes row y of a chroma plane in full width. Of each row of the plane, columns
// samples belong to the image.
type upsample func(to, plane []byte, img *image.YCbCr, y, columns, height int)

func upsampler(ratio image.YCbCrSubsampleRatio, width int) upsample {
	// libjpeg repeats samples where too few are there to interpolate.
	narrow := (width+1)/2 <= 2
	switch ratio {
	case image.YCbCrSubsampleRatio444:
		return func(to, plane []byte, img *image.YCbCr, y, columns, _ int) {
			copy(to, plane[y*img.CStride:][:columns])
		}
	case image.YCbCrSubsampleRatio422:
		if !narrow {
			return func(to, plane []byte, img *image.YCbCr, y, columns, _ int) {
				across(to, plane[y*img.CStride:][:columns])
			}
		}
	case image.YCbCrSubsampleRatio420:
		if !narrow {
			return func(to, plane []byte, img *image.YCbCr, y, columns, height int) {
				near, far := nearRows(plane, img.CStride, y, columns, height)
				both(to, near, far)
			}
		}
	case image.YCbCrSubsampleRatio440:
		return func(to, plane []byte, img *image.YCbCr, y, columns, height int) {
			near, far := nearRows(plane, img.CStride, y, columns, height)
			bias := 1 + y%2
			for i := range near {
				to[i] = byte((3*int(near[i]) + int(far[i]) + bias) >> 2)
			}
		}
	}
	return func(to, plane []byte, img *image.YCbCr, y, _, _ int) {
		for x := range img.Rect.Dx() {
			to[x] = plane[img.COffset(img.Rect.Min.X+x, img.Rect.Min.Y+y)]
		}
	}
}

// nearRows returns the row of a plane of half the height that covers the image's row y, and
// the next nearest one; at the edge both are the same.
func nearRows(plane []byte, stride, y, columns, height int) (near, far []byte) {
	n := y / 2
	f := min(max(n-1+y%2*2, 0), (height+1)/2-1)
	return plane[n*stride:][:columns], plane[f*stride:][:columns]
}

// across doubles a row of more than two samples.
func across(to, from []byte) {
	last := len(from) - 1
	for i, v := range from {
		left, right := 3*int(v)+1, 3*int(v)+2
		to[2*i], to[2*i+1] = v, v
		if i > 0 {
			to[2*i] = byte((left + int(from[i-1])) >> 2)
		}
		if i < last {
			to[2*i+1] = byte((right + int(from[i+1])) >> 2)
		}
	}
}

// both doubles a row that lies between two rows.
func both(to, near, far []byte) {
	sum := func(i int) int { return 3*int(near[i]) + int(far[i]) }
	last := len(near) - 1
	before, this := sum(0), sum(0)
	for i := range near {
		after := this
		if i < last {
			after = sum(i + 1)
		}
		to[2*i] = byte((3*this + before + 8) >> 4)
		to[2*i+1] = byte((3*this + after + 7) >> 4)
		before, this = this, after
	}
}
