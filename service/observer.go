package service

import (
	"context"
	"log/slog"
	"time"

	"inceptor/service/internal/recent"
	"inceptor/service/internal/thumbnail"
	"inceptor/service/stream"
)

// An observer implements stream.Observer: it hands on what the driver tells to
// each part of the service that needs it. All other calls go to the metrics alone.
type observer struct {
	*streamMetrics
	ready   *readiness
	journal *journal
	recent  *recent.Records
	// Nil: there are none.
	thumbnails *thumbnail.Maker

	drain drainCheck
}

// Assigned implements stream.Observer.
func (o observer) Assigned(partitions []stream.Partition) {
	o.journal.assign(partitions)
	o.ready.setAssigned(partitions)
	o.drain.assigned(len(partitions))
}

// Revoked implements stream.Observer.
func (o observer) Revoked() {
	o.ready.revoked()
	o.streamMetrics.Revoked()
}

// Committed implements stream.Observer.
func (o observer) Committed(partition stream.Partition, next, lag int64) {
	o.journal.committed(partition, next)
	o.recent.Committed(partition, next)
	o.streamMetrics.Committed(partition, next, lag)
}

// Delivered implements stream.Observer.
func (o observer) Delivered(partition stream.Partition, first, last int64) {
	o.recent.Delivered(partition, first, last)
}

// Reset implements stream.Observer.
func (o observer) Reset(r stream.Reset) {
	reused := r.Reason != stream.OutOfRange // its offsets, for other records
	o.recent.Moved(r.Partition, reused)
	if reused {
		o.thumbnails.Forget(r.Partition)
	}
	o.streamMetrics.Reset(r)
}

// Retrying implements stream.Observer.
func (o observer) Retrying(partition stream.Partition, stage stream.Stage, err error) {
	o.ready.retrying(partition, stage, err)
}

// Authentication implements stream.Observer.
func (o observer) Authentication(err error) { o.ready.authentication(err) }

// A drainCheck tells when so many partitions are assigned that their records in
// flight cannot be answered within shutdown.timeout: those that are left at a
// rebalance or a stop are read again.
type drainCheck struct {
	window    int                  // records in flight of a partition, at most
	timeout   time.Duration        // shutdown.timeout
	level     slog.Level           // of the line
	imageTook func() time.Duration // how long the serving version takes for one image; 0: not known
	log       *slog.Logger
}

// usualShutdown is the default of shutdown.timeout.
const usualShutdown = 20 * time.Second

// newDrainCheck returns a drainCheck that warns of what somebody has configured. With the defaults,
// reading again is what is meant, and nothing to warn of.
func newDrainCheck(c Config, imageTook func() time.Duration, log *slog.Logger) drainCheck {
	d := drainCheck{c.window().Records, c.Shutdown.Timeout, slog.LevelWarn, imageTook, log}
	if c.Kafka.Window.Records == 0 && c.Shutdown.Timeout >= usualShutdown {
		d.level = slog.LevelDebug
	}
	return d
}

func (d drainCheck) assigned(partitions int) {
	if partitions == 0 {
		d.log.Info("no partition is assigned: the group has more members than the inputs have partitions; standing by until one leaves")
	}
	if need := time.Duration(partitions*d.window) * d.imageTook(); need > d.timeout {
		d.log.Log(context.Background(), d.level, "records in flight may not be answered within shutdown.timeout, and would be read again after a rebalance or stop; "+
			"raise it, or lower kafka.window.records",
			"partitions", partitions, "kafka.window.records", d.window, "takes", need.Round(time.Second), "shutdown.timeout", d.timeout)
	}
}
