// Package testenv is what tests build on. It finds the model, the photos, the reference answers and
// TensorFlow's library that setup.sh brings, and runs real Kafka brokers and a model server in
// Python. Only tests import it, and the benchmarks for the brokers and the model server.
package testenv
