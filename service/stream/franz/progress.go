package franz

import (
	"sync"

	"inceptor/service/stream"
)

// A progress is what the group has committed of a partition. It reports the lag to
// the observer. Safe for concurrent use.
type progress struct {
	id       stream.Partition // set once
	observer stream.Observer  // set once; called with mu held, so that it hears in order

	mu        sync.Mutex // guards the rest
	high      int64      // watermark
	committed int64      // negative: not known
	collected int64      // offset that the next commit will have
	reported  int64      // the lag that the observer was told
}

func newProgress(id stream.Partition, observer stream.Observer) *progress {
	return &progress{id: id, observer: observer, committed: -1, collected: -1, reported: -1}
}

// start notes what was committed when reading began.
func (p *progress) start(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed, p.collected = offset, offset
}

// assume takes an offset for the committed one if none is known.
func (p *progress) assume(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.committed < 0 {
		p.committed, p.collected = offset, offset
	}
}

// last returns the committed offset; negative: not known.
func (p *progress) last() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.committed
}

// collect notes the offset that the next commit will have.
func (p *progress) collect(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collected = next
}

// uncollect notes that the next commit will not have this partition, and so does not
// report the lag.
func (p *progress) uncollect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collected = p.committed
}

// commit notes what is committed, and reports the lag.
func (p *progress) commit(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = next
	p.report()
}

// watermark notes how long the log is, and reports the lag if no commit will.
func (p *progress) watermark(high int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.high = high
	if p.committed >= 0 && p.committed == p.collected && p.lag() != p.reported {
		p.report()
	}
}

func (p *progress) lag() int64 { return max(0, p.high-p.committed) }

// report tells the observer. The caller holds mu.
func (p *progress) report() {
	p.reported = p.lag()
	p.observer.Committed(p.id, p.committed, p.reported)
}
