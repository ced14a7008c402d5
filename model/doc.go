// Package model turns images into labels with the newest version of a model, or
// rows and tf.Examples into scores.
//
// A model's base directory holds its versions in TensorFlow Serving's layout,
// DIR/VERSION/saved_model.pb. A Manager serves the highest one that passes its
// gates, and takes a higher one when it comes. Classify leases the serving version,
// makes the model's input with TensorFlow's own operations, joins what is ready to a
// batch, runs the batch and ranks the scores:
//
//	image → header (caps) → decode, crop, resize, convert → batch → run → top-k
//
// A version may also list outputs that a Prediction has as arrays, see Array.
//
// Bad images are rejected before batching, so they never affect other records. Their
// error is an *InputError: the same image would fail again. Any other error may pass.
//
// A version carries its own preprocessing in assets.extra/inceptor.yaml; see
// Spec. What it must pass before it serves is in the Gate constants.
package model
