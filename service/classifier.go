package service

import (
	"context"
	"fmt"

	"inceptor/model"
	"inceptor/model/infer"
)

// A Classifier answers images, or whatever else its model is for. It is a
// *model.Manager, a *fallback.Fallback or a *fallback.Server. Safe for concurrent use.
type Classifier interface {
	// Classify answers one encoded image; while two versions answer, those of
	// one key get the same one. An *infer.InputError blames the image, which
	// becomes a dead letter. After any other error the image is tried again.
	Classify(ctx context.Context, key, image []byte) (infer.Prediction, error)
	// Serving returns the version that answers. Its error says why none can.
	Serving() (infer.Info, error)
	// Wait returns once a version can answer, or with ctx's error.
	Wait(ctx context.Context) error
	// MaxBatch is how many images one run of the serving version takes at most.
	MaxBatch() int
}

// A VersionController is a Classifier that has versions to choose from. Without
// one, /models lists none, and there is neither canary nor shadow.
type VersionController interface {
	// Versions lists the versions there are, with their states.
	Versions() []model.Status
	// Use, UseHighest and Rollback change which version serves.
	Use(ctx context.Context, version int64) error
	UseHighest(ctx context.Context) error
	Rollback(ctx context.Context, only *int64) (int64, error)
	// Secondary is the label of the version that answers next to the stable
	// one, model.LabelCanary or model.LabelShadow; empty: there is none.
	Secondary() string
	// ClassifyAs is Classify by the version with a label.
	ClassifyAs(ctx context.Context, label string, image []byte) (infer.Prediction, error)
	// Blame rolls a version back that was unproven when native code crashed the
	// process, and tells whether it did.
	Blame(version int64) bool
}

// errNoVersions answers a request to change the version where there is no
// VersionController.
var errNoVersions = fmt.Errorf("%w here: with model.backend=remote the model server chooses its versions", model.ErrUnknownVersion)

// versionsOf lists a controller's versions; none without a controller.
func versionsOf(c VersionController) []model.Status {
	if c == nil {
		return nil
	}
	return c.Versions()
}
