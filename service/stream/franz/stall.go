package franz

import (
	"fmt"
	"time"
)

// stalledAfter is how long a partition may bring no records, though the broker
// has some for it, until the session begins anew.
const stalledAfter = 30 * time.Second

// A stall is since when a partition has brought nothing though there are records
// that it should bring. The zero value: it does not stand still.
type stall struct {
	next  int64 // offset that is due
	since time.Time
}

// look returns the stall as of now. stable is the last stable offset, next the
// offset after the last record that was read; waits tells that nothing known
// keeps the partition from being read.
func (s stall) look(now time.Time, stable, next int64, waits bool) stall {
	switch {
	case !waits || next >= stable:
		return stall{}
	case s.since.IsZero() || s.next != next:
		return stall{next, now}
	}
	return s
}

// endStalled ends the session if a partition has stood still for too long: the
// client does not fetch it, and would not for as long as it lives. It does so
// once for each offset: where a log ends in batches without records, which
// compaction leaves, nothing comes in a new session either.
func (s *session) endStalled(p *partition, h *hold, now time.Time, stable int64) bool {
	next, waits, state := p.waitsForFetch()
	h.stall = h.stall.look(now, stable, next, waits && s.conns.Paused() == 0)
	if h.stall.since.IsZero() || now.Sub(h.stall.since) < s.stalled {
		return false
	}
	if at, before := s.stalls[p.id]; before && at == next {
		return false
	}
	s.stalls[p.id] = next
	s.end(fmt.Errorf("read from %v: the client has brought nothing for %v, though there are records from offset %d to %d (%s); joining again",
		p.id, now.Sub(h.stall.since).Round(time.Second), next, stable-1, state))
	return true
}

// waitsForFetch tells whether nothing of the partition is on its way to the
// window, though nothing is wrong and there is memory for more; after which
// offset; and whether the client was told to fetch it.
func (p *partition) waitsForFetch() (next int64, waits bool, state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.placed && p.held == 0 && !p.asked && p.failing.IsZero(), fmt.Sprintf("paused: %t, resting: %t", p.paused, p.resting)
}
