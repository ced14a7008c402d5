// Package model serves the newest good version of a model, and takes a newer one when it comes.
//
// A model's base directory holds its versions in TensorFlow Serving's layout,
// DIR/VERSION/saved_model.pb. A Manager loads the highest one that passes its gates, and lets it
// serve. The states of a version, and what leads from one to the next, stand at the top of
// state.go.
//
// One goroutine decides, in three steps: observe (what is in the directory, what was chosen by
// hand, how the versions do), plan (a pure function of that) and apply. Classify only reads which
// version serves, and keeps it loaded until the record is answered.
//
// Package infer answers the record with one version. Package fallback answers with a model server
// while no local version can.
package model
