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
	folder, err := openJournalFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	defer folder.Close()
	for n := range maxJournals {
		f, err := openIn(folder, fmt.Sprintf("%s-%d.journal", name, n))
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

// journalFolder returns where the journals of a configured folder lie: in it or, where others may
// write to it, in a folder of this user's own below it. So a volume of Kubernetes will do, which a
// group or everybody may write to. What another user owns is an error. The folder may be a link, as
// systemd makes one of /var/lib/inceptor: then both the link and its target count.
func journalFolder(dir string) (string, error) {
	var link, st unix.Stat_t
	if err := unix.Lstat(dir, &link); err != nil {
		return dir, fmt.Errorf("%s: %w", dir, err)
	}
	if err := unix.Stat(dir, &st); err != nil { // not as a missing folder, which is made
		return dir, fmt.Errorf("%s: its target: %v", dir, err) //nolint:errorlint // see above
	}
	others := func(uid uint32) bool { return int(uid) != os.Getuid() && uid != 0 }
	switch {
	case others(link.Uid), others(st.Uid):
		return dir, fmt.Errorf("%s: another user owns it, and may write there", dir)
	case int(st.Uid) == os.Getuid() && st.Mode&0o022 == 0:
		return dir, nil
	}
	own := filepath.Join(dir, ownFolderName())
	if err := unix.Lstat(own, &st); err == nil && int(st.Uid) != os.Getuid() {
		return own, fmt.Errorf("%s: another user owns it, and may write there", own)
	}
	return own, nil
}

// openJournalFolder opens the folder of the journals, after making it. Its files are opened through
// the handle: others may put another folder in its place.
func openJournalFolder(dir string) (*os.File, error) {
	path, err := journalFolder(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if path != dir { // others may write to dir, so a link there may be theirs
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	folder := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), folder.Close())
	}
	if int(st.Uid) != os.Getuid() {
		return nil, errors.Join(fmt.Errorf("%s: another user owns it, and may write there", path), folder.Close())
	}
	if st.Mode&0o022 != 0 { // Kubernetes lets a volume's group write everywhere, at each start of a pod
		if err := folder.Chmod(0o700); err != nil {
			return nil, errors.Join(err, folder.Close())
		}
	}
	return folder, nil
}

// openIn opens a file in a folder, after making it.
func openIn(folder *os.File, name string) (*os.File, error) {
	path := filepath.Join(folder.Name(), name)
	fd, err := unix.Openat(int(folder.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
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
