package service

import (
	"sync"
	"sync/atomic"

	"inceptor/service/stream"
)

// partitionCounts are the records in flight and the lag of each partition. The zero value is ready
// to use. Safe for concurrent use.
type partitionCounts struct {
	mu sync.RWMutex
	of map[stream.Partition]*partitionCount // guarded by mu
}

type partitionCount struct {
	inFlight atomic.Int64
	lag      atomic.Int64 // negative: not known
}

// get returns the counts of a partition, which begin here if there are none.
func (c *partitionCounts) get(p stream.Partition) *partitionCount {
	c.mu.RLock()
	n := c.of[p]
	c.mu.RUnlock()
	if n != nil {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[stream.Partition]*partitionCount{}
	}
	if n = c.of[p]; n == nil {
		n = &partitionCount{}
		n.lag.Store(-1)
		c.of[p] = n
	}
	return n
}

// revoked forgets what does not hold in the next generation.
func (c *partitionCounts) revoked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, n := range c.of {
		n.lag.Store(-1)
		if n.inFlight.Load() == 0 {
			delete(c.of, p)
		}
	}
}

// now returns the records in flight and the lag of a partition; negative: not known.
func (c *partitionCounts) now(p stream.Partition) (inFlight, lag int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := c.of[p]
	if n == nil {
		return 0, -1
	}
	return n.inFlight.Load(), n.lag.Load()
}

// lag returns that of all partitions; negative: none is known.
func (c *partitionCounts) lag() (sum int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	known := false
	for _, n := range c.of {
		if lag := n.lag.Load(); lag >= 0 {
			sum, known = sum+lag, true
		}
	}
	if !known {
		return -1
	}
	return sum
}
