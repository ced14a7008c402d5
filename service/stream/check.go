package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Checked returns the configuration with defaults for what is left out, or every problem with it at
// once.
func (c Config) Checked() (Config, error) {
	if err := errors.Join(c.problems()...); err != nil {
		return Config{}, err
	}
	if c.Session == 0 {
		c.Session = defaultSession
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 32 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = Unobserved{}
	}
	if c.ReplaceRefused == nil {
		c.ReplaceRefused = func(_, _ Record, _ error) (Record, error) {
			return Record{}, errors.New("nothing can be published in its place")
		}
	}
	return c, nil
}

// problems returns what is missing and what is out of bounds.
func (c Config) problems() (errs []error) {
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		problem("no brokers")
	}
	if c.Group == "" {
		problem("no consumer group")
	}
	if len(c.Inputs) == 0 {
		problem("no input topics")
	}
	if len(c.Outputs) == 0 {
		problem("no output topics")
	}
	if c.Window.Records < 1 || c.Window.Bytes < 0 {
		problem("window of %d records and %d bytes: want at least one record", c.Window.Records, c.Window.Bytes)
	}
	if c.Session < 0 {
		problem("session of %v: negative", c.Session)
	}
	if c.TotalBytes < 0 {
		problem("%d bytes for all partitions: negative", c.TotalBytes)
	}
	if c.BatchBytes < 0 {
		problem("batches of %d bytes: negative", c.BatchBytes)
	}
	if c.ReplaceUnread == nil {
		problem("nothing to publish in place of a batch that is not read")
	}
	if c.DrainTimeout < 0 {
		problem("drain timeout %v: negative", c.DrainTimeout)
	}
	if !slices.Contains([]string{"", "none", "gzip", "snappy", "lz4", "zstd"}, c.Compression) {
		problem("compression %q: want none, gzip, snappy, lz4 or zstd", c.Compression)
	}
	if !slices.Contains([]string{"", Plain, ScramSHA256, ScramSHA512, OAuthBearer}, c.SASL.Mechanism) {
		problem("SASL mechanism %q: want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", c.SASL.Mechanism)
	}
	if c.SASL.Mechanism != "" && c.SASL.Login == nil {
		problem("SASL mechanism %s: nothing to log in with", c.SASL.Mechanism)
	}
	return errs
}

// defaultSession is the least that brokers allow by default, so that the partitions of a process
// that is gone wait no longer than they must.
const defaultSession = 6 * time.Second

// Unobserved is an Observer that does nothing.
type Unobserved struct{}

// Assigned implements Observer.
func (Unobserved) Assigned([]Partition) {}

// Revoked implements Observer.
func (Unobserved) Revoked() {}

// InFlight implements Observer.
func (Unobserved) InFlight(Partition, int, int64) {}

// Buffered implements Observer.
func (Unobserved) Buffered(int64, int) {}

// Published implements Observer.
func (Unobserved) Published(int, time.Duration) {}

// Delivered implements Observer.
func (Unobserved) Delivered(Partition, int64, int64) {}

// Acknowledged implements Observer.
func (Unobserved) Acknowledged(Record) {}

// Committed implements Observer.
func (Unobserved) Committed(Partition, int64, int64) {}

// Retrying implements Observer.
func (Unobserved) Retrying(Partition, Stage, error) {}

// Reset implements Observer.
func (Unobserved) Reset(Reset) {}

// Authentication implements Observer.
func (Unobserved) Authentication(error) {}
