package franz

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A delivery publishes what the handlers of a session have finished, and commits
// it. It is all that differs between the two guarantees: transactional commits
// outputs and offsets together, atLeastOnce commits offsets after the outputs are
// acknowledged. The session's loop alone calls it.
type delivery interface {
	// open makes the client, with its own options besides those given.
	open(opts []kgo.Opt) (*kgo.Client, error)
	// begin is called before a generation is worked on. After an error it is not.
	begin(ctx context.Context, g *generation) error
	// step does what there is to do, and tells when it should be called again if
	// nothing wakes the session before.
	step(ctx context.Context) (wait time.Duration, err error)
	// drained tells whether a draining generation has nothing more to publish.
	drained() bool
	// finish publishes and commits what is left of a drained generation.
	finish(ctx context.Context) error
	// abandon forgets the generation, and counts the records that had left its
	// windows and are not committed.
	abandon() (left int)
}
