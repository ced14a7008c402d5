package service

import (
	"log/slog"
	"time"

	"inceptor/service/stream"
)

// drainCheck is Metrics, and warns when so many partitions are assigned that
// what they have in flight cannot be answered within shutdown.timeout: what is
// left at a rebalance or a stop comes again.
type drainCheck struct {
	*Metrics
	config Config
	log    *slog.Logger
}

// Assigned implements stream.Observer.
func (d drainCheck) Assigned(partitions []stream.Partition) {
	d.Metrics.Assigned(partitions)
	if len(partitions) == 0 {
		d.log.Info("no partition is assigned: the group has more members than the inputs have partitions; standing by until one leaves")
	}
	window := d.config.window().Records
	each := time.Duration(d.imageTook.Load()) // zero: not known, as that of a model server
	if need, have := time.Duration(len(partitions)*window)*each, d.config.Shutdown.Timeout; need > have {
		d.log.Warn("what is in flight may not be answered within shutdown.timeout, and would come again after a rebalance or stop; raise it, or lower kafka.window.records",
			"partitions", len(partitions), "kafka.window.records", window, "takes", need.Round(time.Second), "shutdown.timeout", have)
	}
}
