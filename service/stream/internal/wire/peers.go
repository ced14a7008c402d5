package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// silentAfter is how long a request must have waited, when its deadline passes, for the
	// broker to count as silent.
	silentAfter = 2 * time.Second

	// silentFor is how long a silent broker is not dialled, while another one is not silent.
	silentFor = 10 * time.Second

	// rememberFor is how long the error of an address is remembered: the cluster may not have
	// that address any more.
	rememberFor = 10 * time.Minute

	// quotaEvery is the least time between two log lines about quotas.
	quotaEvery = 30 * time.Second
)

// peers remembers which brokers have not answered, and the pauses that they ask for. Safe for
// concurrent use.
type peers struct {
	// Set once.
	brokers []string // to start from
	log     *slog.Logger

	mu       sync.Mutex         // guards the fields below
	failures map[string]failure // by address, until it answers
	pause    time.Time          // the latest end of those that brokers want
	pauses   int                // so far
	loggedAt time.Time          // of the last log line about one
}

// A failure is the last error of an address, and when it occurred.
type failure struct {
	err    error
	at     time.Time
	silent bool
}

// avoided returns an error if an address must not be dialled now: it was silent less than
// silentFor ago, and another broker was not.
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

// A silentError says that a broker was not dialled because it was silent. Clients take it for a
// dial that has timed out.
type silentError struct{ error }

// Avoided tells whether an error says that an address was not dialled because it was silent
// before. The log has its reason already.
func Avoided(err error) bool { return errors.As(err, new(silentError)) }

// Timeout implements net.Error.
func (silentError) Timeout() bool { return true }

// Temporary implements net.Error.
func (silentError) Temporary() bool { return true }

// Unwrap returns the last error of the address.
func (e silentError) Unwrap() error { return e.error }

// A host is an address of a broker.
type host string

// Network implements net.Addr.
func (host) Network() string { return "tcp" }

// String implements net.Addr.
func (h host) String() string { return string(h) }

// failed remembers that an address cannot be connected to. It counts as silent only if it had the
// time to answer: a client may have spent that time on another address.
func (p *peers) failed(address string, err error, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(address, failure{err, time.Now(), waited >= silentAfter && errors.Is(err, context.DeadlineExceeded)})
}

// silent remembers that an address has not answered while a request waited so long.
func (p *peers) silent(address string, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(address, failure{fmt.Errorf("silent for %v", waited.Round(time.Second)), time.Now(), true})
}

// note remembers a failure, and forgets old ones. The caller holds mu.
func (p *peers) note(address string, f failure) {
	maps.DeleteFunc(p.failures, func(_ string, old failure) bool { return f.at.Sub(old.at) > rememberFor })
	p.failures[address] = f
}

// answered remembers that an address has answered.
func (p *peers) answered(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, address)
}

// explain adds to err the last error of each address that has not answered since.
func (p *peers) explain(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var known []string
	for address, f := range p.failures {
		text := f.err.Error()
		if op := (*net.OpError)(nil); errors.As(f.err, &op) { // it repeats the address
			text = op.Err.Error()
		}
		known = append(known, address+": "+text)
	}
	if len(known) == 0 || err == nil {
		return err
	}
	slices.Sort(known)
	return fmt.Errorf("%w (%s)", err, strings.Join(known, "; "))
}

// throttled remembers that a broker asks for a pause, and logs it at most once in quotaEvery.
func (p *peers) throttled(address, request string, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses++
	now := time.Now()
	if end := now.Add(pause); end.After(p.pause) {
		p.pause = end
	}
	if pause < time.Second || now.Sub(p.loggedAt) < quotaEvery {
		return
	}
	p.loggedAt = now
	p.log.Warn("quota exceeded; waiting before the next request to this broker", "broker", address, "request", request, "pause", pause)
}

// paused returns how much of the pauses is left.
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
