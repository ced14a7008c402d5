package infer

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// Memory that decoding may use at a time: enough for the largest image in the costliest
// format or, if that is more, for a photo of an ordinary camera on each processor.
const (
	worstPixel = 11       // bytes: a progressive JPEG in four colours at full resolution
	photoBytes = 12e6 * 6 // 12 megapixels

	// goPixel is worstPixel with Go's decoders in place of TensorFlow's. An image of very
	// many pixels is decoded alone there.
	goPixel = 27
)

// DecodeLimits bound the decoding under way at a time: to one image for each processor, and
// to the bytes that they need together. Safe for concurrent use.
type DecodeLimits struct {
	slots    chan struct{} // holds an element for each image
	bytes    *semaphore.Weighted
	maxBytes int64
}

// NewDecodeLimits returns limits that admit every image of at most maxPixels.
func NewDecodeLimits(maxPixels int64) *DecodeLimits {
	processors := runtime.GOMAXPROCS(0)
	maxBytes := max(worstPixel*maxPixels, int64(processors)*photoBytes)
	return &DecodeLimits{make(chan struct{}, processors), semaphore.NewWeighted(maxBytes), maxBytes}
}

// need returns how many bytes to acquire for one image, each pixel of which takes at least
// bytesPerPixel. An image that needs more than the limit acquires all of it, and is decoded
// alone.
func (d *DecodeLimits) need(content []byte, h Header, bytesPerPixel int64) int64 {
	size := min(int64(h.Width)*int64(h.Height), d.maxBytes) // a larger one would overflow
	return min(max(h.Bytes, bytesPerPixel*size)+int64(len(content)), d.maxBytes)
}

// acquire waits until one more image may be decoded. Call release after it.
func (d *DecodeLimits) acquire(ctx context.Context, need int64) error {
	if err := acquire(ctx, d.slots); err != nil {
		return err
	}
	if err := d.bytes.Acquire(ctx, need); err != nil {
		release(d.slots)
		return err
	}
	return nil
}

func (d *DecodeLimits) release(need int64) {
	d.bytes.Release(need)
	release(d.slots)
}
