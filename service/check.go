package service

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"inceptor/internal/host"
)

// A Finding is what a check has found out about one thing that the service needs.
type Finding struct {
	Status Status `json:"status"`
	Thing  string `json:"thing"`
	Text   string `json:"text"` // what was found and, unless that is good, what to do
}

// A Status says whether the service can work with what was found.
type Status string

// The statuses. With Warn it can, and something is worth knowing. Skip was not tried, because of
// another thing that failed.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Failed returns the finding of an error.
func Failed(thing string, err error) Finding { return Finding{Fail, thing, err.Error()} }

// Skipped returns the finding of something that was not tried.
func Skipped(thing, why string) Finding { return Finding{Skip, thing, "not tried: " + why} }

// CheckMachine tries what the service needs of this machine besides the model: the address of the
// HTTP server, the journal's folder, and the folder with files that records name. It leaves nothing
// behind.
func CheckMachine(c Config) []Finding {
	findings := []Finding{checkListen(c.HTTP.Listen), checkJournal(c.Crash)}
	if root := c.Input.Files.Root; root != "" {
		findings = append(findings, checkRoot(root))
	}
	return findings
}

// checkListen tries to listen.
func checkListen(address string) Finding {
	const thing = "http.listen"
	if address == "" {
		return Finding{OK, thing, "empty: no health checks, metrics and page"}
	}
	l, err := net.Listen("tcp", address)
	var call *os.SyscallError
	var bad *net.OpError
	switch {
	case err == nil:
		_ = l.Close()
		return Finding{OK, thing, address + " is free"}
	case errors.Is(err, syscall.EADDRINUSE):
		return Failed(thing, fmt.Errorf("%s is in use: stop what listens there, perhaps another inceptor, or set http.listen to another address", address))
	case errors.Is(err, syscall.EACCES):
		return Failed(thing, fmt.Errorf("%s: permission denied: set http.listen to a port of at least 1024", address))
	case errors.As(err, &call):
		err = call.Err
	case errors.As(err, &bad):
		err = bad.Err
	}
	return Failed(thing, fmt.Errorf("%s: %w: set http.listen to an address of this machine", address, err))
}

// checkJournal tries to write a journal. A missing folder is made at the start, in its parent.
func checkJournal(c Crash) Finding {
	const thing = "crash.journal"
	dir := c.folder()
	if dir == "" {
		return Finding{OK, thing, "off: a record that crashes the process will crash it again"}
	}
	there, err := journalFolder(dir)
	if err == nil {
		_, err = os.Stat(there)
	}
	for errors.Is(err, fs.ErrNotExist) && there != filepath.Dir(there) {
		there = filepath.Dir(there)
		_, err = os.Stat(there)
	}
	if err == nil {
		err = host.CheckWritable(there, journalBytes)
	}
	switch {
	case err == nil:
		return Finding{OK, thing, dir + " can be written"}
	case errors.Is(err, syscall.ENOSPC):
		err = fmt.Errorf("%s: no space left on device: free %d KiB there, or name another folder in crash.journal", dir, journalBytes>>10+1)
	default:
		err = fmt.Errorf("%w: name a folder that can be written in crash.journal, or set it to off", withPath(dir, err))
	}
	if c.Journal == "" { // the service starts without it, and nobody has asked for it
		return Finding{Warn, thing, err.Error()}
	}
	return Failed(thing, err)
}

// withPath replaces the file that an error names by the path that was configured.
func withPath(path string, err error) error {
	var call *fs.PathError
	if errors.As(err, &call) {
		return fmt.Errorf("%s: %w", path, call.Err)
	}
	return err
}

// checkRoot tries to look for a file.
func checkRoot(dir string) Finding {
	const thing = "input.files.root"
	root, err := os.OpenRoot(dir)
	if err == nil {
		defer func() { _ = root.Close() }()
		if _, err = root.Stat("inceptor-check"); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return Failed(thing, fmt.Errorf("%w: let this user read the folder, or name another one in input.files.root", withPath(dir, err)))
	}
	return Finding{OK, thing, dir + " can be read"}
}
