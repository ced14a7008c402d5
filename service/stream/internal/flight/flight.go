package flight

import (
	"context"
	"fmt"
	"io"
	"sync"

	"inceptor/service/stream"
)

// smallOutputs is the size up to which the outputs of a record are not charged: predictions are
// smaller.
const smallOutputs = 16 << 10

// A Flight holds the records of one partition that are fetched and not yet published. It is a
// window that is bounded in records and bytes: records go in by offset, their handlers finish in
// any order, and they come out by offset. Both drivers use it, so that "publish in order, commit
// the unbroken stretch" is written, and tested, once.
//
// One goroutine admits records, and one takes stretches. Any goroutine may finish a slot.
type Flight struct {
	limit stream.Window
	space chan struct{} // signalled when Admit may try again
	ready chan struct{} // signalled when Take may try again

	mu       sync.Mutex // guards the fields below, and the slots
	queue    []*Slot    // by offset; queue[0] is the next to be published
	spare    []*Slot    // released, for reuse
	bytes    int64
	next     int64 // every offset below it is in queue, published, or no record
	reported int64 // the Next of the last released stretch
	closed   bool
}

// A Slot is one record in a Flight. Charge belongs to whoever admits the record, until it is done.
type Slot struct {
	Record  stream.Record
	Outputs []stream.Record // set by Done
	Charge  *Charge         // may be nil; Release gives one reference to it back

	flight *Flight
	size   int64
	state  slotState
}

type slotState uint8

const (
	working slotState = iota
	done
	dropped
)

// A Stretch is the unbroken stretch of finished records at the head of a Flight. Without slots,
// only offsets that hold no record were passed.
type Stretch struct {
	Slots []*Slot
	Next  int64 // offset to commit when all of Slots are published
}

// New returns an empty Flight for a partition that is read from the offset start.
func New(limit stream.Window, start int64) *Flight {
	return &Flight{
		limit:    limit,
		space:    make(chan struct{}, 1),
		ready:    make(chan struct{}, 1),
		next:     start,
		reported: start,
	}
}

// Admit waits until r fits into the window, and adds it. Offsets must ascend; those that are left
// out, because compaction has removed their records, count as passed.
func (f *Flight) Admit(ctx context.Context, r stream.Record) (*Slot, error) {
	size := r.Size()
	for {
		s, err := f.admit(r, size)
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-f.space:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (f *Flight) admit(r stream.Record, size int64) (*Slot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, io.ErrClosedPipe
	case r.Offset < f.next:
		return nil, fmt.Errorf("offset %d of partition %d comes after %d", r.Offset, r.Partition, f.next-1)
	case len(f.queue) > 0 && f.full(size):
		return nil, nil
	}
	var s *Slot
	if n := len(f.spare) - 1; n >= 0 {
		s, f.spare = f.spare[n], f.spare[:n]
	} else {
		s = &Slot{flight: f}
	}
	s.Record, s.Outputs, s.size, s.state = r, nil, size, working
	f.queue = append(f.queue, s)
	f.bytes += size
	f.next = r.Offset + 1
	return s, nil
}

func (f *Flight) full(size int64) bool {
	return len(f.queue) >= f.limit.Records || f.limit.Bytes > 0 && f.bytes+size > f.limit.Bytes
}

// Skip tells that no further record comes below the offset next: the rest was compacted away, or is
// markers of transactions.
func (f *Flight) Skip(next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next > f.next {
		f.next = next
		signal(f.ready)
	}
}

// Rewind sets the offset of the next record, which may be lower, when the log no longer holds the
// one that was due. Records in flight stay.
func (f *Flight) Rewind(next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.reported = next, next
}

// Done finishes the record with the outputs to publish for it.
func (s *Slot) Done(outputs []stream.Record) {
	if s.Charge != nil {
		if more := outputBytes(s.Record, outputs); more > smallOutputs {
			s.Charge.Add(more)
		}
	}
	s.finish(done, outputs)
}

// outputBytes is the memory of outputs besides their input: a dead letter shares the input's value.
func outputBytes(input stream.Record, outputs []stream.Record) (bytes int64) {
	for _, r := range outputs {
		bytes += r.Size()
		if len(r.Value) > 0 && len(input.Value) > 0 && &r.Value[0] == &input.Value[0] {
			bytes -= int64(len(r.Value))
		}
	}
	return bytes
}

// Drop gives the record up. Neither it nor any record after it is published or committed, so the
// next generation begins with it.
func (s *Slot) Drop() { s.finish(dropped, nil) }

func (s *Slot) finish(state slotState, outputs []stream.Record) {
	s.flight.mu.Lock()
	defer s.flight.mu.Unlock()
	s.state, s.Outputs = state, outputs
	signal(s.flight.ready)
}

// Take waits for a stretch to publish. The stretch stays in the window until it is given to
// Release. Take returns io.EOF when no further stretch can come: the flight is closed, and is empty
// or begins with a dropped record.
func (f *Flight) Take(ctx context.Context) (Stretch, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return Stretch{}, err
		}
		if stretch, err := f.take(); err != nil || stretch.Slots != nil || stretch.Next > 0 {
			return stretch, err
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
		}
	}
}

// Ready is Take without waiting. The stretch is the zero value if there is nothing to publish yet.
func (f *Flight) Ready() (Stretch, error) { return f.take() }

func (f *Flight) take() (Stretch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.queue) && f.queue[n].state == done {
		n++
	}
	switch {
	case n > 0 && n == len(f.queue):
		return Stretch{f.queue[:n:n], f.next}, nil
	case n > 0:
		return Stretch{f.queue[:n:n], f.queue[n-1].Record.Offset + 1}, nil
	case len(f.queue) == 0 && f.next > f.reported:
		return Stretch{nil, f.next}, nil
	case f.closed && (len(f.queue) == 0 || f.queue[0].state == dropped):
		return Stretch{}, io.EOF
	}
	return Stretch{}, nil
}

// Release removes a published stretch from the window. It must not be used afterwards, for its
// slots are reused.
func (f *Flight) Release(stretch Stretch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range stretch.Slots {
		f.bytes -= s.size
		if s.Charge != nil {
			s.Charge.Release()
		}
		s.Record, s.Outputs, s.Charge = stream.Record{}, nil, nil
	}
	f.spare = append(f.spare, stretch.Slots...)
	clear(f.queue[:len(stretch.Slots)]) // or the array would hold the values
	f.queue = f.queue[len(stretch.Slots):]
	f.reported = stretch.Next
	signal(f.space)
}

// Close ends admission; records in flight may still finish.
func (f *Flight) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	signal(f.ready)
}

// Held returns how many records, of how many bytes, are in the window.
func (f *Flight) Held() (records int, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue), f.bytes
}

// Settled tells whether everything that was admitted or skipped is published and released.
func (f *Flight) Settled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue) == 0 && f.next <= f.reported
}

// signal wakes the one goroutine that waits on c, or the next that will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
