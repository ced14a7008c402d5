// Package remotetest has a model server in Go: TensorFlow Serving's services
// for any implementation of them, and a fake one for tests, with faults of its
// own and of the connections to it.
package remotetest
