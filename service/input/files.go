package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"inceptor/internal/retry"
)

const maxPath = 4096 // bytes, as for the kernel

// errRoot says that the root folder cannot be opened, which no record is to blame for.
var errRoot = errors.New("open input.files.root")

// file reads the file that a record names. It opens the root each time, in case the
// folder was replaced or mounted again.
func (r *Reader) file(ctx context.Context, path string) (Image, error) {
	name, err := r.relative(path)
	if err != nil {
		return Image{}, err
	}
	keep, free, err := r.reserve(ctx)
	if err != nil {
		return Image{}, err
	}
	defer free()
	b, err := backoff.Retry(ctx, func() ([]byte, error) {
		b, err := r.readFile(ctx, name)
		if err != nil && !isTransient(err) {
			return nil, backoff.Permanent(err)
		}
		return b, err
	}, backoff.WithMaxTries(maxTries), backoff.WithBackOff(newBackoff()), backoff.WithMaxElapsedTime(r.config.Fetch.Timeout))
	if err == nil {
		return keep(b, "path:"+name), nil
	}
	if ctx.Err() != nil {
		return Image{}, ctx.Err()
	}
	return Image{}, pathError(name, err)
}

// relative returns a record's path relative to the root. Spaces around the path are
// ignored, like those around a URL.
func (r *Reader) relative(path string) (string, error) {
	path = strings.TrimSpace(path)
	switch {
	case r.root == "":
		return "", refuse(PathNotAllowed, "%s: input.files.root is not set, so no file is read", quote(path))
	case path == "":
		return "", refuse(BadPath, "the path is empty")
	case strings.ContainsRune(path, 0):
		return "", refuse(BadPath, "%s has a NUL byte", quote(path))
	case len(path) > maxPath:
		return "", refuse(BadPath, "the path has more than %d bytes", maxPath)
	case slices.Contains(strings.Split(path, "/"), ".."):
		return "", refuse(PathNotAllowed, `%s has "..", which is refused wherever it leads`, quote(path))
	}
	name := filepath.Clean(path)
	if filepath.IsAbs(name) {
		rel, err := filepath.Rel(r.root, name)
		if err != nil || !filepath.IsLocal(rel) {
			return "", refuse(PathNotAllowed, "%s is not below input.files.root", quote(path))
		}
		name = rel
	}
	if name == "." || strings.HasSuffix(path, "/") {
		return "", refuse(PathNotFile, "%s is a folder", quote(path))
	}
	return name, nil
}

func (r *Reader) readFile(ctx context.Context, name string) ([]byte, error) {
	root, err := os.OpenRoot(r.root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRoot, err)
	}
	defer func() { _ = root.Close() }()
	// Check before opening, because opening a device can have effects. Open without
	// blocking, in case a pipe has replaced the file meanwhile.
	st, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if err := r.checkFile(name, st); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := r.checkFile(name, st); err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(make([]byte, 0, st.Size()+bytes.MinRead))
	cancellable := readerFunc(func(p []byte) (int, error) { // stops between two reads if ctx has ended
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(p)
	})
	if _, err := b.ReadFrom(io.LimitReader(cancellable, int64(r.config.MaxBytes)+1)); err != nil {
		return nil, err
	}
	if err := r.checkSize(int64(b.Len()), "file "+quote(name)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (r *Reader) checkFile(name string, st fs.FileInfo) error {
	if !st.Mode().IsRegular() {
		return refuse(PathNotFile, "%s is a %s", quote(name), fileKind(st.Mode()))
	}
	if st.Size() > int64(r.config.MaxBytes) {
		return r.checkSize(st.Size(), "file "+quote(name))
	}
	return nil
}

func fileKind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "folder"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// isTransient tells whether a fault of a disk or file server may pass within
// seconds.
func isTransient(err error) bool {
	for _, e := range []syscall.Errno{syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT, syscall.EAGAIN, syscall.EINTR, syscall.EBUSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func pathError(name string, err error) error {
	if errors.As(err, new(*Error)) || isLocalFault(err) || errors.Is(err, errRoot) {
		return err
	}
	var errno syscall.Errno
	reason := PathUnreadable
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = PathNotFound
	case !errors.As(err, &errno): // an error of os.Root, not of the kernel
		reason = PathNotAllowed
	case errno == syscall.ENOTDIR:
		reason = PathNotFound // a folder in the path is a file
	case errno == syscall.ENAMETOOLONG:
		reason = BadPath
	case errno == syscall.ELOOP, errno == syscall.ENXIO:
		reason = PathNotFile
	}
	var pe *fs.PathError
	if errors.As(err, &pe) { // whose path is the absolute one
		err = pe.Err
	}
	return refuse(reason, "%s: %w", quote(name), err)
}

// maxTries is how often a record is read, if the fault may pass.
const maxTries = 4

// newBackoff paces the tries.
func newBackoff() backoff.BackOff {
	b := retry.NewBackoff(300*time.Millisecond, 2*time.Second)
	return &b
}
