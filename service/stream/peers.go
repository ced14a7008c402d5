package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// silentAfter is how long a request must have waited for its answer when its
	// deadline passes for the broker to count as silent.
	silentAfter = 2 * time.Second

	// silentFor is how long a silent broker is not dialled, while others that may
	// be asked in its place are not silent.
	silentFor = 10 * time.Second

	// quotaEvery is how often the log tells of a broker's quota.
	quotaEvery = 30 * time.Second
)

// peers is what is known of the brokers. Safe for concurrent use.
type peers struct {
	brokers []string // to start from
	log     *slog.Logger

	mu       sync.Mutex
	failures map[string]failure // by address, until it answers
	pause    time.Time          // the latest end of those that brokers want
	pauses   int                // so far
	told     time.Time          // when the log was told of one
}

// A failure is what was wrong with an address last.
type failure struct {
	err    error
	at     time.Time
	silent bool
}

// avoided is why an address is not dialled now: it was silent a moment ago, and
// another of those to start from was not.
func (p *peers) avoided(address string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	silent := func(address string) bool {
		f := p.failures[address]
		return f.silent && now.Sub(f.at) < silentFor
	}
	if !silent(address) || !slices.ContainsFunc(p.brokers, func(b string) bool { return b != address && !silent(b) }) {
		return nil
	}
	f := p.failures[address]
	return &net.OpError{Op: "dial", Net: "tcp", Addr: host(address), Err: silentError{
		fmt.Errorf("%w, not tried again for %v", f.err, (silentFor - now.Sub(f.at)).Round(time.Second)),
	}}
}

// A silentError is to clients what a dial is that has timed out.
type silentError struct{ error }

// Avoided tells whether an address was not dialled because it was silent a
// moment ago, which has been told then.
func Avoided(err error) bool { return errors.As(err, new(silentError)) }

// Timeout implements net.Error.
func (silentError) Timeout() bool { return true }

// Temporary implements net.Error.
func (silentError) Temporary() bool { return true }

// Unwrap returns what is known.
func (e silentError) Unwrap() error { return e.error }

// A host is an address of a broker.
type host string

// Network implements net.Addr.
func (host) Network() string { return "tcp" }

// String implements net.Addr.
func (h host) String() string { return string(h) }

// failed notes that an address cannot be connected to.
func (p *peers) failed(address string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures[address] = failure{err, time.Now(), errors.Is(err, context.DeadlineExceeded)}
}

// silent notes that an address has not answered for as long as a request waited.
func (p *peers) silent(address string, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures[address] = failure{fmt.Errorf("silent for %v", waited.Round(time.Second)), time.Now(), true}
}

// answered notes that an address has answered.
func (p *peers) answered(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, address)
}

// explain adds to err what each address said that has not answered since.
func (p *peers) explain(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var said []string
	for address, f := range p.failures {
		text := f.err.Error()
		if op := (*net.OpError)(nil); errors.As(f.err, &op) { // it repeats the address
			text = op.Err.Error()
		}
		said = append(said, address+": "+text)
	}
	if len(said) == 0 || err == nil {
		return err
	}
	slices.Sort(said)
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}

// throttled notes that a broker wants a pause, and tells the log, with measure.
func (p *peers) throttled(address, request string, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses++
	now := time.Now()
	if end := now.Add(pause); end.After(p.pause) {
		p.pause = end
	}
	if pause < time.Second || now.Sub(p.told) < quotaEvery {
		return
	}
	p.told = now
	p.log.Warn("a quota is exceeded, waiting before the next request to this broker", "broker", address, "request", request, "pause", pause)
}

// paused is how much of the pauses is still to come.
func (p *peers) paused() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, time.Until(p.pause))
}

func (p *peers) throttledSoFar() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pauses
}
