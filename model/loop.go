package model

import (
	"context"
	"fmt"
	"time"

	"inceptor/model/infer"
)

// Load scans the directory once, and loads the version that was chosen by hand or, without a
// choice, the highest one that passes its gates. It does not wait for files to rest. Its error is
// ErrNoVersion, with the reason for each version.
func (m *Manager) Load(ctx context.Context) error {
	m.stateFile.keepPrivate()
	m.reconciler.search.folder.private = true
	candidates, err := scan(m.config.Dir)
	if err != nil {
		return err
	}
	if len(candidates) == 0 {
		return fmt.Errorf("%w: %s has no version, no folder with a number for a name that holds a saved_model.pb",
			ErrNoVersion, m.config.Dir)
	}
	return m.reconciler.once(ctx, candidates)
}

// Run loads new versions when they are published, until ctx ends. It scans the directory at file
// events and every model.poll. A version that has failed is tried again when its files change or,
// if the fault was the machine's, after a while. The version that serves goes on until another
// one has passed its gates, even if its own files are deleted. It is an error if the directory
// cannot be read at the start.
func (m *Manager) Run(ctx context.Context) error {
	w := newWatch(m.config.Dir, m.log)
	defer w.close()
	return m.reconciler.run(ctx, w, m.asked)
}

// Scan scans the directory once, so that Wanted and Versions know its versions. It loads none.
// Neither Load nor Run may be running.
func (m *Manager) Scan() error {
	candidates, err := scan(m.config.Dir)
	if err == nil {
		m.reconciler.remember(candidates)
		m.reconciler.publish()
	}
	return err
}

// once is Manager.Load for the versions that were found.
func (r *reconciler) once(ctx context.Context, candidates []infer.Folder) error {
	defer r.abandonLoad()
	r.quiet = 0
	r.remember(candidates)
	for {
		r.reconcile(ctx)
		if r.routes.stable != nil && r.loading == nil {
			return nil
		}
		if r.loading == nil {
			return r.published.snapshot.Load().noVersion(r.config, r.stateFile.now())
		}
		select {
		case o := <-r.loads.results:
			r.received(ctx, o)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// judgeEvery is how often a version on probation, a canary or a shadow is judged.
const judgeEvery = 250 * time.Millisecond

// run is Manager.Run. It begins a round at each hint of w, and calls the functions of asked
// between two rounds.
func (r *reconciler) run(ctx context.Context, w *watch, asked <-chan func()) error {
	defer r.abandonLoad()
	defer r.search.abandon()
	r.quiet = r.config.Quiet
	for {
		w.add()
		candidates, err := scan(r.config.Dir)
		switch {
		case err != nil && !r.scanned:
			return err // it has never been readable: a mistake in the configuration
		case err != nil:
			r.report.problem("no versions to look at", err.Error())
			r.noneThere()
		case len(candidates) == 0:
			r.report.problem("no versions to look at", "no versions in "+r.config.Dir)
			r.remember(nil)
		default:
			r.report.problem("no versions to look at", "")
			r.remember(candidates)
		}
		again := r.reconcile(ctx)
		r.scanned = true
		select {
		case <-ctx.Done():
			return nil
		case o := <-r.loads.results:
			r.received(ctx, o)
		case o := <-r.search.steps:
			r.search.done(ctx, o)
		case <-w.hints:
		case do := <-asked:
			do()
		case <-time.After(max(again, 10*time.Millisecond)):
		}
	}
}

// abandonLoad gives up a load that is still under way: its version is freed when it ends. Records
// that wait for it get ErrNoVersion.
func (r *reconciler) abandonLoad() {
	if r.loading == nil {
		return
	}
	r.loading, r.replaces = nil, nil
	if r.resume != nil { // no version will come
		r.routes = &routes{}
		r.publish()
		close(r.resume)
		r.resume = nil
	}
	r.loads.freeNext()
}

// close stops serving, and releases all versions.
func (r *reconciler) close() {
	r.routes = &routes{}
	for _, e := range r.versions {
		r.unload(e)
	}
	r.publish()
}
