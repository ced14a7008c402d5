package model

import (
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// A watch sends a hint when file events suggest a scan. It watches the base directory and its
// parent, since the base may itself be replaced by a rename or by a symbolic link. It does not
// watch the folders of versions: the reconciler inspects a version that is being copied until its
// files rest.
//
// On NFS, or if the system has no more watches, there are no events and so no hints. The periodic
// scan then finds new versions, only later.
type watch struct {
	hints   chan struct{}     // has one element while a hint waits
	done    chan struct{}     // closed when loop has ended
	watcher *fsnotify.Watcher // nil: there are no events
	base    string
	log     *slog.Logger
}

func newWatch(base string, log *slog.Logger) *watch {
	if absolute, err := filepath.Abs(base); err == nil { // "." has no parent in its name
		base = absolute
	}
	w := &watch{hints: make(chan struct{}, 1), done: make(chan struct{}), base: filepath.Clean(base), log: log}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("file events are not available; new versions are found by scanning only", "err", err)
		close(w.done)
		return w
	}
	w.watcher = watcher
	w.add()
	go w.loop()
	return w
}

// add watches the base directory and its parent. It is called before each scan, since the base may
// have been made or replaced meanwhile. fsnotify ignores a folder that it watches already.
func (w *watch) add() {
	if w.watcher == nil {
		return
	}
	for _, dir := range []string{filepath.Dir(w.base), w.base} {
		if err := w.watcher.Add(dir); err != nil {
			w.log.Debug("cannot watch for file events", "dir", dir, "err", err)
		}
	}
}

func (w *watch) loop() {
	defer close(w.done)
	for {
		select {
		case event, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			if !w.concerns(event.Name, event.Op == fsnotify.Write) {
				continue
			}
		case err, ok := <-w.watcher.Errors: // an overflow is a hint as well
			if !ok {
				return
			}
			w.log.Debug("file events may be lost", "err", err)
		}
		select {
		case w.hints <- struct{}{}:
		default:
		}
	}
}

// concerns tells whether a version may have come or gone by an event for a file. In the parent
// only the base itself counts, and names such as "..data", through which Kubernetes' links lead.
// A write to a file in the base does not count: versions are folders or links.
func (w *watch) concerns(name string, written bool) bool {
	name = filepath.Clean(name) // fsnotify may report //models
	switch {
	case name == w.base:
		return true
	case filepath.Dir(name) == w.base:
		return !written
	}
	return filepath.Dir(name) == filepath.Dir(w.base) && strings.HasPrefix(filepath.Base(name), "..")
}

func (w *watch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // an error loses nothing
	}
	<-w.done
}
