package stream

import (
	"log/slog"
	"sync"
	"time"
)

// A Trouble keeps a lost broker from flooding the log: however many
// partitions and attempts fail, each operation is logged once, again every
// so often with a count, and once when it works again.
type Trouble struct {
	log   *slog.Logger
	every time.Duration

	mu sync.Mutex
	of map[string]*outage
}

type outage struct {
	since, logged time.Time
	failures      int
}

// NewTrouble returns a Trouble that writes to log.
func NewTrouble(log *slog.Logger) *Trouble {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Trouble{log: log, every: 30 * time.Second, of: map[string]*outage{}}
}

// Failed notes that an operation came to nothing and is tried again.
func (t *Trouble) Failed(operation string, err error, attrs ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of[operation]
	if o == nil {
		o = &outage{since: time.Now()}
		t.of[operation] = o
	}
	o.failures++
	if time.Since(o.logged) < t.every {
		return
	}
	o.logged = time.Now()
	t.log.Warn("failed, trying again", append([]any{"operation", operation, "err", err, "failures", o.failures}, attrs...)...)
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
