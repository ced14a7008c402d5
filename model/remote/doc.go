// Package remote asks a model server that speaks TensorFlow Serving's gRPC
// protocol what a batch of images is.
//
// A Client has one channel to one model under one address, and spreads calls
// over all the addresses behind a name. Predict sends a batch and returns its
// scores, within a budget that holds waiting, calls and retries together:
//
//	place → breaker → call → checks → scores
//	           ↑        │ may succeed in a moment
//	           └─ pause ┘
//
// A call is repeated only for what may pass (Unavailable, ResourceExhausted,
// Aborted, DeadlineExceeded). Each failed call counts for the breaker; when it
// opens, batches are turned away at once, and after a while one goes first to
// see whether the server answers. A prediction has no side effects, so that a
// batch that was answered although its call failed may be sent again.
//
// An Error's Kind tells what to do. KindInput and KindTooLarge are about the
// batch: halve it until the guilty image is alone. With all others its records
// wait: nothing is wrong with them. Memory is bounded by the batches under way
// (fallback.concurrency), of each the tensor and its encoded message.
//
// Package fallback decides when the model server is asked, and package infer makes the batches.
// This package knows nothing of local versions but the number that may have to match.
package remote
