package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"inceptor/savedmodel"
)

// Durations and values with names are text in both formats, also in groups, and the level can be
// changed.
func TestLog(t *testing.T) {
	for format, want := range map[string]string{
		"json": `"took":"1.5s","of":{"load":"250ms"},"kernels":"onednn","err":"bad"`,
		"text": "took=1.5s of.load=250ms kernels=onednn err=bad",
	} {
		var out bytes.Buffer
		log, level := newLog(cli{LogFormat: format, LogLevel: slog.LevelWarn}, &out)
		log.Info("hidden")
		level.Set(slog.LevelInfo)
		log.Info("shown", "took", 1500*time.Millisecond, slog.Group("of", "load", 250*time.Millisecond), "kernels", savedmodel.KernelsOneDNN, "err", fmt.Errorf("bad"))
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want one line with %q", format, got, want)
		}
	}
}
