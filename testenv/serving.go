package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A Serving is a model server with TensorFlow Serving's gRPC interface, on Python TensorFlow: a
// process with a port of its own on 127.0.0.1. See serving.py. It is not for concurrent use.
type Serving struct {
	// Set once.
	command []string
	log     string // file

	addr   string // its port is chosen at the first start
	python *exec.Cmd
	stdin  io.Closer
	gone   chan struct{} // closed when python has ended
}

// RunServing serves every version in the base directory dir under a name, and waits until the
// server answers. Root is the checkout. Options are those of serving.py. The log goes to a file.
// Kill ends the server, and so does the end of this process.
func RunServing(ctx context.Context, root, log, name, dir string, options ...string) (*Serving, error) {
	python := filepath.Join(root, ".tools/venv/bin/python")
	s := &Serving{addr: "127.0.0.1:0", log: log}
	s.command = append([]string{python, "-B", filepath.Join(root, "testenv/serving.py"), "--name", name, "--base", dir}, options...)
	return s, s.Restart(ctx)
}

// Addr returns the address for clients, host:port.
func (s *Serving) Addr() string { return s.addr }

// Pid returns the process id.
func (s *Serving) Pid() int { return s.python.Process.Pid }

// Kill ends the server like kill -9.
func (s *Serving) Kill() {
	if s.python == nil {
		return
	}
	_ = s.python.Process.Kill() // it may have ended by itself
	<-s.gone
	_ = s.stdin.Close()
	s.python = nil
}

// Signal sends a signal to the process.
func (s *Serving) Signal(signal syscall.Signal) error { return s.python.Process.Signal(signal) }

// Restart starts a killed server again at its old address, and waits until it answers. A server
// that does not answer is killed.
func (s *Serving) Restart(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	_, port, _ := strings.Cut(s.addr, ":")
	command := slices.Concat(s.command, []string{"--port", port})
	python, gone := exec.Command(command[0], command[1:]...), make(chan struct{})
	python.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	python.Stderr = log
	stdin, err := python.StdinPipe() // the server ends when this is closed
	if err != nil {
		return err
	}
	stdout, err := python.StdoutPipe()
	if err != nil {
		return err
	}
	if err := python.Start(); err != nil {
		return err
	}
	s.python, s.stdin, s.gone = python, stdin, gone
	firstLine := make(chan string, 1)
	go func() {
		defer close(gone)
		line, _ := bufio.NewReader(stdout).ReadString('\n') // empty if the server ends
		firstLine <- line
		_ = python.Wait() // how it ended is in its log
	}()

	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("it prints no address"))
	defer cancel()
	select {
	case line := <-firstLine:
		_, err = fmt.Sscanf(line, "listening %s", &port)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		s.Kill()
		out, _ := os.ReadFile(s.log)
		return fmt.Errorf("the model server does not start: %w\n%s", err, out[max(0, len(out)-4000):])
	}
	s.addr = "127.0.0.1:" + port
	return nil
}
