package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// ErrForgotten says that a choice holds, but not beyond a restart.
var ErrForgotten = errors.New("this is forgotten at a restart")

// choiceFile is beside the versions, unless Config.State names another file.
const choiceFile = ".inceptor.json"

// maxChoiceBytes bounds what is read of it.
const maxChoiceBytes = 1 << 20

// A choice is what people, and probation, have decided about versions, as
// against what there is. It is kept in a file, so that it outlives the
// process; whoever names the same file follows it. Safe for concurrent use.
type choice struct {
	path string

	mu   sync.Mutex
	kept decided // what the file held when it was last read or written
	lost error   // why the file cannot be written; the choice then lasts as long as the process
}

// decided is the file's content.
type decided struct {
	// Use is the version that is to serve; 0: the highest.
	Use int64 `json:"use,omitempty"`
	// Rejected versions are not taken while they have this digest.
	Rejected map[string]rejected `json:"rejected,omitempty"`
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
	return &choice{path: path}
}

// read reads the file again. What is not there is no choice; what cannot be
// read, or cannot have been written here, is an error, and changes nothing.
func (c *choice) read() (decided, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.kept, nil
	}
	d, err := readChoice(c.path)
	if err != nil {
		return c.kept, fmt.Errorf("model.state: %w", err)
	}
	c.kept = d
	return d, nil
}

func readChoice(path string) (decided, error) {
	var d decided
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(path)) // without which nobody knows
		return d, err
	}
	if err != nil {
		return d, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxChoiceBytes))
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	if d.Use < 0 {
		return d, fmt.Errorf("%s: version %d", path, d.Use)
	}
	return d, nil
}

// change changes what was decided. Its error is ErrForgotten: it was done, but
// cannot be kept.
func (c *choice) change(how func(*decided)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.kept
	if c.lost == nil {
		if now, err := readChoice(c.path); err == nil {
			d = now // others may have changed it
		}
	}
	d.Rejected = maps.Clone(d.Rejected)
	if d.Rejected == nil {
		d.Rejected = map[string]rejected{}
	}
	how(&d)
	c.kept = d
	if err := writeChoice(c.path, d); err != nil {
		c.lost = err
		return fmt.Errorf("%w: %w; let model.state name a file that can be written", ErrForgotten, err)
	}
	c.lost = nil
	return nil
}

// writeChoice replaces the file by one that is whole.
func writeChoice(path string, d decided) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".inceptor-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644) // others follow it
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
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

func (d *decided) reject(version int64, r rejected) { d.Rejected[strconv.FormatInt(version, 10)] = r }

func (d *decided) forgive(version int64) { delete(d.Rejected, strconv.FormatInt(version, 10)) }

// now is the choice as it was last read or made.
func (c *choice) now() decided {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept // its map is never changed
}
