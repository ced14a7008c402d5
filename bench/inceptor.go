package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An inceptor is the service as a process.
type inceptor struct {
	cmd     *exec.Cmd
	started time.Time
	gone    chan struct{}

	mu  sync.Mutex
	log bytes.Buffer // JSON, a line for each event
}

// Write implements io.Writer, for the process's standard error.
func (p *inceptor) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func startInceptor(binary, broker string, args []string) (*inceptor, error) {
	p := &inceptor{gone: make(chan struct{})}
	p.cmd = exec.Command(binary, append([]string{
		"run", "--log.format", "json", "--kafka.brokers", broker, "--model.dir", modelDir, "--http.listen", "127.0.0.1:0",
	}, args...)...)
	p.cmd.Stderr = p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.gone)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

func (p *inceptor) pid() int { return p.cmd.Process.Pid }

func (p *inceptor) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.gone
}

// stop ends the service in order.
func (p *inceptor) stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.gone:
	case <-time.After(30 * time.Second):
		return errors.New("inceptor does not stop")
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("inceptor: %v\n%s", p.cmd.ProcessState, p.output())
	}
	return nil
}

func (p *inceptor) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// An event is a line of the log.
type event struct {
	Time    time.Time
	Msg     string
	Address string        // of "listening"
	Took    time.Duration // of "passed its gates"
}

// event finds the first one with this message.
func (p *inceptor) event(msg string) (event, bool) {
	for line := range strings.Lines(p.output()) {
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Msg == msg {
			return e, true
		}
	}
	return event{}, false
}

// metrics reads those that have no labels.
func (p *inceptor) metrics(ctx context.Context) (map[string]float64, error) {
	e, ok := p.event("listening")
	if !ok {
		return nil, errors.New("inceptor does not say where it listens")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Address+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	return values, nil
}
