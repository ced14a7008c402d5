// Package testenv is what tests stand on: it finds the model, the photos, the reference answers and TensorFlow's library
// that setup.sh brings, and runs a real Kafka broker and a model server in Python. Only tests import it, and the benchmarks
// for those two.
package testenv
