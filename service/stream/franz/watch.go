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

	"inceptor/service/stream"
)

// lagEvery is how often the lag is looked up, for partitions that are idle, or
// whose window is full: nothing is fetched then.
const lagEvery = 10 * time.Second

// watchLag looks the watermarks up; until there are partitions, why not.
func (s *session) watchLag(life context.Context) {
	admin := kadm.NewClient(s.client)
	var before *generation
	var told []stream.Partition // of before, that its start is not known
	for {
		g := s.latest.Load()
		if g != before {
			before, told = g, nil // the observer forgets with the generation
		}
		known := g != nil && g.known.Load()
		switch {
		case g == nil:
			s.lookUpInputs(life, admin)
		case len(g.partitions) > 0:
			told = s.lookUpStart(life, g, told)
			if known { // else the lag would be that of another offset
				s.lookUpLag(life, admin, g)
			}
		}
		every := lagEvery
		if g == nil || len(g.partitions) > 0 && !known {
			every = time.Second
		}
		changed := func() bool { return s.latest.Load() != g || g != nil && g.known.Load() != known }
		for begin := time.Now(); time.Since(begin) < every && !changed(); {
			if !sleep(life, 100*time.Millisecond) {
				return
			}
		}
		if life.Err() != nil {
			return
		}
	}
}

// lookUpInputs asks for the input topics, for the client joins the group only
// once there is one that it may read, and waits for that without a word.
func (s *session) lookUpInputs(life context.Context, admin *kadm.Client) {
	ctx, cancel := context.WithTimeout(life, s.session)
	defer cancel()
	res, err := admin.Metadata(ctx, s.cfg.Inputs...)
	for _, topic := range s.cfg.Inputs {
		operation := "read from " + topic
		err := cmp.Or(err, res.Topics[topic].Err)
		var answer *kerr.Error
		switch {
		case err == nil:
			s.trouble.Worked(operation)
		case permanent(err):
			s.end(fmt.Errorf("%s: %w", operation, err))
		case errors.As(err, &answer): // without one, connecting tells of it
			s.trouble.Failed(operation, err)
		}
	}
}

// lookUpStart tells why it is not known where a generation begins, if that
// takes long, for the client waits without a word until it is. It returns the
// partitions of which the observer was told, here or before.
func (s *session) lookUpStart(life context.Context, g *generation, told []stream.Partition) []stream.Partition {
	operation := "begin at the offsets of " + s.cfg.Group
	if g.known.Load() {
		s.trouble.Worked(operation)
		for _, id := range told {
			s.cfg.Observer.Retrying(id, stream.Reading, nil)
		}
		return nil
	}
	if time.Since(g.since) < s.session {
		return told
	}
	ctx, cancel := context.WithTimeout(life, s.session)
	defer cancel()
	_, unstable, err := s.offsets(ctx, slices.Collect(maps.Keys(g.partitions)))
	if err == nil && len(unstable) > 0 {
		err = heldBack(unstable)
	}
	if err == nil || life.Err() != nil {
		return told
	}
	s.trouble.Failed(operation, err)
	for _, id := range unstable {
		if !slices.Contains(told, id) {
			told = append(told, id)
			s.cfg.Observer.Retrying(id, stream.Reading, err)
		}
	}
	return told
}

func (s *session) lookUpLag(life context.Context, admin *kadm.Client, g *generation) {
	ctx, cancel := context.WithTimeout(life, lagEvery)
	defer cancel()
	if err := s.lookUpTopics(ctx); errors.Is(err, errRecreated) {
		s.end(err)
		return
	}
	ends, err := admin.ListEndOffsets(ctx, s.cfg.Inputs...)
	if err != nil {
		return // fetching tells of it
	}
	starts, err := admin.ListStartOffsets(ctx, s.cfg.Inputs...)
	if err != nil {
		return
	}
	for id, p := range g.partitions {
		if p.recover(false) {
			s.trouble.Worked("read from " + id.Topic)
		}
		if o, ok := starts.Lookup(id.Topic, int32(id.ID)); ok && o.Err == nil {
			p.assume(o.Offset) // unless the group has committed one
		}
		if o, ok := ends.Lookup(id.Topic, int32(id.ID)); ok && o.Err == nil {
			p.watermark(o.Offset)
		}
	}
}
