package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream"
)

// lagEvery is how often the lag is looked up, for partitions that are idle or whose
// window is full: the client fetches nothing of them.
const lagEvery = 10 * time.Second

// A lagWatch looks up the lag. Until there are partitions, and until it is known where
// they begin, it looks up why not: the client itself logs nothing.
type lagWatch struct {
	// Set once.
	*sessionContext
	client *kgo.Client

	// Of its goroutine.
	generation *generation
	waiting    []stream.Partition // whose beginning is not known, as the observer was told
}

func (w *lagWatch) run(life context.Context) {
	admin := kadm.NewClient(w.client)
	for {
		g := w.latest.Load()
		if g != w.generation {
			w.generation, w.waiting = g, nil // the observer forgets with the generation
		}
		placed := g != nil && g.placed.Load()
		switch {
		case g == nil:
			w.lookUpInputs(life, admin)
		case len(g.partitions) > 0:
			w.lookUpStart(life)
			if placed { // otherwise the lag would be that of another offset
				w.lookUpLag(life, admin)
			}
		}
		every := lagEvery
		if g == nil || len(g.partitions) > 0 && !placed {
			every = time.Second
		}
		changed := func() bool { return w.latest.Load() != g || g != nil && g.placed.Load() != placed }
		for begin := time.Now(); time.Since(begin) < every && !changed(); {
			if !retry.Sleep(life, 100*time.Millisecond) {
				return
			}
		}
		if life.Err() != nil {
			return
		}
	}
}

// lookUpInputs looks up the input topics. The client joins the group only when there
// is one that it may read.
func (w *lagWatch) lookUpInputs(life context.Context, admin *kadm.Client) {
	ctx, cancel := context.WithTimeout(life, w.sessionTimeout)
	defer cancel()
	res, err := admin.Metadata(ctx, w.cfg.Inputs...)
	for _, topic := range w.cfg.Inputs {
		operation := "read from " + topic
		err := cmp.Or(err, res.Topics[topic].Err)
		var answer *kerr.Error
		switch {
		case err == nil:
			w.outages.Recovered(operation)
		case permanent(err):
			w.endSession(fmt.Errorf("%s: %w", operation, err))
		case errors.As(err, &answer): // an error without an answer is logged by connectHook
			w.outages.Failed(operation, err)
		}
	}
}

// lookUpStart reports why it is not known where the generation begins, if that
// takes long.
func (w *lagWatch) lookUpStart(life context.Context) {
	g := w.generation
	operation := "begin at the offsets of " + w.cfg.Group
	if g.placed.Load() {
		w.outages.Recovered(operation)
		for _, id := range w.waiting {
			w.cfg.Observer.Retrying(id, stream.Reading, nil)
		}
		w.waiting = nil
		return
	}
	if time.Since(g.since) < w.sessionTimeout {
		return
	}
	ctx, cancel := context.WithTimeout(life, w.sessionTimeout)
	defer cancel()
	_, unstable, err := groupOffsets(ctx, w.client, w.cfg, slices.Collect(maps.Keys(g.partitions)))
	if err == nil && len(unstable) > 0 {
		err = errUnstable(unstable)
	}
	if err == nil || life.Err() != nil {
		return
	}
	w.outages.Failed(operation, err)
	for _, id := range unstable {
		if !slices.Contains(w.waiting, id) {
			w.waiting = append(w.waiting, id)
			w.cfg.Observer.Retrying(id, stream.Reading, err)
		}
	}
}

func (w *lagWatch) lookUpLag(life context.Context, admin *kadm.Client) {
	ctx, cancel := context.WithTimeout(life, lagEvery)
	defer cancel()
	if err := w.checkTopics(ctx, w.client); errors.Is(err, errRecreated) {
		w.endSession(err)
		return
	}
	ends, err := admin.ListEndOffsets(ctx, w.cfg.Inputs...)
	if err != nil {
		return // fetches fail too, and are logged
	}
	starts, err := admin.ListStartOffsets(ctx, w.cfg.Inputs...)
	if err != nil {
		return
	}
	for id, p := range w.generation.partitions {
		if p.recovered(false) {
			w.outages.Recovered("read from " + id.Topic)
		}
		if o, ok := starts.Lookup(id.Topic, int32(id.ID)); ok && o.Err == nil {
			p.progress.assume(o.Offset) // unless the group has committed one
		}
		if o, ok := ends.Lookup(id.Topic, int32(id.ID)); ok && o.Err == nil {
			p.progress.watermark(o.Offset)
		}
	}
}
