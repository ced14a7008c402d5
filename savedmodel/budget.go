package savedmodel

import "context"

// maxLoadBytes bounds the memory that a load's own steps take besides the files' contents:
// operations that replace calls of functions, computed constants, second copies of weights.
const maxLoadBytes = 256 << 20

// What some things take, in bytes and roughly.
const (
	nodeCost    = 400 // of an operation without its names
	scopeCost   = 100 // of an operation of a function that is called, each time
	inputCost   = 16  // of an input without its name
	elementCost = 12  // of a constant's element: as float64, then as float32
)

// A budget is what the steps of one load may still take: memory, and time until the load's ctx
// ends. Each loop that follows a model's graph or reads its files takes from it. Not for
// concurrent use.
type budget struct {
	stopped func() error // ctx.Err of the load
	left    int64        // bytes
}

func newBudget(ctx context.Context) *budget {
	return &budget{stopped: ctx.Err, left: maxLoadBytes}
}

// take takes some bytes. Its error wraps errRefused where they are not left, or is that of the
// load's ctx.
func (b *budget) take(bytes int64) error {
	if err := b.stopped(); err != nil {
		return err
	}
	if bytes > b.left {
		b.left = 0
		return refuse("to optimize it takes more than %d MiB besides its files", maxLoadBytes>>20)
	}
	b.left -= bytes
	return nil
}
