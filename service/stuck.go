package service

import (
	"errors"

	"inceptor/service/stream"
)

// errNothingTaken is wrapped by the error for a record of which the dead-letter topic does not take
// even a shortened dead letter.
var errNothingTaken = errors.New("the dead-letter topic takes no dead letter for it")

// stageNames are the stages in metrics.
var stageNames = map[stream.Stage]string{stream.Reading: "reading", stream.Handling: "handling", stream.Publishing: "publishing"}

// stuckReason returns why a partition stands still, as one of a fixed set of words: a label of a
// metric. The error has the details.
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
