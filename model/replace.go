package model

import (
	"context"

	"inceptor/model/infer"
)

// The values of Config.Copies.
const (
	copiesAuto = "auto"
	copiesOne  = "one"
	copiesTwo  = "two"
)

// startReplace loads a version that has passed the gates that need no memory, in place of those
// that leave. again loads the version that served, if the new one fails. The result comes by
// results.
func (m *loads) startReplace(ctx context.Context, o loadResult, again load, leaving []*infer.Version) {
	m.retired.Go(func() { m.results <- m.replace(ctx, o, again, leaving) })
}

// replace waits until the versions that leave are freed, and loads the new one. If that fails, it
// loads the version that served again.
func (m *loads) replace(ctx context.Context, o loadResult, again load, leaving []*infer.Version) loadResult {
	waiting, cancel := context.WithTimeout(ctx, m.config.Gate.Timeout)
	defer cancel()
	for _, v := range leaving {
		if overdue := v.OverdueRun(); overdue != nil {
			m.log.Error("run overdue; another version is loaded while it keeps its memory", "model", m.config.Name, "version", v.Info().Version, "reason", overdue)
			continue
		}
		select {
		case <-v.Freed():
		case <-waiting.Done():
			if o.err = ctx.Err(); o.err != nil {
				return o
			}
			// Otherwise records would wait forever. If memory runs out, the system ends the
			// process, and the restart helps too.
			m.log.Error("run overdue; another version is loaded while it keeps its memory", "model", m.config.Name, "version", v.Info().Version, "after", m.config.Gate.Timeout)
		}
	}
	o.gateResult = m.gates(ctx, o.load)
	if o.err == nil || ctx.Err() != nil {
		return o
	}
	back := m.gates(ctx, again)
	if o.restored, o.wayBackOverdue = back.v, back.overdue; back.err != nil {
		m.log.Error("cannot load the previous version again", "model", m.config.Name, "version", again.Number, "err", back.err)
	}
	return o
}
