package franz

import (
	"context"
	"time"
)

// A delivery publishes what the handlers have finished, and commits it. It is all
// that differs between the two guarantees: exactlyOnce commits outputs and offsets
// together, atLeastOnce commits offsets after the outputs are acknowledged. The
// session's loop alone calls it.
type delivery interface {
	// begin is called before a generation is worked on. If it fails, the
	// generation is not.
	begin(ctx context.Context, g *generation) error
	// step does what there is to do. It returns after which time it should be
	// called again if nothing wakes the session before.
	step(ctx context.Context) (wait time.Duration, err error)
	// drained reports whether a draining generation has nothing more to publish.
	drained() bool
	// finish publishes and commits what is left of a drained generation.
	finish(ctx context.Context) error
	// abandon forgets the generation. It returns how many records had left the
	// windows and are not committed.
	abandon() (left int)
}
