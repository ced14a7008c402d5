package service

import (
	"errors"

	"inceptor/service/stream"
)

// errNothingTaken is wrapped where the dead-letter topic takes nothing.
var errNothingTaken = errors.New("the dead-letter topic takes nothing for it")

// stageNames are the stages in metrics.
var stageNames = map[stream.Stage]string{stream.Reading: "reading", stream.Handling: "handling", stream.Publishing: "publishing"}

// stuckReason is why a partition stands still, in a word of a fixed set, which
// metrics can have as a label. The error says it in full.
func stuckReason(stage stream.Stage, err error) string {
	refused := func() bool {
		return errors.Is(err, errNothingTaken) || errors.Is(err, stream.ErrKeyless) || errors.Is(err, stream.ErrInvalidTime)
	}
	switch {
	case errors.Is(err, stream.ErrOpenTransaction):
		return "open-transaction"
	case stage == stream.Reading:
		return "read"
	case stage == stream.Handling:
		return "model"
	case refused():
		return "refused"
	}
	return "publish"
}
