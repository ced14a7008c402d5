package savedmodel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxVersionFiles = 100_000
	maxVersionDepth = 64
)

// Digest identifies the contents of a version's directory: "sha256:" and the
// SHA-256, in hexadecimal, over one line per regular file,
//
//	SHA-256 of its contents in lower-case hexadecimal, two spaces, path, NUL
//
// where path is relative to dir, with "/" between its parts, and the lines are
// sorted by the bytes of path. Symbolic links are followed, to files and to
// folders; anything below dir whose name begins with ".." is left out. So a
// Kubernetes volume, where files are links into "..data", has the digest of
// the plain folder. Names, contents and therefore sizes count; times, modes
// and empty folders do not. The same from a shell:
//
//	cd DIR && find -L . -name '..?*' -prune -o -type f -printf '%P\0' |
//	  LC_ALL=C sort -z | xargs -0 sha256sum -z -- | sha256sum
//
// Digest reads every byte, so it takes a while on large models; a file that
// changes meanwhile makes the digest that of no version. It ends when ctx does.
func Digest(ctx context.Context, dir string) (string, error) {
	files, err := listFiles(dir, "")
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", dir, err)
	}
	var (
		total = sha256.New()
		file  = sha256.New()
		buf   = make([]byte, 256<<10)
	)
	for _, f := range files {
		file.Reset()
		if err := hashFile(ctx, file, filepath.Join(dir, filepath.FromSlash(f.Path)), buf); err != nil {
			return "", fmt.Errorf("digest %s: %w", dir, err)
		}
		fmt.Fprintf(total, "%x  %s\x00", file.Sum(nil), f.Path)
	}
	return "sha256:" + hex.EncodeToString(total.Sum(nil)), nil
}

func hashFile(ctx context.Context, h hash.Hash, name string, buf []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for err == nil {
		if err = ctx.Err(); err != nil {
			return err
		}
		var n int
		n, err = f.Read(buf)
		h.Write(buf[:n])
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// A File is a regular file of a version, or where a link to one leads.
type File struct {
	Path string `json:"path"` // below the version's directory, with "/"
	Size int64  `json:"size"` // bytes
}

// listFiles lists the regular files below the folder start of dir, sorted by
// their paths below dir. It follows links and leaves names out as Digest does.
func listFiles(dir, start string) ([]File, error) {
	var files []File
	var walk func(rel string, above []fs.FileInfo) error
	walk = func(rel string, above []fs.FileInfo) error {
		if len(above) > maxVersionDepth {
			return fmt.Errorf("%s: more than %d folders deep", rel, maxVersionDepth)
		}
		here := filepath.Join(dir, filepath.FromSlash(rel))
		entries, err := os.ReadDir(here)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "..") {
				continue
			}
			p := path.Join(rel, e.Name())
			info, err := os.Stat(filepath.Join(here, e.Name()))
			if err != nil {
				return err
			}
			switch {
			case info.Mode().IsRegular():
				if len(files) == maxVersionFiles {
					return fmt.Errorf("more than %d files", maxVersionFiles)
				}
				files = append(files, File{p, info.Size()})
			case info.IsDir():
				if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
					return fmt.Errorf("%s: a link to a folder that it is in", p)
				}
				if err := walk(p, append(slices.Clip(above), info)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	top, err := os.Stat(filepath.Join(dir, filepath.FromSlash(start)))
	if err != nil {
		return nil, err
	}
	if err := walk(start, []fs.FileInfo{top}); err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}
