package host

import (
	"errors"
	"os"
)

// CheckWritable returns an error unless a file of this many bytes can be written in a folder. It
// leaves nothing behind.
func CheckWritable(dir string, size int) (err error) {
	f, err := os.CreateTemp(dir, ".inceptor-check-*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err = f.Write(make([]byte, size)); err != nil {
		return err
	}
	return f.Sync() // some file systems only now find that the disk is full
}
