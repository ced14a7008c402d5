package infer

// Content says what records hold. Its values are those of input.format.
type Content string

// The values of Content. The zero value means Images.
const (
	Images   Content = "image"       // encoded images
	Rows     Content = "tensor-json" // rows of TensorFlow Serving's JSON format
	Examples Content = "example"     // serialized tf.Examples, for signatures that parse them
)

// Image reports whether records hold images.
func (c Content) Image() bool { return c == "" || c == Images }

// MaxBatch returns the default of model.batch.max. A run has an overhead of some 10 µs, which is
// little for an image and much for a row. Larger batches of images need more memory and, with
// two at a time, hardly less time.
func (c Content) MaxBatch() int {
	if c.Image() {
		return 4
	}
	return 256
}
