package franz

import (
	"fmt"
	"time"
)

// stallTimeout is how long a partition may bring no records, though the broker has
// some for it, before the session begins again.
const stallTimeout = 30 * time.Second

// A stall is since when a partition has brought nothing though there are records
// that it should bring. The zero value: it is not stalled.
type stall struct {
	next  int64 // offset that is due
	since time.Time
}

// update returns the stall as of now. stable is the last stable offset, next the
// offset after the last record that was read. waits means that nothing known keeps
// the partition from being read.
func (s stall) update(now time.Time, stable, next int64, waits bool) stall {
	switch {
	case !waits || next >= stable:
		return stall{}
	case s.since.IsZero() || s.next != next:
		return stall{next, now}
	}
	return s
}

// endStalled ends the session if a partition has stalled for too long: the client
// does not fetch it, and would not for as long as it lives. It does so once for
// each offset. A log may end in batches without records, which compaction leaves:
// then nothing comes in a new session either.
func (w *inputWatch) endStalled(p *partition, in *watchedInput, now time.Time, stable int64) bool {
	next, waits, state := p.waitsForFetch()
	in.stall = in.stall.update(now, stable, next, waits && w.conns.Paused() == 0)
	if in.stall.since.IsZero() || now.Sub(in.stall.since) < w.stallTimeout {
		return false
	}
	if at, before := w.stalls[p.id]; before && at == next {
		return false
	}
	w.stalls[p.id] = next
	w.endSession(fmt.Errorf("read from %v: the client has brought nothing for %v, though there are records from offset %d to %d (%s); joining again",
		p.id, now.Sub(in.stall.since).Round(time.Second), next, stable-1, state))
	return true
}

// waitsForFetch reports whether nothing of the partition is on its way to the window
// though nothing is wrong and there is memory for more. It returns the offset that
// is due, and whether the client was told to fetch it.
func (p *partition) waitsForFetch() (next int64, waits bool, state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.placed && p.held == 0 && !p.asked && p.failing.IsZero(), fmt.Sprintf("paused: %t, resting: %t", p.paused, p.resting)
}
