package service

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"inceptor/internal/clip"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// A recordLog writes a line to the log for each answer and each dead letter: what
// log.records asks for. It is for people who watch, so the lines of a second are
// bounded. nil: it writes nothing. Safe for concurrent use.
type recordLog struct {
	// Set once.
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex // guards what follows
	second  time.Time  // in which the last line was asked for
	lines   int        // asked for in that second
	skipped int        // lines since the last one that was written
}

const (
	maxLinesASecond = 100
	maxNameInLine   = 200 // bytes of a path, a label or an error
)

func newRecordLog(on bool, log *slog.Logger) *recordLog {
	if !on {
		return nil
	}
	return &recordLog{log: log, now: time.Now}
}

func (l *recordLog) isOn() bool {
	return l != nil && l.log.Enabled(context.Background(), slog.LevelInfo)
}

// answered writes the path or URL that the record names, else the record's id, and
// the best class.
func (l *recordLog) answered(r stream.Record, image input.Image, p infer.Prediction) {
	if !l.isOn() {
		return
	}
	name := r.ID()
	if _, source, named := strings.Cut(image.Source, ":"); named {
		name = source
	}
	attrs := []slog.Attr{slog.String("record", clip.Text(name, maxNameInLine))}
	switch {
	case len(p.Classes) > 0:
		best := p.Classes[0]
		attrs = append(attrs, slog.String("label", clip.Text(best.Name(), maxNameInLine)), slog.Float64("score", roundedScore(best.Score)))
	case len(p.Scores) == 1:
		attrs = append(attrs, slog.Float64("score", roundedScore(p.Scores[0])))
	}
	l.write("answered", attrs)
}

// deadLetter writes the record's id, and why it has no answer.
func (l *recordLog) deadLetter(r stream.Record, reason string, err error) {
	if !l.isOn() {
		return
	}
	l.write("dead letter", []slog.Attr{
		slog.String("record", r.ID()), slog.String("reason", reason), slog.String("err", clip.Text(err.Error(), maxNameInLine)),
	})
}

// write logs a line, unless the second has had its lines.
func (l *recordLog) write(what string, attrs []slog.Attr) {
	write, skipped := l.admit(l.now())
	if !write {
		return
	}
	if skipped > 0 {
		l.log.Info("records were not logged: there were too many in a second", "records", skipped, "limit", maxLinesASecond)
	}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, what, attrs...)
}

// admit tells whether a line may be written now, and how many could not be since the
// last one.
func (l *recordLog) admit(now time.Time) (write bool, skipped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if second := now.Truncate(time.Second); !second.Equal(l.second) {
		l.second, l.lines = second, 0
	}
	l.lines++
	if l.lines > maxLinesASecond {
		l.skipped++
		return false, 0
	}
	skipped, l.skipped = l.skipped, 0
	return true, skipped
}

// roundedScore has at most four digits after the point, as the demo and classify show
// scores.
func roundedScore(score float32) float64 { return math.Round(float64(score)*1e4) / 1e4 }
