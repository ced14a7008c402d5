package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"inceptor/internal/host"
)

// stateFileName is the file beside the versions, unless Config.State names another file.
const stateFileName = ".inceptor.json"

// maxStateFileBytes bounds the file. A larger one is an error.
const maxStateFileBytes = 4 << 20

// stateFileAdvice says what to do about a file that cannot be read.
const stateFileAdvice = "mend the file, or remove it to forget which version was chosen and which were rolled back"

func readStateFile(path string) (decisions, error) {
	var d decisions
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(path)) // without the folder, there are no decisions either
		return d, err
	}
	if err != nil {
		return d, fmt.Errorf("%w; %s", err, stateFileAdvice)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFileBytes+1))
	switch {
	case err != nil:
	case len(b) > maxStateFileBytes:
		err = fmt.Errorf("it is larger than %d bytes", maxStateFileBytes)
	default:
		if err = json.Unmarshal(b, &d); err == nil {
			err = d.check()
		}
	}
	if err != nil {
		return decisions{}, fmt.Errorf("%s: %w; %s", path, err, stateFileAdvice)
	}
	return d, nil
}

// check fails if a number is not that of a version.
func (d decisions) check() error {
	numbers := []*int64{d.Use, d.PassedOver}
	if d.Before != nil {
		numbers = append(numbers, d.Before.Use, d.Before.PassedOver)
	}
	for _, n := range numbers {
		if n != nil && *n < 0 {
			return fmt.Errorf("%d is no version", *n)
		}
	}
	return nil
}

func writeStateFile(path string, d decisions) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile replaces a file at once, so that no reader sees half of it.
func replaceFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".inceptor-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644) // other processes read it
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	// The rename survives a power cut only if the folder is synced. Not every file system can do
	// that; the file is whole in any case.
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
	return nil
}

// lockPause is how long a process waits after a change before it may take the lock again. Others
// try more often than that, so each gets the lock in time.
const lockPause = 5 * time.Millisecond

// lockWait is how long a change waits for another process's change. That takes milliseconds,
// unless the process is stopped, or the file server is gone.
const lockWait = 2 * time.Second

// lockStateFile keeps other processes from changing the file, until unlock. It locks a file next
// to it, since a change replaces the file itself. On a file system without locks, the later of
// two changes at the same moment wins.
func lockStateFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, fs.ErrPermission) { // another user has made it: opening it to read is enough
		if theirs, openErr := os.Open(path + ".lock"); openErr == nil {
			f, err = theirs, nil
		}
	}
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause / 5) {
		locked, err := host.TryLock(f)
		switch {
		case errors.Is(err, host.ErrNoLocks):
			return func() { _ = f.Close() }, nil
		case err != nil:
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		case locked:
			return func() {
				_ = f.Close() // which unlocks it
				time.Sleep(lockPause)
			}, nil
		case time.Now().After(end):
			return nil, errors.Join(fmt.Errorf("another process has held %s for %v", f.Name(), lockWait), f.Close())
		}
	}
}

// A StateCheck says whether the state file can be used.
type StateCheck struct {
	Path  string
	Read  error // why it cannot be read; then a service that starts waits, and is not ready
	Write error // why it cannot be changed; then what is chosen is forgotten at a restart
}

// CheckState tries the state file of a configuration, and leaves nothing behind.
func CheckState(c Config) StateCheck {
	s := StateCheck{Path: c.statePath()}
	if _, err := readStateFile(s.Path); unreadable(err) {
		s.Read = err
	}
	s.Write = host.CheckWritable(filepath.Dir(s.Path), stateFileRoom)
	return s
}

// stateFileRoom is how much space CheckState wants: an ordinary state file is smaller.
const stateFileRoom = 4096
