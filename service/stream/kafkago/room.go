package kafkago

import (
	"context"
	"fmt"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

const (
	// roomPatience is how long a response waits on its connection for room to
	// read it. Then the connection is closed, and room is waited for without.
	roomPatience = 10 * time.Second

	// smallResponse is up to which size a response waits for nothing: as large
	// as one without records.
	smallResponse = 1 << 10
)

// A room is where one response is read into. It is charged before it is read:
// until then the broker keeps it. Of the fetching goroutine, but for await.
type room struct {
	ctx    context.Context //nolint:containedctx // kafka-go gives none to who reads a response
	charge *stream.Charge
	fetch  int32   // bytes to ask for
	ratio  float64 // of the memory that a response takes to its size, as a guess
	most   int64   // that its batches take beside it, unless twice its size is more
	size   int64   // of the response
}

// A noRoomError is why a response was not read: there was no room for it.
type noRoomError struct{ bytes int64 }

func (e *noRoomError) Error() string {
	return fmt.Sprintf("a response takes %d bytes of memory, and kafka.window.total-bytes is reached", e.bytes)
}

// await waits for room for a response of a size. It does not wait for more if
// some was waited for before: nobody may wait while holding something.
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

// room is the one for what is fetched next. If the last response found none, it
// waits for what that needed. Its charge is to be released.
func (p *partition) room(ctx context.Context) (*room, error) {
	ratio := max(1, p.ratio)
	own := int64(float64(p.share.Size()) * 7 / 8 / ratio) // so that the partition's share always has room for it
	r := &room{
		charge: p.share.Charge(), ratio: ratio, most: p.cfg.BatchBytes,
		fetch: int32(max(leastFetchBytes, min(fetchBytes, own))),
	}
	if p.need == 0 {
		return r, nil
	}
	return r, r.charge.Wait(ctx, p.need)
}

// inflateIn lets batches be decompressed as long as there is room.
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

// settle makes the charge what a response takes with its records, and notes how
// much that is for the next one. What is small without records waits for nothing,
// and so counts for nothing.
func (p *partition) settle(r *room, records int) {
	took := r.size + max(p.inflate.Spent(), int64(records)*inflate.RecordCost)
	if records > 0 {
		p.ratio = float64(took) / float64(max(1, r.size))
	} else if r.size < smallResponse {
		took = 0
	}
	r.charge.Set(took)
}
