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
)

// choiceFile is beside the versions, unless Config.State names another file.
const choiceFile = ".inceptor.json"

// maxChoiceBytes bounds what is read of it.
const maxChoiceBytes = 4 << 20

// errMend says what to do about a file that cannot be read.
const errMend = "mend the file, or remove it to forget which version was chosen and which were taken back"

func readChoice(path string) (decided, error) {
	var d decided
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(path)) // without the folder, there is no choice either
		return d, err
	}
	if err != nil {
		return d, fmt.Errorf("%w; %s", err, errMend)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxChoiceBytes+1))
	switch {
	case err != nil:
	case len(b) > maxChoiceBytes:
		err = fmt.Errorf("it is larger than %d bytes", maxChoiceBytes)
	default:
		if err = json.Unmarshal(b, &d); err == nil {
			err = d.check()
		}
	}
	if err != nil {
		return decided{}, fmt.Errorf("%s: %w; %s", path, err, errMend)
	}
	return d, nil
}

// check fails if a number is none of a version.
func (d decided) check() error {
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

// writeChoice replaces the file by one that is whole.
func writeChoice(path string, d decided) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".inceptor-*.tmp")
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
	// The new name outlives a power cut only if the folder is synced. Not every
	// file system can do that; the file is whole in any case.
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
	return nil
}

// errNoLocks says that a file system has no locks.
var errNoLocks = errors.New("no locks here")

// lockPause is how long a change leaves the lock to others after it. They look
// for it more often than that, so each gets its turn.
const lockPause = 5 * time.Millisecond

// lockWait is how long a change waits for another process to finish its own.
// That takes milliseconds, unless the process was stopped, or the file server
// is gone.
const lockWait = 2 * time.Second

// lockChoice keeps others from changing the file, until unlock. They lock a
// file beside it, since a change replaces the file itself. Where the file
// system has no locks, the last of two changes at the same moment holds.
func lockChoice(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, fs.ErrPermission) { // another user may have made it; to read it will do
		if theirs, openErr := os.Open(path + ".lock"); openErr == nil {
			f, err = theirs, nil
		}
	}
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause / 5) {
		locked, err := tryLock(f)
		switch {
		case errors.Is(err, errNoLocks):
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
