package kafkago

import (
	"context"
	"fmt"
	"time"

	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/flight"
)

const (
	// reservationWait is how long a response waits for the budget, unread on its connection. Then
	// the connection is closed, and the fetch is repeated when the budget has the bytes.
	reservationWait = 10 * time.Second

	// smallResponse is the size below which a response is read without waiting for the budget: it
	// has no records.
	smallResponse = 1 << 10
)

// A reservation charges one response to the budget before the response is read; until then it stays
// with the broker. The fetching goroutine owns it; kafka-go calls await while that waits.
type reservation struct {
	ctx         context.Context //nolint:containedctx // kafka-go passes none to the reader of a response
	charge      *flight.Charge
	maxBytes    int32   // bytes to ask for
	ratio       float64 // estimate: memory that a response takes, divided by its size
	maxInflated int64   // bytes that its batches may take decompressed, if that is more than twice its size
	size        int64   // of the response
}

// An overBudgetError says that a response was not read, because the budget did not have the bytes.
type overBudgetError struct{ bytes int64 }

func (e *overBudgetError) Error() string {
	return fmt.Sprintf("a response takes %d bytes of memory, and kafka.window.total-bytes is reached", e.bytes)
}

// await charges a response of this size, and waits for the budget. If something is charged
// already it does not wait, for no partition may wait while it holds a charge.
func (r *reservation) await(size int64) error {
	r.size = size
	need := min(int64(float64(size)*r.ratio), size+max(r.maxInflated, 2*size))
	if size < smallResponse || r.charge.Raise(need) {
		return nil
	}
	if r.charge.Bytes() > 0 {
		return &overBudgetError{need}
	}
	ctx, cancel := context.WithTimeoutCause(r.ctx, reservationWait, &overBudgetError{need})
	defer cancel()
	return r.charge.Wait(ctx, need)
}

// reserve returns a reservation for the next response. If the last one did not fit into the
// budget, it waits until the budget has the bytes. The caller releases the charge.
func (p *partition) reserve(ctx context.Context) (*reservation, error) {
	ratio := max(1, p.ratio)
	own := int64(float64(p.share.Size()) * 7 / 8 / ratio) // so that it always fits into the partition's share
	r := &reservation{
		charge: p.share.Charge(), ratio: ratio, maxInflated: p.cfg.BatchBytes,
		maxBytes: int32(max(leastFetchBytes, min(fetchBytes, own))),
	}
	if p.need == 0 {
		return r, nil
	}
	return r, r.charge.Wait(ctx, p.need)
}

// limitInflate makes the budget bound what batches take decompressed.
func (p *partition) limitInflate(r *reservation) {
	p.inflate.Reset()
	p.inflate.Fits = func(bytes int64) bool {
		if r.charge.Raise(r.size + bytes) {
			return true
		}
		p.need = r.size + bytes
		return false
	}
}

// settle charges what a response and its records take, and remembers the ratio for the next one.
// A small response without records is not charged.
func (p *partition) settle(r *reservation, records int) {
	took := r.size + max(p.inflate.Spent(), int64(records)*inflate.RecordCost)
	if records > 0 {
		p.ratio = float64(took) / float64(max(1, r.size))
	} else if r.size < smallResponse {
		took = 0
	}
	r.charge.Set(took)
}
