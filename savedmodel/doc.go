// Package savedmodel reads, loads and runs TensorFlow SavedModels.
//
// Two functions read a SavedModel's files without TensorFlow:
//
//   - [Inspect] lists signatures, variables and assets, and says whether the copy is complete.
//   - [ReadGraph] reads the graph's structure and says what it does with each input.
//
// [Load] opens the model with TensorFlow's C library. [Model.SignatureFunction] looks up a
// signature's inputs and outputs once; [Function.Run] then runs it as often as needed, on [Tensor]
// values. A tensor owns native memory, so close every one.
//
// With [Options.Optimize], Load builds a smaller graph from the signatures and reads the weights
// itself. These files do it, in this order:
//
//	inline.go          replaces calls of functions by the functions' bodies
//	freeze.go          keeps what the signatures need, and refuses what has state
//	control.go         removes TensorFlow 1's conditions whose value is known
//	restore.go         finds the checkpoint's value of each variable
//	partition.go       joins the parts of a partitioned variable
//	table.go           keeps what fills lookup tables
//	fold.go            folds batch normalization into the filters of convolutions
//	kernels.go         fuses convolution, BiasAdd and Relu; chooses oneDNN's kernels
//	finite_results.go  adds checks for NaN where a fused Relu would hide it
//	precision.go       says which precisions the library and the processor have
//	int8_choice.go     chooses what to compute in int8, from the ranges of layers
//	int8.go            converts that, and its weights, to int8
//	layer.go           lists the layers whose ranges int8 needs
//	bfloat16.go        converts convolutions and their weights to bfloat16
//	checkpoint.go      reads the values from the shards and verifies their checksums
//	frozen.go          opens the session and sets its variables
//
// The weights stay variables, because a constant would be copied into each kernel that uses it. So
// there is one copy of the weights, in the memory that they were read into. Load leaves a graph to
// TensorFlow's own loader if it holds any operation that is not known to be harmless.
//
// # For those who know TensorFlow's Go binding, or tfgo
//
// These are the calls of TensorFlow's binding (tf) and of github.com/galeone/tfgo (tg), and those
// of this package:
//
//	tf.LoadSavedModel(dir, tags, options)    m, err := Load(ctx, dir, Options{Tags: tags})
//	tg.LoadModel(dir, tags, options)         the same; tg panics where it gives an error
//	m.Signatures["serving_default"]          m.Signature("serving_default")
//	m.Graph.Operation("x").Output(1)         "x:1", or the key of a signature's input or output
//	m.Op("x", 1)                             the same
//	m.Session.Run(feeds, fetches, nil)       f, err := m.SignatureFunction(key, inputs, outputs)
//	                                         results, err := f.Run(ctx, tensors...)
//	m.Exec(fetches, feeds)                   the same; or once: m.Run(ctx, key, tensors)
//	tf.NewTensor([][]float32{{1, 2}})        t, err := NewTensor(Float32, 1, 2)
//	                                         values, err := Data[float32](t); copy(values, …)
//	tf.NewTensor([]string{"a"})              t, err := NewStringTensor([][]byte{[]byte("a")}, 1)
//	t.Value().([][]float32)                  Data[float32](t), and t.Shape()
//	t.Value().([]string)                     t.Strings()
//	tf.NewGraph, graph.Import,               s, err := NewSession(graphDef, Options{})
//	tf.NewSession(graph, options)            f, err := s.Function([]string{"x"}, []string{"y:0"})
//	tg.ImportModel(file, "", options)        the same, with the file's bytes in a tfpb.GraphDef
//	m.Session.Close()                        m.Close()
//	tf.Version()                             LibraryVersion()
//
// This differs:
//
//   - A tensor is freed by Close. There a finalizer frees it, some time later, and meanwhile the
//     memory is taken: the collector does not see it.
//   - Feeds and fetches are looked up once, by [Model.SignatureFunction] or [Session.Function]. A
//     run takes its tensors in that order, not in a map.
//   - A tensor's elements are one slice in row-major order, in TensorFlow's memory, and not nested
//     slices that are copied.
//   - The library is opened when the first model is loaded, or by [OpenLibrary]. Without it the
//     program starts all the same, and gets [ErrNoRuntime].
//   - [Options.Optimize] builds a faster graph.
//   - Graphs are not built here, and models are not trained: there is no tf.Scope, no package op.
package savedmodel
