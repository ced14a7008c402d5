//go:build !linux

package host

import (
	"log/slog"
	"time"
)

// LoadInBackground does work with normal priority: only Linux has a class that can be left again.
func LoadInBackground(_ time.Duration, _ *slog.Logger, work func()) (restore func()) {
	work()
	return func() {}
}
