// Package infer answers records with one version of a model, in this process or on a model server.
//
// A version is a SavedModel, and an assets.extra/inceptor.yaml that says how to use it, see Spec.
// Explain tells how a load would use it, without TensorFlow. A Loader takes a version through its
// gates, see GateRead and the constants after it. The Version then takes each record through the
// same steps:
//
//	image → header (limits) → decode, crop, resize, convert → batch → run → top-k
//
// Rows and tf.Examples take the place of images if the model is for them. Decoding uses
// TensorFlow's own operations, or package pixels where its library is missing. A RemoteModel runs
// its batches on a model server, and does everything else in this process.
//
// Bad records are rejected before batching, so they never affect others. Their error is an
// *InputError: the same record would fail again. Any other error may pass.
package infer
