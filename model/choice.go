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

// ErrForgotten says that a change holds, but not beyond a restart.
var ErrForgotten = errors.New("this is forgotten at a restart")

// A choice is what people, and probation, have decided about versions, as
// against what there is. It is kept in a file, so that it outlives the
// process; whoever names the same file follows it. Safe for concurrent use.
type choice struct {
	path string
	kept atomic.Pointer[decided] // what holds; replaced, never changed

	mu      sync.Mutex       // held to read or change the file; guards what follows
	private bool             // changes are not written at all
	pending []func(*decided) // changes that hold, and that the file does not have yet
	retry   time.Time        // when to try again to write them
}

// writeAgain is how long a file that could not be written is left alone.
const writeAgain = 5 * time.Second

// decided is the file's content. A version is nil where there is none: 0 is
// one.
type decided struct {
	chosen
	// Before is what was chosen before Use. It holds again if Use is refused;
	// nil once Use has served.
	Before *chosen `json:"before,omitempty"`
	// Rejected versions are not taken while they have this digest.
	Rejected map[string]rejected `json:"rejected,omitempty"`
}

type chosen struct {
	// Use is the version that is to serve; nil: the highest.
	Use *int64 `json:"use,omitempty"`
	// PassedOver is the highest version that was there when a lower one was
	// chosen by hand. Up to it, none becomes a canary or shadow by itself.
	PassedOver *int64 `json:"passed_over,omitempty"`
}

type rejected struct {
	Digest string `json:"digest"`
	Cause  string `json:"cause"`
	Reason string `json:"reason"`
}

func newChoice(c Config) *choice {
	path := c.State
	if path == "" {
		path = filepath.Join(c.Dir, choiceFile)
	}
	k := &choice{path: path}
	k.kept.Store(&decided{})
	return k
}

// now is the choice as it was last read or made.
func (c *choice) now() decided { return *c.kept.Load() }

// read reads the file again. A file that is not there is no choice. One that
// cannot be read, or does not hold a choice, is an error; the choice
// then stays as it was, and the file too.
func (c *choice) read() (decided, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 && !c.private && !time.Now().Before(c.retry) && c.write() == nil {
		return c.now(), nil
	}
	d, err := readChoice(c.path)
	if err != nil {
		return c.now(), fmt.Errorf("model.state: %w", err)
	}
	d = d.changed(c.pending...)
	c.kept.Store(&d)
	return d, nil
}

// change changes what was decided; how may be called several times. The error
// is ErrForgotten: the change holds, but the file does not have it yet.
func (c *choice) change(how func(*decided)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, how)
	var err error
	if !c.private {
		if err = c.write(); err == nil {
			return nil
		}
	}
	d := c.now().changed(how)
	c.kept.Store(&d)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: model.state: %w", ErrForgotten, err)
}

// write adds the pending changes to what the file says now, which others may
// have written meanwhile. The lock is held.
func (c *choice) write() error {
	c.retry = time.Now().Add(writeAgain)
	unlock, err := lockChoice(c.path)
	if err != nil {
		return fmt.Errorf("%w; name a file that can be written", err)
	}
	defer unlock()
	d, err := readChoice(c.path)
	if err != nil {
		return err
	}
	d = d.changed(c.pending...)
	if err := writeChoice(c.path, d); err != nil {
		return fmt.Errorf("%w; name a file that can be written", err)
	}
	c.pending = nil
	c.kept.Store(&d)
	return nil
}

// keepPrivate lets changes hold for this process alone, which only looks.
func (c *choice) keepPrivate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.private = true
}

// unreadable tells whether an error of read means that there is a choice, and it
// is not known. Where there is not even a folder, there is none.
func unreadable(err error) bool { return err != nil && !errors.Is(err, fs.ErrNotExist) }

// changed is a changed copy.
func (d decided) changed(how ...func(*decided)) decided {
	d.Rejected = maps.Clone(d.Rejected)
	if d.Rejected == nil {
		d.Rejected = map[string]rejected{}
	}
	for _, f := range how {
		f(&d)
	}
	d.forgetOldest()
	return d
}

// of is what was decided against a version.
func (d decided) of(version int64) (rejected, bool) {
	r, ok := d.Rejected[strconv.FormatInt(version, 10)]
	return r, ok
}

// against tells whether a version was taken back, as far as is known without
// reading its files again.
func (d decided) against(k *known) bool {
	r, ok := d.of(k.number)
	return ok && (k.digest == "" || k.digest == r.Digest)
}

// uses tells whether a version is the one that was chosen.
func (d decided) uses(version int64) bool { return d.Use != nil && *d.Use == version }

// mayFollow tells whether a version may become a canary or shadow by itself.
func (d decided) mayFollow(version int64) bool {
	return d.PassedOver == nil || version > *d.PassedOver
}

// use lets a version serve. The highest one that is there is passed over, if
// it is higher.
func (d *decided) use(version, highest int64) {
	if d.Before == nil { // else what has not served either would come again
		before := d.chosen
		d.Before = &before
	}
	d.chosen = chosen{Use: &version}
	if highest > version {
		d.PassedOver = &highest
	}
	d.forgive(version)
}

// useHighest lets whatever is the highest serve.
func (d *decided) useHighest() { d.chosen, d.Before = chosen{}, nil }

// served notes that the version that was chosen serves.
func (d *decided) served() { d.Before = nil }

// unuse takes the choice of a version back: what was chosen before holds, or
// the highest.
func (d *decided) unuse(version int64) {
	if !d.uses(version) {
		return
	}
	before := chosen{}
	if d.Before != nil {
		before = *d.Before
	}
	d.chosen, d.Before = before, nil
}

// maxReason bounds the reason of a rejection, in bytes, and maxRejected how
// many there are: the file stays below what is read of it.
const (
	maxReason   = 512
	maxRejected = 1000
)

func (d *decided) reject(version int64, r rejected) {
	r.Reason = r.Reason[:min(len(r.Reason), maxReason)]
	d.Rejected[strconv.FormatInt(version, 10)] = r
}

// takeBack rejects a version, and forgets that it was chosen: what was chosen
// before holds, or the highest.
func (d *decided) takeBack(version int64, r rejected) {
	d.reject(version, r)
	if d.Before != nil && d.Before.Use != nil && *d.Before.Use == version {
		d.Before = &chosen{}
	}
	d.unuse(version)
}

func (d *decided) forgive(version int64) { delete(d.Rejected, strconv.FormatInt(version, 10)) }

// forgetOldest drops the rejections of the lowest versions, if there are too
// many.
func (d *decided) forgetOldest() {
	if len(d.Rejected) <= maxRejected {
		return
	}
	var numbers []int64
	for text := range d.Rejected {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			delete(d.Rejected, text) // it rejects nothing
			continue
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers[:max(0, len(numbers)-maxRejected)] {
		d.forgive(n)
	}
}
