package flight

import (
	"errors"
	"fmt"

	"inceptor/service/stream"
)

// maxReplacements is how many replacements for one output are tried in a row. Then the partition
// waits.
const maxReplacements = 5

// An Output is one record to publish and the one that caused it. One goroutine uses it at a time.
type Output struct {
	Source, Record stream.Record
	original       stream.Record // first one for the topic of Record
	replacements   int           // since original was last tried
}

// NewOutput returns the output record that source has caused.
func NewOutput(source, record stream.Record) Output {
	return Output{Source: source, Record: record, original: record}
}

// Replace replaces the record, which was refused for that reason, by what cfg.ReplaceRefused
// returns. If that is nothing, the error says why, and Replace leaves the record as it is.
func (o *Output) Replace(cfg stream.Config, reason error) error {
	var r stream.Record
	var err error
	if o.replacements < maxReplacements {
		r, err = cfg.ReplaceRefused(o.Source, o.Record, reason)
	} else {
		err = errors.New("its replacements are refused too")
	}
	if err != nil {
		return fmt.Errorf("output of offset %d of %v refused: %w",
			o.Source.Offset, o.Source.Source(), errors.Join(reason, err))
	}
	if r.Topic != o.Record.Topic {
		o.original = r
	}
	o.Record = r
	o.replacements++
	return nil
}

// Restore goes back to the first record for the same topic, to try it anew.
func (o *Output) Restore() { o.Record, o.replacements = o.original, 0 }
