//go:build !linux

package model

import (
	"log/slog"
	"time"
)

// calmly does work; only on Linux it is known how to hold it back.
func calmly(_ time.Duration, _ *slog.Logger, work func()) (raise func()) {
	work()
	return func() {}
}

func mayCalm() bool { return false }
