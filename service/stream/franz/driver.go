package franz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

const (
	// commitTimeout bounds the last transaction that a drained partition, or
	// a stop, waits for.
	commitTimeout = 5 * time.Second

	// rebalanceMargin is what a member that has drained has for its last
	// commit and for joining again before the group goes on without it.
	rebalanceMargin = commitTimeout + 5*time.Second

	// Leaving the group is a courtesy that spares the others the session
	// timeout. A lost broker must not make a stop hang on it.
	leaveTimeout = 3 * time.Second
)

// Transaction bounds transactions.
type Transaction struct {
	// Interval is how long outputs may wait for their commit. A transaction
	// ends earlier when nothing else is in flight, or with Records.
	Interval time.Duration
	// Records is how many input records one transaction covers; a run of
	// records that end together may exceed it by a window.
	Records int
	// Timeout is after how long the broker aborts the transaction of a
	// process that is gone. It looks every ten seconds, by default.
	Timeout time.Duration
	// ID is the transactional id: of one process only, and the same after its
	// restart, so that what a killed one left open ends at once, and not
	// after Timeout. Empty: one is made of the group and the machine's name.
	ID string
}

// A Driver reads topics, exactly once or at least once.
type Driver struct {
	cfg     stream.Config
	bound   *Transaction // nil: at least once
	trouble *stream.Trouble
	worker  *stream.Worker
	conns   *stream.Connections // of all sessions, for what they know of the brokers
	budget  *stream.Budget

	positions positions
	byName    atomic.Bool // brokers do not compare topics' ids in fetches

	stalls map[stream.Partition]int64 // the offset at which endStalled has ended a session; of the session's watch

	session time.Duration // shorter in tests
	stalled time.Duration // likewise
	hooks   []kgo.Hook    // of tests
}

// New returns a Driver that delivers exactly once. It checks the configuration;
// it does not connect.
func New(cfg stream.Config, tx Transaction, h stream.Handler) (*Driver, error) {
	checked, err := cfg.Checked()
	errs := []error{err}
	if tx.Interval <= 0 {
		errs = append(errs, fmt.Errorf("transaction interval %v: not positive", tx.Interval))
	}
	if tx.Records < 1 {
		errs = append(errs, fmt.Errorf("transaction of %d records: want at least one", tx.Records))
	}
	if tx.Timeout < time.Second || tx.Timeout < 2*tx.Interval {
		errs = append(errs, fmt.Errorf("transaction timeout %v: want at least 1s, and twice the interval", tx.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return newDriver(checked, &tx, h), nil
}

// NewAtLeastOnce is New for delivery at least once, without transactions.
func NewAtLeastOnce(cfg stream.Config, h stream.Handler) (*Driver, error) {
	checked, err := cfg.Checked()
	if err != nil {
		return nil, err
	}
	return newDriver(checked, nil, h), nil
}

func newDriver(cfg stream.Config, bound *Transaction, h stream.Handler) *Driver {
	trouble := stream.NewTrouble(cfg.Log)
	return &Driver{
		cfg:     cfg,
		bound:   bound,
		trouble: trouble,
		worker:  stream.NewWorker(h, cfg, trouble),
		conns:   stream.NewConnections(cfg),
		session: cfg.Session,
		stalled: stalledAfter,
		stalls:  map[stream.Partition]int64{},
		budget:  stream.NewBudget(cfg),
	}
}

// Run works until ctx ends, then drains, commits, leaves the group and
// returns nil. It returns an error as soon as one occurs that cannot pass. A
// Driver runs once.
func (d *Driver) Run(ctx context.Context) error {
	defer d.worker.Await()
	if d.bound != nil && d.bound.ID == "" {
		id, release := stableID(d.cfg)
		defer release.Close()
		d.bound.ID = id
	}
	operation := "deliver from " + strings.Join(d.cfg.Inputs, ", ")
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	joined := false // once
	for {
		worked, err := d.runSession(ctx, operation)
		joined, err = joined || worked, refusedLogin(d.cfg.SASL, err)
		switch {
		case ctx.Err() != nil:
			return nil
		case permanent(err), unauthenticated(err) && !joined:
			return explain(d.cfg, err, d.transactionalID(), "Read", d.cfg.Inputs...)
		case fenced(err):
			// Timed out, or another process has our id: with one of its own
			// none throws the other out again and again.
			d.bound.ID = newID(d.cfg.Group)
			d.cfg.Log.Warn("the transactional id was taken away, going on with a new one", "id", d.bound.ID, "err", err)
		}
		if worked {
			pause.Reset()
		}
		d.trouble.Failed(operation, err)
		if !sleep(ctx, pause.NextBackOff()) {
			return nil
		}
	}
}

// delivery is how a session delivers.
func (d *Driver) delivery(s *session) delivery {
	if d.bound == nil {
		return &atLeastOnce{session: s, pause: backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 300 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5}}
	}
	return &transactional{session: s}
}

// transactionalID is "" at least once.
func (d *Driver) transactionalID() string {
	if d.bound == nil {
		return ""
	}
	return d.bound.ID
}

// sleep tells whether d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
