package pixels

import (
	"image"
	"math"
)

// A Fit says how a picture with another aspect ratio fits the input.
type Fit string

// The fits.
const (
	Stretch Fit = "stretch" // the picture is resized to the input's size, whatever its aspect ratio
	Pad     Fit = "pad"     // it keeps its aspect ratio, with zeros at both sides, as with tf.image.resize_with_pad
	Crop    Fit = "crop"    // the largest part in the middle with the input's aspect ratio, as with Keras' smart_resize
)

// A Frame says which part of a picture a model sees, and how it fits the model's
// input of Height × Width.
type Frame struct {
	// Crop is the fraction of each side to keep, in the middle, before the picture is
	// resized, as with tf.image.central_crop. 0 and 1: all of it.
	Crop          float64
	Fit           Fit // empty: Stretch
	Height, Width int
}

// A Placement says which part of a picture goes where in the input.
type Placement struct {
	From image.Rectangle // part of the picture
	To   image.Rectangle // part of the input that it is resized to; the rest is zeros
}

// Plain reports whether every picture is resized as a whole to the whole input.
func (f Frame) Plain() bool {
	return (f.Crop == 0 || f.Crop == 1) && (f.Fit == "" || f.Fit == Stretch)
}

// Place returns the placement of a picture of this size. It calculates as TensorFlow and Keras
// do, in the same precision. From and To are never empty.
func (f Frame) Place(width, height int) Placement {
	from := image.Rect(0, 0, width, height)
	if f.Crop > 0 && f.Crop < 1 { // tf.image.central_crop
		x, y := f.cut(width), f.cut(height)
		from = image.Rect(x, y, width-x, height-y)
	}
	p := Placement{From: from, To: image.Rect(0, 0, f.Width, f.Height)}
	switch f.Fit {
	case Crop:
		p.From = f.largest(from)
	case Pad:
		p.To = f.padded(from.Dx(), from.Dy())
	}
	return p
}

// cut returns how much tf.image.central_crop cuts off at each end of a side. At least one pixel
// is left, even where TensorFlow leaves none.
func (f Frame) cut(side int) int {
	return min(int((float64(side)-float64(side)*f.Crop)/2), (side-1)/2)
}

// largest returns the part of a picture that Keras' smart_resize takes.
func (f Frame) largest(r image.Rectangle) image.Rectangle {
	width, height := r.Dx(), r.Dy()
	w := max(min(width, height*f.Width/f.Height), 1)
	h := max(min(height, width*f.Height/f.Width), 1)
	at := r.Min.Add(image.Pt((width-w)/2, (height-h)/2))
	return image.Rectangle{at, at.Add(image.Pt(w, h))}
}

// padded returns the part of the input that tf.image.resize_with_pad fills. A side is at least
// 1, where that has 0, to which TensorFlow refuses to resize.
func (f Frame) padded(width, height int) image.Rectangle {
	ratio := max(float32(width)/float32(f.Width), float32(height)/float32(f.Height))
	side := func(from, to int) (begin, end int) {
		exact := float32(from) / ratio
		begin = max(0, int(math.Floor(float64((float32(to)-exact)/2))))
		return begin, min(begin+max(1, int(exact)), to)
	}
	x0, x1 := side(width, f.Width)
	y0, y1 := side(height, f.Height)
	return image.Rect(x0, y0, x1, y1)
}
