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

// Digest returns a digest of the contents of a version's directory. It is "sha256:" and the
// SHA-256, in hexadecimal, of one line for each regular file,
//
//	SHA-256 of its contents in lower-case hexadecimal, two spaces, path, NUL
//
// where path is relative to dir, with "/" between its parts. The lines are sorted by the bytes of
// path. Digest follows symbolic links to files and folders, and skips names that begin with "..".
// So a Kubernetes volume, where files are links into "..data", has the digest of the plain folder.
// Times, modes and empty folders do not count. The same from a shell:
//
//	cd DIR && find -L . -name '..?*' -prune -o -type f -printf '%P\0' |
//	  LC_ALL=C sort -z | xargs -0 sha256sum -z -- | sha256sum
//
// Digest reads every byte, which takes a while for a large model. If a file changes meanwhile, the
// digest is that of no version. Digest stops when ctx ends.
func Digest(ctx context.Context, dir string) (string, error) {
	return digest(ctx, dir, func(string) bool { return true })
}

// WeightsDigest returns the digest that Digest would return for a directory with nothing but the
// graph and the weights of dir: saved_model.pb and variables/. It does not change with labels,
// settings or golden images.
func WeightsDigest(ctx context.Context, dir string) (string, error) {
	return digest(ctx, dir, func(path string) bool {
		return path == graphFile || strings.HasPrefix(path, "variables/")
	})
}

// digest returns the digest of those files of dir whose path counts.
func digest(ctx context.Context, dir string, counts func(path string) bool) (string, error) {
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
		if !counts(f.Path) {
			continue
		}
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

// A File is a regular file of a version, or the target of a link.
type File struct {
	Path string `json:"path"` // below the version's directory, with "/"
	Size int64  `json:"size"` // bytes
}

// Files lists the files of a version that Digest covers.
func Files(dir string) ([]File, error) { return listFiles(dir, "") }

// listFiles lists the regular files below dir/start, sorted by path. It follows links and skips
// names as Digest does.
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
					return fmt.Errorf("%s: the link leads to a folder that contains it", p)
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
