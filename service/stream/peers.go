package stream

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
	// silentAfter is how long a request must have waited for its answer when its
	// deadline passes for the broker to count as silent.
	silentAfter = 2 * time.Second

	// silentFor is how long a silent broker is not dialled, while others that may
	// be asked in its place are not silent.
	silentFor = 10 * time.Second

	// knownFor is how long it is known of an address what was wrong with it: the
	// cluster may have none of that name any more.
	knownFor = 10 * time.Minute

	// quotaEvery is how often the log tells of a broker's quota.
	quotaEvery = 30 * time.Second
)

// peers remembers which brokers have not answered, and their pauses. Safe for
// concurrent use.
type peers struct {
	brokers []string // to start from
	log     *slog.Logger

	mu       sync.Mutex
	failures map[string]failure // by address, until it answers
	pause    time.Time          // the latest end of those that brokers want
	pauses   int                // so far
	told     time.Time          // when the log was told of one
}

// A failure is the last error of an address.
type failure struct {
	err    error
	at     time.Time
	silent bool
}

// avoided returns an error if an address is not to be dialled now: it was silent
// less than silentFor ago, and another one of brokers was not.
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

// A silentError says that a broker was not dialled because it was silent. To
// clients it is a dial that has timed out.
type silentError struct{ error }

// Avoided tells whether an address was not dialled because it was silent before.
// The log has had the reason already.
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

// failed notes that an address cannot be connected to. It counts as silent if it
// had the time to answer: a client may have spent it on another address.
func (p *peers) failed(address string, err error, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(address, failure{err, time.Now(), waited >= silentAfter && errors.Is(err, context.DeadlineExceeded)})
}

// silent notes that an address has not answered for as long as a request waited.
func (p *peers) silent(address string, waited time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(address, failure{fmt.Errorf("silent for %v", waited.Round(time.Second)), time.Now(), true})
}

// note remembers a failure, and forgets old ones. The caller holds mu.
func (p *peers) note(address string, f failure) {
	maps.DeleteFunc(p.failures, func(_ string, old failure) bool { return f.at.Sub(old.at) > knownFor })
	p.failures[address] = f
}

// answered notes that an address has answered.
func (p *peers) answered(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, address)
}

// explain adds to err the last error of each address that has not answered since.
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

// throttled notes that a broker asks for a pause, and tells the log, at most once
// in quotaEvery.
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
