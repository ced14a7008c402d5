package pixels

import (
	"image"
	"math"
)

// A Fit says what becomes of a picture whose aspect ratio is not the input's.
type Fit string

// The fits.
const (
	Stretch Fit = "stretch" // the picture is resized to the input's size, whatever its aspect ratio
	Pad     Fit = "pad"     // it keeps its aspect ratio, with zeros at both sides: tf.image.resize_with_pad
	Crop    Fit = "crop"    // the largest part in the middle that has the input's aspect ratio: Keras' smart_resize
)

// A Frame says which part of a picture a model sees, and how it fits the model's
// input of Height × Width.
type Frame struct {
	// Crop is the part of each side, in the middle, that is left before the picture is
	// resized: the fraction of tf.image.central_crop. 0 and 1: all of it.
	Crop          float64
	Fit           Fit // empty: Stretch
	Height, Width int
}

// A Placement is what of a picture goes where in the input.
type Placement struct {
	From image.Rectangle // part of the picture
	To   image.Rectangle // part of the input that it is resized to; zeros are around it
}

// Plain tells whether the whole of any picture is resized to the whole input.
func (f Frame) Plain() bool {
	return (f.Crop == 0 || f.Crop == 1) && (f.Fit == "" || f.Fit == Stretch)
}

// Place is where a picture of a size goes. It calculates as TensorFlow and Keras do,
// in the same precision. From and To are never empty.
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

// cut is what tf.image.central_crop leaves out at both ends of a side. Something is left of it, also
// with a fraction that TensorFlow leaves nothing with.
func (f Frame) cut(side int) int {
	return min(int((float64(side)-float64(side)*f.Crop)/2), (side-1)/2)
}

// largest is the part of a picture that Keras' smart_resize takes.
func (f Frame) largest(r image.Rectangle) image.Rectangle {
	width, height := r.Dx(), r.Dy()
	w := max(min(width, height*f.Width/f.Height), 1)
	h := max(min(height, width*f.Height/f.Width), 1)
	at := r.Min.Add(image.Pt((width-w)/2, (height-h)/2))
	return image.Rectangle{at, at.Add(image.Pt(w, h))}
}

// padded is the part of the input that tf.image.resize_with_pad fills. A side that it
// would make 0, which TensorFlow refuses to resize to, is 1.
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
