package flight

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/service/stream"
)

// unbounded is the total of a Budget without a bound. The sum of its shares does not overflow.
const unbounded = 1 << 60

// waitLogEvery is the least time between two log lines that say that fetching waits.
const waitLogEvery = time.Hour

var errReleased = errors.New("the charge was released")

// A Budget bounds the memory of the records of all partitions, from the fetch until they are
// published. Half of the total is divided into shares, one for each partition. A partition's
// share is its own, so partitions that stand still never starve those that work. The other half
// is common. Partitions get it in the order in which they began to wait.
//
// A partition that holds nothing does not wait behind those that do. While the common half is not
// exceeded, it may fetch one response of any size; otherwise a response larger than what is left
// would never be read. So the total is exceeded by at most one response, and by what Charge.Set
// and Add add. A response that is larger than the partition's share waits as long as others hold
// more than the common half, even if they stand still.
//
// No partition waits while it holds a part of what it needs, so waiting always ends when others
// go on. Safe for concurrent use.
type Budget struct {
	// Set once.
	total   int64
	observe func(held int64, waiting int)
	log     *slog.Logger

	mu       sync.Mutex // guards the fields below
	held     int64
	reserved int64     // the sizes of the open shares
	common   int64     // held beyond the shares' sizes
	waiting  []*waiter // the longest first
	loggedAt time.Time // of the last line that says that a partition waits
}

// A Share is the part of a Budget that belongs to one partition. The fields after size are
// guarded by the budget's mu.
type Share struct {
	budget *Budget
	size   int64 // set once
	held   int64
	closed bool
}

// A Charge is the memory of one response. Whoever needs the response holds a reference; when the
// last one is released, so is the memory. The fields after share are guarded by the budget's mu,
// except refs.
type Charge struct {
	share    *Share
	bytes    int64
	released bool
	refs     atomic.Int64
}

// A waiter waits until its share may hold a number of bytes more.
type waiter struct {
	share  *Share
	bytes  int64
	charge *Charge // gets the bytes; nil: they are charged later
	begin  func()  // called with the budget's mu held
}

// NewBudget returns the Budget of a driver: cfg.TotalBytes, told to cfg.Observer.
func NewBudget(cfg stream.Config) *Budget {
	b := &Budget{total: cfg.TotalBytes, observe: cfg.Observer.Buffered, log: cfg.Log}
	if b.total <= 0 {
		b.total = unbounded
	}
	return b
}

// Share returns the share of one of a number of partitions. Close it.
func (b *Budget) Share(of int) *Share {
	s := &Share{budget: b, size: b.total / 2 / int64(max(1, of))}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved += s.size
	return s
}

// Size is how many bytes the partition can always hold, whatever the others do.
func (s *Share) Size() int64 { return s.size }

// Close releases all that is charged to the share, and the share itself.
func (s *Share) Close() {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	b.add(s, -s.held)
	b.reserved -= s.size
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool { return w.share == s })
	b.serve()
}

// Fits tells whether the partition may hold so many bytes more now. If it is the partition's
// turn, it may unless the total is exceeded already.
func (s *Share) Fits(bytes int64, turn bool) bool {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	beyond, left := b.beyond(s, bytes), b.total-b.reserved-b.common
	return beyond == 0 || left >= 0 && (turn || s.held == 0) || len(b.waiting) == 0 && beyond <= left
}

// Notify calls f when so many bytes more fit, and the partitions that began to wait earlier have
// had their turn. It charges nothing. f must not block, nor use the budget.
func (s *Share) Notify(bytes int64, f func()) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.closed {
		b.wait(&waiter{share: s, bytes: bytes, begin: f})
	}
}

// Charge returns a charge of no bytes, with one reference.
func (s *Share) Charge() *Charge {
	c := &Charge{share: s}
	c.refs.Store(1)
	return c
}

// Wait raises the charge, which must be of no bytes, to a number of bytes, as soon as the budget
// has them.
func (c *Charge) Wait(ctx context.Context, bytes int64) error {
	b := c.share.budget
	b.mu.Lock()
	if c.released || c.share.closed {
		b.mu.Unlock()
		return errReleased
	}
	begin := make(chan struct{})
	w := &waiter{share: c.share, bytes: bytes, charge: c, begin: func() { close(begin) }}
	b.wait(w)
	b.mu.Unlock()
	select {
	case <-begin:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, w); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		b.serve() // those behind may need less
	} else if c.bytes > 0 { // it began meanwhile
		return nil
	}
	return context.Cause(ctx)
}

// Raise raises the charge to a number of bytes if the budget has them now and no other partition
// waits for them. It tells whether it did.
func (c *Charge) Raise(bytes int64) bool {
	b := c.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	more := max(0, bytes-c.bytes)
	beyond := b.beyond(c.share, more)
	if c.released || beyond > 0 && (len(b.waiting) > 0 || b.common+beyond > b.total-b.reserved) {
		return false
	}
	c.add(more)
	return true
}

// Set changes the charge to the bytes that the response takes. The total may be exceeded.
func (c *Charge) Set(bytes int64) {
	b := c.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	c.add(bytes - c.bytes)
}

// Add raises the charge by a number of bytes. The total may be exceeded.
func (c *Charge) Add(bytes int64) {
	b := c.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	c.add(bytes)
}

// Bytes returns how many bytes are charged.
func (c *Charge) Bytes() int64 {
	c.share.budget.mu.Lock()
	defer c.share.budget.mu.Unlock()
	return c.bytes
}

// add changes the charge. The caller holds the budget's mu.
func (c *Charge) add(bytes int64) {
	if c.released || c.share.closed || bytes == 0 {
		return
	}
	c.bytes += bytes
	c.share.budget.add(c.share, bytes)
	if bytes < 0 {
		c.share.budget.serve()
	}
}

// Retain adds references.
func (c *Charge) Retain(n int) { c.refs.Add(int64(n)) }

// Release releases a reference. The last one returns the bytes to the budget.
func (c *Charge) Release() {
	if c.refs.Add(-1) > 0 {
		return
	}
	b := c.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	c.add(-c.bytes)
	c.released = true
}

// beyond is how many of a number of bytes more would come from the common half.
func (b *Budget) beyond(s *Share, bytes int64) int64 {
	return max(0, s.held+bytes-s.size) - max(0, s.held-s.size)
}

// add changes what a share holds.
func (b *Budget) add(s *Share, bytes int64) {
	b.common += b.beyond(s, bytes)
	s.held += bytes
	b.held += bytes
	b.observe(b.held, len(b.waiting))
}

// wait lets a waiter begin, now or later. The caller holds mu.
func (b *Budget) wait(w *waiter) {
	b.waiting = append(b.waiting, w)
	b.serve()
	if len(b.waiting) == 0 || b.waiting[len(b.waiting)-1] != w {
		return
	}
	if now := time.Now(); b.loggedAt.IsZero() || now.Sub(b.loggedAt) > waitLogEvery {
		b.loggedAt = now
		b.log.Info("kafka.window.total-bytes reached; fetching waits until records are answered", "bytes", b.held, "total_bytes", b.total)
	}
}

// serve lets those waiters begin whose bytes the budget has now. They begin in their order,
// except those that fit into their own share, or whose share holds nothing: these need not wait
// for others. The caller holds mu.
func (b *Budget) serve() {
	most := b.total - b.reserved
	promised, blocked := int64(0), false
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool {
		if w.charge != nil && w.charge.released { // while it waited
			return true
		}
		beyond := b.beyond(w.share, w.bytes)
		switch common := b.common + promised; {
		case beyond == 0:
		case w.share.held == 0 && common <= most:
		case !blocked && common+beyond <= most:
		default:
			blocked = true
			return false
		}
		if w.charge != nil {
			w.charge.bytes += w.bytes
			b.add(w.share, w.bytes)
		} else {
			promised += beyond
		}
		w.begin()
		return true
	})
	b.observe(b.held, len(b.waiting))
}
