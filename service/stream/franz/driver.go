package franz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/outage"
	"inceptor/service/stream/internal/wire"
)

const (
	// commitTimeout bounds the last commit of a drained partition, or of a stop.
	commitTimeout = 5 * time.Second

	// rebalanceMargin is the time that a drained member has for its last commit
	// and for joining again. After it the group goes on without the member.
	rebalanceMargin = commitTimeout + 5*time.Second

	// leaveTimeout bounds leaving the group, which spares the other members the
	// session timeout. A lost broker must not hold a stop back.
	leaveTimeout = 3 * time.Second
)

// Transaction bounds transactions.
type Transaction struct {
	// Interval is how long outputs may wait for their commit. A transaction
	// ends earlier if nothing else is in flight, or with Records.
	Interval time.Duration
	// Records is how many input records one transaction covers. A run of
	// records that end together may exceed it by a window.
	Records int
	// Timeout is how long after the end of a process the broker aborts the
	// process's transaction. By default the broker checks every ten seconds.
	Timeout time.Duration
	// ID is the transactional id. Each process needs its own, and the same one
	// after a restart: then the transaction of a killed process ends at once,
	// and not after Timeout. Empty: the group, the machine's name and a number.
	ID string
}

// A Driver reads topics, and delivers exactly once or at least once.
type Driver struct {
	// Set once, and safe for concurrent use.
	cfg     stream.Config
	limits  *Transaction // nil: at least once
	outages *outage.Log
	worker  *flight.Worker
	conns   *wire.Connections // what all sessions know of the brokers
	budget  *flight.Budget

	// What a session learns and the next one needs. Safe for concurrent use.
	positions positions
	byName    atomic.Bool // brokers do not check topic ids in fetches

	stalls map[stream.Partition]int64 // the offset at which inputWatch ended a session; of inputWatch

	// Set by tests before Run.
	sessionTimeout time.Duration
	stallTimeout   time.Duration
	hooks          []kgo.Hook
}

// New returns a Driver that delivers exactly once. It checks the configuration
// and does not connect.
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

// NewAtLeastOnce returns a Driver that delivers at least once, without
// transactions. It checks the configuration and does not connect.
func NewAtLeastOnce(cfg stream.Config, h stream.Handler) (*Driver, error) {
	checked, err := cfg.Checked()
	if err != nil {
		return nil, err
	}
	return newDriver(checked, nil, h), nil
}

func newDriver(cfg stream.Config, limits *Transaction, h stream.Handler) *Driver {
	outages := outage.NewLog(cfg.Log)
	return &Driver{
		cfg:            cfg,
		limits:         limits,
		outages:        outages,
		worker:         flight.NewWorker(h, cfg, outages),
		conns:          wire.NewConnections(cfg),
		budget:         flight.NewBudget(cfg),
		stalls:         map[stream.Partition]int64{},
		sessionTimeout: cfg.Session,
		stallTimeout:   stallTimeout,
	}
}

// Run delivers until ctx ends. Then it drains, commits, leaves the group and
// returns nil. It returns earlier only with an error that cannot pass. A Driver
// runs once.
func (d *Driver) Run(ctx context.Context) error {
	defer d.worker.Await()
	id, held := d.transactionalID()
	defer held.Close()
	operation := "deliver from " + strings.Join(d.cfg.Inputs, ", ")
	pause := retry.NewBackoff(100*time.Millisecond, 2*time.Second)
	everJoined := false
	for {
		joined, err := d.runSession(ctx, operation, id)
		everJoined, err = everJoined || joined, refusedLogin(d.cfg.SASL, err)
		switch {
		case ctx.Err() != nil:
			return nil
		case permanent(err), unauthenticated(err) && !everJoined:
			return explain(d.cfg, err, id, "Read", d.cfg.Inputs...)
		case fenced(err):
			// The transaction has timed out, or another process has our id. With a
			// new id the two do not fence each other again and again.
			id = newID(d.cfg.Group)
			d.cfg.Log.Warn("transactional id fenced; going on with a new one", "id", id, "err", err)
		}
		if joined {
			pause.Reset()
		}
		d.outages.Failed(operation, err)
		if !retry.Sleep(ctx, pause.NextBackOff()) {
			return nil
		}
	}
}

// transactionalID returns the id to begin with, which nobody else takes until it
// is closed. At least once has none.
func (d *Driver) transactionalID() (id string, held io.Closer) {
	switch {
	case d.limits == nil:
		return "", io.NopCloser(nil)
	case d.limits.ID != "":
		return d.limits.ID, io.NopCloser(nil)
	}
	return stableID(d.cfg)
}
