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

	"inceptor/internal/host"
	"inceptor/model/infer"
)

// modelFiles are the names that make a folder a version. Formats that inceptor does not read are
// listed too, so that such a version is refused with a reason and not ignored.
var modelFiles = []string{"saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"}

// scan lists the versions in a base directory, the highest last. A version is a folder whose name
// is a number, with or without leading zeros, and that holds one of modelFiles. Everything else
// in the directory is ignored.
func scan(base string) ([]infer.Folder, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("model.dir: %w", err)
	}
	var found []infer.Folder
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
			found = append(found, infer.Folder{Version: int64(number), Dir: dir})
		}
	}
	if _, err := os.Stat(base); err != nil { // renamed since: the versions seem to be gone
		return nil, fmt.Errorf("model.dir: %w", err)
	}
	slices.SortFunc(found, func(a, b infer.Folder) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(len(a.Dir), len(b.Dir)))
	})
	// Of 2 and 002 only the one without the zeros counts, since they are one version.
	return slices.CompactFunc(found, func(a, b infer.Folder) bool { return a.Version == b.Version }), nil
}

// isThere tells whether a scan finds a version's folder.
func isThere(base string, f infer.Folder) bool {
	candidates, err := scan(base)
	return err == nil && slices.Contains(candidates, f)
}

// mayExist tells whether there is such a file. It is also true if that cannot be found out: the
// gate read then refuses the version with the reason.
func mayExist(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// maxDepth bounds how deep folders may be nested in a version's folder.
const maxDepth = 64

// A fingerprint of a folder changes with every write, rename or removal in it, as far as the file
// system shows them: it covers names, sizes, modes, times and inodes.
type fingerprint [sha256.Size]byte

// fingerprintOf returns the fingerprint of dir, the bytes of all its files, and when one of them
// last changed, by the clock of the file system. It follows symbolic links to files and folders.
// It leaves out names that begin with "..", as savedmodel.Digest does: Kubernetes' links lead to
// those. An error becomes part of the fingerprint, so that the fingerprint changes when the error
// does.
func fingerprintOf(dir string) (sum fingerprint, size int64, last time.Time, err error) {
	h := sha256.New()
	files := 0
	var walk func(path string, depth int) error
	walk = func(path string, depth int) error {
		if files++; files > infer.MaxFiles || depth > maxDepth {
			return fmt.Errorf("%s holds more than %d files, or folders more than %d deep", dir, infer.MaxFiles, maxDepth)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		inode, at := host.Identity(info)
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
