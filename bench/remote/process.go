package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// How long a process may take to begin, and to answer what it was asked beyond
// the time that it was told to take.
const (
	starting = 2 * time.Minute
	patience = 2 * time.Minute
)

// A process is this program once more, as a client or a server. It tells in
// JSON, a line for each thing: a greeting first, then a reply for each request
// that it reads. Not for concurrent use.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	log  string
	said chan json.RawMessage // closed when it has ended
	addr string               // of a server
}

// start starts a process, which ends with this one at the latest. Its log is
// appended to a file.
func start(log string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{cmd: exec.Command(self, args...), log: log, said: make(chan json.RawMessage, 1)}
	p.cmd.Stderr = file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.said)
		for lines := json.NewDecoder(out); ; {
			var line json.RawMessage
			if lines.Decode(&line) != nil {
				break
			}
			p.said <- line
		}
		_ = p.cmd.Process.Kill() // it has ended, or talks nonsense
		_ = p.cmd.Wait()         // how it ended is in its log
	}()
	return p, nil
}

// startServer starts a server, and waits until it can answer.
func startServer(ctx context.Context, log, signature string, settings []string) (*process, error) {
	p, err := start(log, slices.Concat([]string{"-child=server", "-signature=" + signature, "--"}, settings)...)
	if err != nil {
		return nil, err
	}
	if err := p.hear(ctx, &p.addr, starting); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// Addr is where a server listens, host:port.
func (p *process) Addr() string { return p.addr }

// Pid is the process's number.
func (p *process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the process, and waits for its end.
func (p *process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	for range p.said {       // until it is closed
	}
}

// ask sends a request, and waits for the reply.
func (p *process) ask(ctx context.Context, r request, to *reply, within time.Duration) error {
	if err := json.NewEncoder(p.in).Encode(r); err != nil {
		return p.failed(err)
	}
	return p.hear(ctx, to, within)
}

// hear waits for the next thing that the process tells.
func (p *process) hear(ctx context.Context, to any, within time.Duration) error {
	select {
	case line, ok := <-p.said:
		if !ok {
			return p.failed(errors.New("it has ended"))
		}
		return json.Unmarshal(line, to)
	case <-time.After(within):
		return p.failed(fmt.Errorf("it says nothing for %v", within))
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *process) failed(err error) error {
	out, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s: %w\n%s", p.cmd.Args[1], err, out[max(0, len(out)-4000):])
}
