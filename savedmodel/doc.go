// Package savedmodel turns one exported TensorFlow model on disk, a
// SavedModel, into something that runs.
//
// [Inspect] reads a SavedModel's directory without TensorFlow: signatures,
// variables, assets, and whether every byte is there that the model needs.
// [Load] opens it with TensorFlow's C library and runs it in the process.
//
// With [Options.Optimize], Load makes the graph itself, for the signatures
// alone, and reads the weights from the checkpoint (freeze.go and what it
// names):
//
//	inline.go      functions' bodies in the place of their calls
//	restore.go     which value of the checkpoint each variable gets
//	fold.go        batch normalization into the filters of convolutions
//	kernels.go     convolution, BiasAdd and Relu as one; oneDNN's kernels
//	bfloat16.go    those in bfloat16, with weights of half the size
//	checkpoint.go  the values, checked, from the shards
//	frozen.go      the session, and the weights into its variables
//
// The weights stay variables rather than constants, set once: so there is one
// copy of them, in the memory that they were read into. A graph that does
// anything that is not known to be harmless is left to TensorFlow's loader.
package savedmodel
