// Package fallback answers with a model server while no local version can.
//
// A Fallback asks the versions of a model.Manager first, and a model server, with TensorFlow
// Serving's gRPC interface, while none of them serves, or while the one that does hangs or fails. A
// Server asks the model server alone: it needs neither local versions nor TensorFlow's library.
package fallback
