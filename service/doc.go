// Package service turns a Kafka topic of images, or of what else a model is for,
// into a topic of predictions.
//
// A record's way is: read the image that the record's value is, holds or names
// (package input), classify it (package model), publish the answer. What
// cannot be answered goes to the dead-letter topic, whole, with its reason and
// origin in headers. Package stream owns fetching, order and commits.
//
// Service also tells how it fares: /healthz, /readyz, /metrics and a page for
// people.
package service
