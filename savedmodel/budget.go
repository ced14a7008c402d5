package savedmodel

import "context"

// maxLoadBytes bounds the memory that a load takes besides the files' contents: operations that
// replace calls of functions, computed constants, second copies of weights.
const maxLoadBytes = 256 << 20

// Estimates of memory, in bytes.
const (
	nodeCost    = 400 // an operation, without its names
	scopeCost   = 100 // an operation of a function, for each call
	inputCost   = 16  // an input, without its name
	elementCost = 12  // an element of a constant, as float64 and then as float32
)

// A loadBudget bounds the memory and the time of one load. Each loop that follows a model's graph
// or reads its files charges it. Not for concurrent use.
type loadBudget struct {
	stopped func() error // ctx.Err of the load
	left    int64        // bytes
}

func newLoadBudget(ctx context.Context) *loadBudget {
	return &loadBudget{stopped: ctx.Err, left: maxLoadBytes}
}

// charge takes bytes from the budget. If the budget is spent, the error wraps errNotOptimized. If
// the load's ctx has ended, charge returns ctx's error.
func (b *loadBudget) charge(bytes int64) error {
	if err := b.stopped(); err != nil {
		return err
	}
	if bytes > b.left {
		b.left = 0
		return notOptimized("optimizing it takes more than %d MiB besides its files", maxLoadBytes>>20)
	}
	b.left -= bytes
	return nil
}
