// Package model turns images into labels with the newest version of a model, or
// rows and tf.Examples into scores.
//
// A model's base directory holds its versions in TensorFlow Serving's layout,
// DIR/VERSION/saved_model.pb. A Manager serves the highest one that passes its
// gates, and takes a higher one when it comes; Classify leases what serves, decodes and scales the image with TensorFlow's
// own operations, joins what is ready to a batch, runs the batch and ranks the
// scores:
//
//	image → header (caps) → decode, resize, scale → batch → run → top-k
//
// What is wrong with an image is found before the batch, so that it costs its
// neighbours nothing, and is an *InputError: the same image would fail again.
// Any other error may pass.
//
// A version carries its own preprocessing in assets.extra/inceptor.yaml; see
// Spec. What it must pass before it serves is in the Gate constants.
package model
