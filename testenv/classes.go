package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// classArchive is the file with the classes of the broker whose jars are in lib, as the JVM keeps
// them in memory. A broker starts with half the processor time where it exists.
func classArchive(lib string) string { return filepath.Join(filepath.Dir(lib), "classes.jsa") }

// ArchiveClasses writes the archive for the jars in lib: it runs a broker once and stops it.
// Its JVM must be the one that later brokers run in.
func ArchiveClasses(ctx context.Context, lib string) error {
	lib, err := filepath.EvalSymlinks(lib)
	if err != nil {
		return err
	}
	archive := classArchive(lib)
	if err := os.Remove(archive); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir, err := os.MkdirTemp("", "kafka-classes")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	k, err := newKafka(lib, dir, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	k.flags = []string{"-XX:ArchiveClassesAtExit=" + archive}
	if err := k.Restart(ctx); err != nil {
		return err
	}
	defer k.Kill()
	if err := k.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select { // the JVM writes the archive when it ends
	case <-k.gone:
	case <-time.After(startLimit):
	}
	if !exists(archive) {
		out, _ := os.ReadFile(k.log())
		return fmt.Errorf("the JVM has not written %s:\n%s", archive, out[max(0, len(out)-4000):])
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
