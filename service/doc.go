// Package service turns a Kafka topic of images, or of whatever else a model is
// for, into a topic of predictions.
//
// New makes a Service of a Config and a Classifier, which mostly is a
// *model.Manager; Run answers records until its context ends. For each record it
// reads the image that the value is, holds or names (package input), asks the
// Classifier, and publishes an Answer. A record that cannot be answered goes to
// the dead-letter topic, whole, with reason and origin in its headers: a Letter.
// Package stream owns fetching, order and commits.
//
// A Service also serves HTTP: /healthz, /readyz, /metrics, /models and a page for
// people. The other functions are for commands: CheckMachine and CheckKafka try a
// configuration, and Replay sends the records of dead letters back.
package service
