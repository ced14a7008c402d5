package model

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// What decoding may take at once: an image of the most pixels at its worst, or,
// where that is more, an ordinary camera's photo for each processor.
const (
	worstPixel = 11       // bytes: a progressive JPEG in four colours at full resolution
	photoBytes = 12e6 * 6 // 12 megapixels

	// goPixel is worstPixel where Go's decoders are taken in place of
	// TensorFlow's. An image of many pixels is decoded alone there.
	goPixel = 27
)

// A decoding bounds what is decoded at once: one image for each processor, and
// the bytes that they take together. Safe for concurrent use.
type decoding struct {
	places chan struct{}
	room   *semaphore.Weighted
	most   int64 // bytes of the room
}

func newDecoding(maxPixels int64) *decoding {
	processors := runtime.GOMAXPROCS(0)
	most := max(worstPixel*maxPixels, int64(processors)*photoBytes)
	return &decoding{make(chan struct{}, processors), semaphore.NewWeighted(most), most}
}

// need is the room for one image, of which each pixel takes so many bytes at
// least. One that would need more than all of the room is decoded alone.
func (d *decoding) need(content []byte, h Header, perPixel int64) int64 {
	size := min(int64(h.Width)*int64(h.Height), d.most) // more would overflow
	return min(max(h.Bytes, perPixel*size)+int64(len(content)), d.most)
}

// begin waits for a place and for room; each must be followed by end.
func (d *decoding) begin(ctx context.Context, need int64) error {
	if err := acquire(ctx, d.places); err != nil {
		return err
	}
	if err := d.room.Acquire(ctx, need); err != nil {
		release(d.places)
		return err
	}
	return nil
}

func (d *decoding) end(need int64) {
	d.room.Release(need)
	release(d.places)
}
