package model

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The values of Config.Copies.
const (
	copiesAuto = "auto"
	copiesOne  = "one"
	copiesTwo  = "two"
)

// room is nil if the memory that is left will do for another version beside
// what is loaded, or if that is not known. What it takes is judged by the versions
// before: the most that a byte of their files has cost.
func (m *Manager) room(k *known) error {
	left, ok := m.memory()
	need := uint64(m.costs * float64(k.bytes))
	if !ok || need == 0 || left > need+need/10 {
		return nil
	}
	return fmt.Errorf("it takes about %d MiB, and %d MiB are left", need>>20, left>>20)
}

// learn notes what a version has taken.
func (m *Manager) learn(k *known) {
	if k.bytes > 0 {
		m.costs = max(m.costs, float64(k.loaded.took)/float64(k.bytes))
	}
}

// loadNext starts the load of the first version of the plan that is not
// loaded.
func (m *Manager) loadNext(ctx context.Context, p plan) {
	serving := m.servingKnown()
	m.mu.Lock()
	m.late = slices.DeleteFunc(m.late, func(l lateLoad) bool { return isClosed(l.ended) })
	late := m.lateness()
	m.mu.Unlock()
	m.note("no version is loaded", late)
	if late != "" {
		return
	}
	for _, k := range p.all() {
		if k.loaded != nil {
			continue
		}
		if serving == nil || serving.loaded == nil {
			m.load(ctx, k, nil)
			return
		}
		err := m.room(k)
		switch {
		case k == p.stable && (m.config.Copies == copiesOne || err != nil && m.config.Copies == copiesAuto):
			if err != nil {
				m.log.Info("no room for a second version; the serving one is unloaded first", "model", m.config.Name, "version", k.number, "reason", err)
			}
			m.load(ctx, k, serving)
			return
		case err == nil:
			m.load(ctx, k, nil)
			return
		}
		m.mu.Lock()
		m.refuse(k, atGate(GateMemory, err))
		m.mu.Unlock()
	}
}

// pause begins the way of a version that takes the place of what serves, once
// it has passed what can be asked of it before. Images wait from here on.
func (m *Manager) pause(ctx context.Context, o loaded) {
	old := m.routes.Load()
	o.paused = time.Now()
	m.log.Info("pausing", "model", m.config.Name, "version", o.instead.number, "for", o.k.number)
	paused := make(chan struct{})
	m.mu.Lock()
	m.resume = paused
	m.routes.Store(&routes{paused: paused, coming: o.k.number, before: old.stable})
	m.trial = nil
	var leaving []*version
	for _, k := range m.known {
		if k.loaded != nil {
			leaving = append(leaving, k.loaded)
			m.unload(k)
		}
	}
	m.mu.Unlock()
	m.observer.VersionServing(0, false)
	again := o.loader
	again.at, again.files, again.serving, again.recent = o.instead.candidate, o.instead.files, nil, nil
	m.retired.Go(func() { m.loads <- m.replace(ctx, o, again, leaving) })
}

// replace waits until the others are gone, and loads. If that does not pass,
// what served is loaded again.
func (m *Manager) replace(ctx context.Context, o loaded, again loader, leaving []*version) loaded {
	waiting, cancel := context.WithTimeout(ctx, m.config.Gate.Timeout)
	defer cancel()
	for _, v := range leaving {
		if late := v.batcher.hang(); late != nil {
			m.log.Error("a run does not end; another version is loaded while it keeps its memory", "model", m.config.Name, "version", v.info.Version, "reason", late)
			continue
		}
		select {
		case <-v.freed:
		case <-waiting.Done():
			if o.err = ctx.Err(); o.err != nil {
				return o
			}
			// Images would wait for ever. If there is no room, the system ends
			// the process, and that helps as well.
			m.log.Error("a run does not end; another version is loaded while it keeps its memory", "model", m.config.Name, "version", v.info.Version, "after", m.config.Gate.Timeout)
		}
	}
	o.passed = m.gates(ctx, o.loader)
	if o.err == nil || ctx.Err() != nil {
		return o
	}
	back := m.gates(ctx, again)
	if o.restored, o.stillLoads = back.v, back.late; back.err != nil {
		m.log.Error("cannot go back", "model", m.config.Name, "version", again.at.number, "err", back.err)
	}
	return o
}
