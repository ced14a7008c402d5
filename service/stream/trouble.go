package stream

import (
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"
)

// A Trouble logs what fails again and again without flooding the log. However
// many partitions and attempts fail, an operation's error is logged once, again
// every so often with a count, and once when the operation works again. An
// error of another kind is logged at once.
type Trouble struct {
	log *slog.Logger // set once

	mu sync.Mutex
	of map[string]*outage // guarded by mu
}

// An outage is one operation that fails.
type outage struct {
	since    time.Time
	failures int
	kinds    []kind // those told last, the latest at the end
	budget   float64
	refilled time.Time // when budget was last added to
}

// A kind is a class of errors that say the same, and when it was last logged.
type kind struct {
	text   string
	logged time.Time
}

const (
	// repeatEvery is how often an error that goes on is logged again.
	repeatEvery = 30 * time.Second

	// maxKinds is how many kinds of errors of one operation are told apart.
	// Several can take turns, as those of several brokers do.
	maxKinds = 8

	// maxBurst is how many new kinds of one operation are logged at once. After
	// it there is one each repeatEvery.
	maxBurst = 8
)

// NewTrouble returns a Trouble that writes to log.
func NewTrouble(log *slog.Logger) *Trouble {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Trouble{log: log, of: map[string]*outage{}}
}

// Failed notes that an operation came to nothing and is tried again.
func (t *Trouble) Failed(operation string, err error, attrs ...any) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of[operation]
	if o == nil {
		o = &outage{since: now, budget: maxBurst, refilled: now}
		t.of[operation] = o
	}
	o.failures++
	if !o.due(kindOf(err), now) {
		return
	}
	t.log.Warn("failed, trying again", append([]any{"operation", operation, "err", err, "failures", o.failures}, attrs...)...)
}

// due tells whether an error of a kind is to be logged now, and notes that it
// is. A kind that was logged comes again after repeatEvery, and only if no
// other kind was logged meanwhile, so that several together cost no more lines
// than one. A new kind comes at once, while the budget lasts.
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

// Worked notes that an operation went well.
func (t *Trouble) Worked(operation string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.of[operation]; o != nil {
		delete(t.of, operation)
		t.log.Info("works again", "operation", operation, "after", time.Since(o.since).Round(time.Millisecond), "failures", o.failures)
	}
}

// varying is what differs between errors that say the same: ports, offsets,
// durations, ids.
var varying = regexp.MustCompile(`0x[0-9a-fA-F]+|(?:[0-9][0-9.]*(?:ns|µs|ms|h|m|s)?)+`)

// maxKindBytes bounds what is compared of an error's text.
const maxKindBytes = 1024

// kindOf is an error's text without what varies.
func kindOf(err error) string {
	text := err.Error()
	return varying.ReplaceAllLiteralString(text[:min(len(text), maxKindBytes)], "#")
}
