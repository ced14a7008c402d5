package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A Process is a service that is measured. It keeps the service's output.
type Process struct {
	// Set once.
	Started time.Time
	cmd     *exec.Cmd
	gone    chan struct{} // closed when the process has ended

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

// Start starts a service, which ends with this process.
func Start(name string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(name, args...), gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.Started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.gone)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// Write implements io.Writer, for the output of the process.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// Output returns the output so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.gone
}

// Stop ends the process with SIGTERM and waits for it.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.gone:
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s does not stop", p.cmd.Path)
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return p.ended()
	}
	return nil
}

// While is a context that ends with the process, too.
func (p *Process) While(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-p.gone:
			cancel(p.ended())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (p *Process) ended() error {
	return errors.New(p.cmd.Path + " has ended: " + p.cmd.ProcessState.String() + "\n" + p.Output())
}
