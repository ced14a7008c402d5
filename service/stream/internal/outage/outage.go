// Package outage keeps what fails again and again from flooding the log.
package outage

import (
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"
)

// A Log writes about operations that fail again and again, without flooding the log. However many
// partitions and attempts fail, an operation's error is logged once, again every 30 s with a
// count, and once when the operation has recovered. An error of another kind is logged at once.
// Safe for concurrent use.
type Log struct {
	log *slog.Logger // set once

	mu sync.Mutex
	of map[string]*outage // guarded by mu
}

// An outage is one operation that fails. It is guarded by the Log's mu.
type outage struct {
	since    time.Time
	failures int
	kinds    []kind // those logged last, the latest at the end
	budget   float64
	refilled time.Time // when budget was last added to
}

// A kind is a class of errors that say the same.
type kind struct {
	text   string
	logged time.Time
}

const (
	// repeatEvery is how often an error that lasts is logged again.
	repeatEvery = 30 * time.Second

	// maxKinds is how many kinds of errors of one operation are told apart. Several may
	// alternate, as those of several brokers do.
	maxKinds = 8

	// maxBurst is how many new kinds of one operation are logged at once. After that, one is
	// logged in each repeatEvery.
	maxBurst = 8
)

// NewLog returns a Log that writes to log.
func NewLog(log *slog.Logger) *Log {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Log{log: log, of: map[string]*outage{}}
}

// Failed reports that an operation has failed and is tried again. attrs are added to the line.
func (l *Log) Failed(operation string, err error, attrs ...any) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.of[operation]
	if o == nil {
		o = &outage{since: now, budget: maxBurst, refilled: now}
		l.of[operation] = o
	}
	o.failures++
	if !o.due(kindOf(err), now) {
		return
	}
	l.log.Warn("failed, trying again", append([]any{"operation", operation, "err", err, "failures", o.failures}, attrs...)...)
}

// due tells whether an error of a kind is to be logged now, and remembers that it is. A kind that
// was logged is due again after repeatEvery, and only if no other kind was logged meanwhile, so
// that several together cost no more lines than one. A new kind is due at once, while the budget
// lasts.
func (o *outage) due(text string, now time.Time) bool {
	o.budget = min(maxBurst, o.budget+now.Sub(o.refilled).Seconds()/repeatEvery.Seconds())
	o.refilled = now
	at := slices.IndexFunc(o.kinds, func(k kind) bool { return k.text == text })
	switch {
	case at >= 0 && now.Sub(o.kinds[len(o.kinds)-1].logged) < repeatEvery:
		return false
	case at >= 0:
		o.kinds = slices.Delete(o.kinds, at, at+1)
	case o.budget < 1:
		return false
	default:
		o.budget--
		if len(o.kinds) == maxKinds {
			o.kinds = slices.Delete(o.kinds, 0, 1)
		}
	}
	o.kinds = append(o.kinds, kind{text, now})
	return true
}

// Recovered reports that an operation has succeeded. It logs that only after failures.
func (l *Log) Recovered(operation string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.of[operation]; o != nil {
		delete(l.of, operation)
		l.log.Info("recovered", "operation", operation, "after", time.Since(o.since).Round(time.Millisecond), "failures", o.failures)
	}
}

// varying matches what differs between errors that say the same: ports, offsets, durations, ids.
var varying = regexp.MustCompile(`0x[0-9a-fA-F]+|(?:[0-9][0-9.]*(?:ns|µs|ms|h|m|s)?)+`)

// maxKindBytes bounds the part of an error's text that is compared.
const maxKindBytes = 1024

// kindOf returns an error's text without what varies.
func kindOf(err error) string {
	text := err.Error()
	return varying.ReplaceAllLiteralString(text[:min(len(text), maxKindBytes)], "#")
}
