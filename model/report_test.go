package model

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// A rollback that somebody has asked for is no error; one for a fault of the version is.
func TestRolledBackLevel(t *testing.T) {
	for cause, level := range map[string]string{CauseByHand: "INFO", CauseErrors: "ERROR", CauseSlow: "ERROR", CauseHangs: "ERROR", CauseCrash: "ERROR"} {
		var log bytes.Buffer
		newReporter("m", slog.New(slog.NewTextHandler(&log, nil)), Unobserved{}).rolledBack(3, verdict{cause, "why"})
		if want := `level=` + level + ` msg="version rolled back" model=m version=3 cause=` + cause; !strings.Contains(log.String(), want) {
			t.Errorf("%s: got %s, want %s", cause, &log, want)
		}
	}
}
