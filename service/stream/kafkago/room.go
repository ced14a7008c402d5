package kafkago

import (
	"context"
	"fmt"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

const (
	// roomPatience is how long a response waits, unread on its connection, for the
	// budget. Then the connection is closed, and the fetch is made again once the
	// budget has the bytes.
	roomPatience = 10 * time.Second

	// smallResponse is the size below which a response is read without waiting for
	// the budget: it has no records.
	smallResponse = 1 << 10
)

// A room charges one response to the budget before the response is read; until
// then the broker keeps it. Of the fetching goroutine, except await.
type room struct {
	ctx    context.Context //nolint:containedctx // kafka-go gives none to who reads a response
	charge *stream.Charge
	fetch  int32   // bytes to ask for
	ratio  float64 // guess: memory that a response takes, divided by its size
	most   int64   // that its batches take decompressed, unless twice its size is more
	size   int64   // of the response
}

// A noRoomError says that a response was not read, because the budget did not have
// the bytes.
type noRoomError struct{ bytes int64 }

func (e *noRoomError) Error() string {
	return fmt.Sprintf("a response takes %d bytes of memory, and kafka.window.total-bytes is reached", e.bytes)
}

// await charges a response of a size, and waits for the budget. If something is
// charged already, it does not wait for more: nobody may wait with a charge.
func (r *room) await(size int64) error {
	r.size = size
	need := min(int64(float64(size)*r.ratio), size+max(r.most, 2*size))
	if size < smallResponse || r.charge.Raise(need) {
		return nil
	}
	if r.charge.Bytes() > 0 {
		return &noRoomError{need}
	}
	ctx, cancel := context.WithTimeoutCause(r.ctx, roomPatience, &noRoomError{need})
	defer cancel()
	return r.charge.Wait(ctx, need)
}

// room returns the room for the next response. If the last one did not fit the
// budget, it waits until the budget has the bytes. The caller releases the charge.
func (p *partition) room(ctx context.Context) (*room, error) {
	ratio := max(1, p.ratio)
	own := int64(float64(p.share.Size()) * 7 / 8 / ratio) // so that it always fits the partition's share
	r := &room{
		charge: p.share.Charge(), ratio: ratio, most: p.cfg.BatchBytes,
		fetch: int32(max(leastFetchBytes, min(fetchBytes, own))),
	}
	if p.need == 0 {
		return r, nil
	}
	return r, r.charge.Wait(ctx, p.need)
}

// inflateIn bounds what batches take decompressed by the budget.
func (p *partition) inflateIn(r *room) {
	p.inflate.Reset()
	p.inflate.Room = func(bytes int64) bool {
		if r.charge.Raise(r.size + bytes) {
			return true
		}
		p.need = r.size + bytes
		return false
	}
}

// settle charges what a response takes with its records, and remembers the ratio
// for the next one. A small response without records is not charged.
func (p *partition) settle(r *room, records int) {
	took := r.size + max(p.inflate.Spent(), int64(records)*inflate.RecordCost)
	if records > 0 {
		p.ratio = float64(took) / float64(max(1, r.size))
	} else if r.size < smallResponse {
		took = 0
	}
	r.charge.Set(took)
}
