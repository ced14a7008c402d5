package franz

import (
	"maps"
	"sync"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/resume"
)

// positions are the group's positions as this process knows them. The zero value
// knows none. Safe for concurrent use.
type positions struct {
	mu        sync.Mutex
	committed map[stream.Partition]resume.Position
	next      map[stream.Partition]int64 // the offsets after what was published
	checked   map[stream.Partition]int64 // next, when the topics were last known to be the same
}

func (p *positions) get(id stream.Partition) (resume.Position, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.committed[id]
	return at, ok
}

func (p *positions) set(id stream.Partition, at resume.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.committed == nil {
		p.committed = map[stream.Partition]resume.Position{}
	}
	p.committed[id] = at
}

// topicsChecked notes that the topics are still the same.
func (p *positions) topicsChecked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = maps.Clone(p.next)
}

// published notes that everything before next is published.
func (p *positions) published(id stream.Partition, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = map[stream.Partition]int64{}
	}
	p.next[id] = next
}

// unchecked counts the records from an offset on that were published after the
// topics were last known to be the same.
func (p *positions) unchecked(id stream.Partition, from int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.next[id]-max(from, p.checked[id]))
}

// topics returns the topics with a known position.
func (p *positions) topics() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	topics := map[string]bool{}
	for id := range p.committed {
		topics[id.Topic] = true
	}
	return topics
}
