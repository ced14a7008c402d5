package model

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Load looks once, and loads the highest version that passes its gates, or the
// one that was chosen by hand. It does not wait for files to rest. Its error is
// ErrNoVersion, with what is wrong with each.
func (m *Manager) Load(ctx context.Context) error {
	defer m.disown()
	m.choice.keepPrivate()
	candidates, err := scan(m.config.Dir)
	if err != nil {
		return err
	}
	if len(candidates) == 0 {
		return fmt.Errorf("%w: %s has no version, no folder with a number for a name that holds a saved_model.pb",
			ErrNoVersion, m.config.Dir)
	}
	m.remember(candidates)
	for {
		m.step(ctx, 0)
		if m.routes.Load().stable != nil && m.loading == nil {
			return nil
		}
		if m.loading == nil {
			break
		}
		select {
		case o := <-m.loads:
			m.arrived(ctx, o)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	refusals, d := []error{ErrNoVersion}, m.choice.now()
	for _, k := range m.order() {
		switch s := m.status(k, d); s.State {
		case StateRefused:
			refusals = append(refusals, fmt.Errorf("version %d: %w", k.number, k.refused))
		case StateRejected:
			refusals = append(refusals, fmt.Errorf("version %d was taken back: %s", k.number, s.Reason))
		}
	}
	if d.Use != nil {
		refusals = append(refusals, fmt.Errorf("version %d was chosen by hand, and no other one is taken", *d.Use))
	}
	if err := m.unknown(); err != nil {
		refusals = append(refusals, err)
	}
	return errors.Join(refusals...)
}

// judgeEvery is how often a version on probation is looked at.
const judgeEvery = 250 * time.Millisecond

// Run takes new versions as they come, until ctx ends. File events are hints
// that it is time to look; what is there decides. A version that was refused
// is left alone until its files change, or for a while, if the fault was the
// machine's. What serves goes on until another one has passed its gates,
// whatever becomes of its own files. A directory that cannot be read at first
// is an error.
func (m *Manager) Run(ctx context.Context) error {
	defer m.disown()
	w := newWatch(m.config.Dir, m.log)
	defer w.close()
	for {
		w.add()
		candidates, err := scan(m.config.Dir)
		if err != nil && !m.scanned {
			return err // nobody has had a version from there
		}
		m.note("no versions to look at", m.noVersions(err, len(candidates)))
		if err == nil {
			m.remember(candidates)
		} else {
			m.lookAway()
		}
		pause := m.step(ctx, m.config.Quiet)
		m.scanned = true
		select {
		case <-ctx.Done():
			return nil
		case o := <-m.loads:
			m.arrived(ctx, o)
		case <-w.hints:
		case do := <-m.asked:
			do()
		case <-time.After(max(pause, 10*time.Millisecond)):
		}
	}
}

// disown lets a load that is still under way free what it has loaded.
func (m *Manager) disown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loading == nil {
		return
	}
	m.loading, m.instead = nil, nil
	if m.resume != nil { // nobody will come
		m.routes.Store(&routes{})
		close(m.resume)
		m.resume = nil
	}
	m.retired.Go(func() {
		o := <-m.loads
		for _, v := range []*version{o.v, o.restored} {
			if v != nil {
				v.drop()
				<-v.freed
			}
		}
	})
}

// noVersions is what is wrong with the base directory, if anything is.
func (m *Manager) noVersions(err error, found int) string {
	switch {
	case err != nil:
		return err.Error()
	case found == 0:
		return "no versions in " + m.config.Dir
	}
	return ""
}

// note logs a problem once, until its reason changes, or it is over: an empty one.
func (m *Manager) note(problem, reason string) {
	if reason != "" && reason != m.noted[problem] {
		m.log.Warn(problem, "reason", reason)
	}
	m.noted[problem] = reason
}

// ask lets Run do something between two steps, and returns what comes of it.
func (m *Manager) ask(ctx context.Context, what func() error) error {
	done := make(chan error, 1)
	select {
	case m.asked <- func() { done <- what() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}
