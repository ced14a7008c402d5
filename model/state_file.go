package model

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ErrForgotten says that a change holds in this process, but is not in the state file.
var ErrForgotten = errors.New("this is forgotten at a restart")

// A stateFile keeps decisions about versions over restarts: choices by hand, and rollbacks.
// Processes that name the same file follow it together. Safe for concurrent use.
type stateFile struct {
	path string                    // set once
	kept atomic.Pointer[decisions] // in force; replaced, never changed

	mu      sync.Mutex         // held to read or change the file; guards the fields below
	private bool               // changes are never written
	pending []func(*decisions) // changes that hold, and are not in the file yet
	retry   time.Time          // when to try again to write them
}

// rewriteAfter is the pause before a file that could not be written is written again.
const rewriteAfter = 5 * time.Second

// decisions are the file's content. A version is nil where there is none: 0 is one.
type decisions struct {
	chosen
	// Before is the choice before Use. It holds again if Use fails; nil once Use has served.
	Before *chosen `json:"before,omitempty"`
	// RolledBack are the versions that do not serve while their files have this digest.
	RolledBack map[string]rollbackRecord `json:"rejected,omitempty"`
}

type chosen struct {
	// Use is the version that is to serve; nil: the highest.
	Use *int64 `json:"use,omitempty"`
	// PassedOver is the highest version that was there when a lower one was chosen by hand. Only a
	// version above it becomes a canary or shadow by itself.
	PassedOver *int64 `json:"passed_over,omitempty"`
}

// A rollbackRecord says which files of a version were rolled back, and why.
type rollbackRecord struct {
	Digest string `json:"digest"` // empty: not known yet; then all files are meant
	Cause  string `json:"cause"`
	Reason string `json:"reason"`
}

// holds tells whether a version with this digest must not serve.
func (r rollbackRecord) holds(digest string) bool { return r.Digest == "" || r.Digest == digest }

func newStateFile(c Config) *stateFile {
	f := &stateFile{path: c.statePath()}
	f.kept.Store(&decisions{})
	return f
}

// statePath returns the path of the state file.
func (c Config) statePath() string {
	if c.State != "" {
		return c.State
	}
	return filepath.Join(c.Dir, stateFileName)
}

// now returns the decisions, as they were last read or changed.
func (f *stateFile) now() decisions { return *f.kept.Load() }

// read reads the file again. Without a file there are no decisions. If the file cannot be read or
// parsed, that is an error, and the decisions and the file stay as they were.
func (f *stateFile) read() (decisions, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) > 0 && !f.private && !time.Now().Before(f.retry) && f.write() == nil {
		return f.now(), nil
	}
	d, err := readStateFile(f.path)
	if err != nil {
		return f.now(), fmt.Errorf("model.state: %w", err)
	}
	d = d.changed(f.pending...)
	f.kept.Store(&d)
	return d, nil
}

// change changes the decisions; it may call how several times. The error is ErrForgotten: the
// change holds, but is not in the file yet.
func (f *stateFile) change(how func(*decisions)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, how)
	var err error
	if !f.private {
		if err = f.write(); err == nil {
			return nil
		}
	}
	d := f.now().changed(how)
	f.kept.Store(&d)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: model.state: %w", ErrForgotten, err)
}

// write applies the pending changes to the file as it is now, since other processes may have
// changed it. The caller holds mu.
func (f *stateFile) write() error {
	f.retry = time.Now().Add(rewriteAfter)
	unlock, err := lockStateFile(f.path)
	if err != nil {
		return fmt.Errorf("%w; name a file that can be written", err)
	}
	defer unlock()
	d, err := readStateFile(f.path)
	if err != nil {
		return err
	}
	d = d.changed(f.pending...)
	if err := writeStateFile(f.path, d); err != nil {
		return fmt.Errorf("%w; name a file that can be written", err)
	}
	f.pending = nil
	f.kept.Store(&d)
	return nil
}

// keepPrivate keeps changes in this process, for a command that only looks.
func (f *stateFile) keepPrivate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.private = true
}

// readable fails if the file cannot be read: then no change is made, since it could not be added.
func (f *stateFile) readable() error {
	if _, err := f.read(); unreadable(err) {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return nil
}

// unreadable tells whether an error of read means that there may be decisions which are not known.
// Without the file's folder there are none.
func unreadable(err error) bool { return err != nil && !errors.Is(err, fs.ErrNotExist) }

// changed returns a copy with these changes.
func (d decisions) changed(how ...func(*decisions)) decisions {
	d.RolledBack = maps.Clone(d.RolledBack)
	if d.RolledBack == nil {
		d.RolledBack = map[string]rollbackRecord{}
	}
	for _, change := range how {
		change(&d)
	}
	d.forgetOldest()
	return d
}

// rollbackOf returns why a version was rolled back, if it was.
func (d decisions) rollbackOf(version int64) (rollbackRecord, bool) {
	r, ok := d.RolledBack[strconv.FormatInt(version, 10)]
	return r, ok
}

// forbids tells whether a version was rolled back with the files that it has, as far as is known
// without reading them again.
func (d decisions) forbids(e *versionEntry) bool {
	r, ok := d.rollbackOf(e.Version)
	return ok && (e.digest == "" || r.holds(e.digest))
}

// uses tells whether this version was chosen.
func (d decisions) uses(version int64) bool { return d.Use != nil && *d.Use == version }

// mayFollow tells whether a version may become a canary or shadow by itself.
func (d decisions) mayFollow(version int64) bool {
	return d.PassedOver == nil || version > *d.PassedOver
}

// use chooses a version. If a higher one is there, PassedOver becomes the highest one.
func (d *decisions) use(version, highest int64) {
	if d.Before == nil { // otherwise Use has not served, and is no choice to go back to
		before := d.chosen
		d.Before = &before
	}
	d.chosen = chosen{Use: &version}
	if highest > version {
		d.PassedOver = &highest
	}
	d.clearRollback(version)
}

// useHighest takes the choice back: the highest version serves.
func (d *decisions) useHighest() { d.chosen, d.Before = chosen{}, nil }

// served records that the chosen version has served.
func (d *decisions) served() { d.Before = nil }

// unchoose takes the choice of a version back. The choice before it holds again or, without one,
// the highest version serves.
func (d *decisions) unchoose(version int64) {
	if !d.uses(version) {
		return
	}
	before := chosen{}
	if d.Before != nil {
		before = *d.Before
	}
	d.chosen, d.Before = before, nil
}

// maxReason bounds the reason of a rollback, in bytes, and maxRolledBack their number, so that
// the file stays below maxStateFileBytes.
const (
	maxReason     = 512
	maxRolledBack = 1000
)

func (d *decisions) addRollback(version int64, r rollbackRecord) {
	r.Reason = r.Reason[:min(len(r.Reason), maxReason)]
	d.RolledBack[strconv.FormatInt(version, 10)] = r
}

// rollBack records that a version must not serve, and takes its choice back: see unchoose.
func (d *decisions) rollBack(version int64, r rollbackRecord) {
	d.addRollback(version, r)
	if d.Before != nil && d.Before.Use != nil && *d.Before.Use == version {
		d.Before = &chosen{}
	}
	d.unchoose(version)
}

// adoptDigest notes the digest of the files that were rolled back, if it was not known.
func (d *decisions) adoptDigest(version int64, digest string) {
	if r, ok := d.rollbackOf(version); ok && r.Digest == "" {
		r.Digest = digest
		d.addRollback(version, r)
	}
}

func (d *decisions) clearRollback(version int64) {
	delete(d.RolledBack, strconv.FormatInt(version, 10))
}

// forgetOldest removes the rollbacks of the lowest versions, if there are too many.
func (d *decisions) forgetOldest() {
	if len(d.RolledBack) <= maxRolledBack {
		return
	}
	var numbers []int64
	for text := range d.RolledBack {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			delete(d.RolledBack, text) // no version has this number
			continue
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers[:max(0, len(numbers)-maxRolledBack)] {
		d.clearRollback(n)
	}
}
