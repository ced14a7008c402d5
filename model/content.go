package model

// Content says what the model is asked about. The words are those of
// input.format.
type Content string

// The contents. The zero value is Images.
const (
	Images   Content = "image"       // encoded images
	Rows     Content = "tensor-json" // rows of TensorFlow Serving's JSON format: see row
	Examples Content = "example"     // serialized tf.Examples, for signatures that parse them
)

// image tells whether c is Images.
func (c Content) image() bool { return c == "" || c == Images }

// maxBatch is how many items run together where model.batch.max does not say.
// A run costs some 10 µs besides what it computes: nothing for an image, more
// than a row. Larger batches of images take more memory and, with two at once,
// hardly less time.
func (c Content) maxBatch() int {
	if c.image() {
		return 4
	}
	return 256
}
