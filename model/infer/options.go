package infer

import (
	"time"

	"inceptor/savedmodel"
)

// Options say how to load and run a version.
type Options struct {
	Model   string  // name for answers and the log
	Content Content // what records hold

	// Session says how to load the version and its decoder.
	Session savedmodel.Options
	// RunLimit says how long a run may take, by the longest run of the warm-up; nil: the longer
	// of 30 seconds and 50 times that.
	RunLimit func(longest time.Duration) time.Duration
	// NoFallback refuses a version that cannot run in Session.Precision. Otherwise it runs in
	// float32.
	NoFallback bool
	// Calibration has the ranges for a version that runs in int8. Nil: those of its own
	// CalibrationFile.
	Calibration *Calibration

	Batch      Batch
	MaxPixels  int64 // of an image
	DecodeFast bool  // decode a large JPEG at a smaller size
}

// A Batch says how to join records to batches.
type Batch struct {
	// A second batch, if it is full, may run at the same time. A version whose signature takes
	// batches of one size always runs with that size.
	Max int `default:"0" help:"Most images in one batch. 0: 4 images, or 256 records that are no images."`

	// Batches become smaller until a run takes half of it, since a record may have to wait for the
	// run before its own; they grow again when runs get faster. Behind a backlog a record waits
	// longer.
	LatencyBudget time.Duration `default:"0s" help:"Time that a record should take in the model under load. 0s: no limit."`
}
