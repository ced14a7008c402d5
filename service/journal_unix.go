//go:build linux || darwin

package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxJournals is how many processes of one machine may share a group.
const maxJournals = 1000

// mapJournal opens, locks and maps the first file of this name that no process has
// locked. The lock ends with the process.
func mapJournal(dir, name string) (*os.File, journalFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	if err := ownFolder(dir); err != nil {
		return nil, nil, err
	}
	for n := range maxJournals {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s-%d.journal", name, n)), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			continue
		} else if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		mem, err := mapFile(f)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
		}
		return f, mem, nil
	}
	return nil, nil, fmt.Errorf("%s: %d other processes have journals there already", dir, maxJournals)
}

// ownFolder fails unless only this user may write to a folder: another one may have made it, if
// everybody may write to its parent.
func ownFolder(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if int(st.Uid) != os.Getuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: other users may write there", dir)
	}
	return nil
}

// mapFile maps a file, after allocating all its blocks: a store to a block that a
// full disk cannot allocate would end the process.
func mapFile(f *os.File) ([]byte, error) {
	if err := reserve(f, journalBytes); err != nil {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, journalBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// reserve extends a file with zeros to a size.
func reserve(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if missing := size - info.Size(); missing > 0 {
		_, err = f.WriteAt(make([]byte, missing), info.Size())
	}
	return err
}

// unlockJournal unlocks a file. Closing it would not, while it is mapped.
func unlockJournal(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// inode distinguishes a folder from an earlier one of the same name; 0: not known.
func inode(dir string) uint64 {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0
	}
	return st.Ino
}
