// Package remotetest has a model server in Go for tests. It serves TensorFlow Serving's
// services for any implementation of them. A fake implementation can fail on request, and
// the server can freeze and cut its connections.
package remotetest
