package stream

import "fmt"

// The reasons of a Reset.
const (
	Recreated  = "recreated"    // the topic was deleted and created again
	OutOfRange = "out-of-range" // retention removed records before they were read
	BeyondEnd  = "beyond-end"   // the log ends before the position
	Expired    = "expired"      // the group's offset is gone
)

// A Reset tells that a position is lost, because its offset no longer names the record that was
// due, and where reading goes on.
type Reset struct {
	Partition Partition
	Reason    string
	From, To  int64 // offsets of the record that was due, and of the next one that is read
	Skipped   int64 // records that the broker removed before they were read
	Repeated  int64 // records that may be handled again, at most
}

// A ResetError ends a driver with Config.StopOnReset.
type ResetError struct{ Reset }

// Error implements error.
func (e *ResetError) Error() string {
	return fmt.Sprintf("position of %v is lost (%s): offset %d was due, the first record that can be read is %d, %d records would be skipped and up to %d repeated. "+
		"To go on there, set kafka.on-reset=continue, or set the group's offset with kafka-consumer-groups --reset-offsets and start again",
		e.Partition, e.Reason, e.From, e.To, e.Skipped, e.Repeated)
}
