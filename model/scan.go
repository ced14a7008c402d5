package model

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A candidate is a folder that may be a version.
type candidate struct {
	number int64
	dir    string
}

// modelFiles are those that make a folder a version. One in a form that is not read
// is refused with its reason, rather than overlooked.
var modelFiles = []string{"saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"}

// scan lists the version folders of a base directory, the highest last: those
// with a number for a name, leading zeros allowed, that hold one of modelFiles.
// Everything else in there is somebody else's.
func scan(base string) ([]candidate, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("model.dir: %w", err)
	}
	var found []candidate
	for _, e := range entries {
		number, err := strconv.ParseUint(e.Name(), 10, 63)
		if err != nil {
			if slices.Contains(modelFiles, e.Name()) {
				return nil, fmt.Errorf("model.dir: %s is a version itself, not the folder of the versions; name %s and call the version by a number",
					base, filepath.Dir(filepath.Clean(base)))
			}
			continue
		}
		dir := filepath.Join(base, e.Name())
		if slices.ContainsFunc(modelFiles, func(file string) bool { return mayExist(filepath.Join(dir, file)) }) {
			found = append(found, candidate{int64(number), dir})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(len(a.dir), len(b.dir)))
	})
	// Of 2 and 002, the one without the zeros: one number is one version.
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.number == b.number }), nil
}

// mayExist tells whether there is such a file, or it cannot be told: what cannot be
// read is refused with its reason.
func mayExist(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// Bounds on what is looked at in a version's folder.
const (
	maxFiles = 100_000
	maxDepth = 64
)

// A fingerprint changes with every write, rename or removal below a folder,
// as far as the file system tells: it is made of names, sizes, times and
// inodes.
type fingerprint [sha256.Size]byte

// fingerprintOf looks at every file below dir, through symbolic links to files
// and folders. What cannot be looked at is an error, and part of the
// fingerprint as well: it changes when the reason does. Names that begin with
// ".." are left out, as savedmodel.Digest does: Kubernetes' own, to which
// links lead. With it come the bytes of all files, and the time of the last
// change to any of them, by the clock of the file system.
func fingerprintOf(dir string) (sum fingerprint, size int64, last time.Time, err error) {
	h := sha256.New()
	files := 0
	var walk func(path string, depth int) error
	walk = func(path string, depth int) error {
		if files++; files > maxFiles || depth > maxDepth {
			return fmt.Errorf("%s holds more than %d files, or folders more than %d deep", dir, maxFiles, maxDepth)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		inode, at := identity(info)
		if at.After(last) {
			last = at
		}
		fmt.Fprintf(h, "%q %d %v %d %d %d\n", path, info.Size(), info.Mode(), info.ModTime().UnixNano(), inode, at.UnixNano())
		if !info.IsDir() {
			size += info.Size()
			return nil
		}
		entries, err := os.ReadDir(path)
		for _, e := range entries {
			if err == nil && !strings.HasPrefix(e.Name(), "..") {
				err = walk(filepath.Join(path, e.Name()), depth+1)
			}
		}
		return err
	}
	top, err := filepath.EvalSymlinks(dir)
	if err == nil {
		err = walk(top, 0)
	}
	if err != nil {
		fmt.Fprintf(h, "%v", err)
	}
	return fingerprint(h.Sum(nil)), size, last, err
}
