package franz

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"inceptor/service/stream"
)

// A partition is held back when it has waited for long enough for an open
// transaction.
func TestOpenWait(t *testing.T) {
	type look struct {
		at                 time.Duration
		stable, high, next int64
		held               bool
	}
	for name, looks := range map[string][]look{
		"no transaction":       {{0, 10, 10, 10, false}, {time.Minute, 10, 10, 10, false}},
		"a short one":          {{0, 10, 12, 10, false}, {2 * time.Second, 10, 12, 10, false}, {4 * time.Second, 12, 12, 12, false}},
		"a long one":           {{0, 10, 12, 10, false}, {2 * time.Second, 10, 15, 10, false}, {4 * time.Second, 10, 20, 10, true}, {time.Minute, 10, 20, 10, true}},
		"after an idle while":  {{0, 10, 10, 10, false}, {time.Minute, 10, 12, 10, false}, {62 * time.Second, 10, 12, 10, false}, {64 * time.Second, 10, 12, 10, true}},
		"one after the other":  {{0, 10, 12, 10, false}, {3 * time.Second, 12, 15, 12, false}, {6 * time.Second, 15, 18, 15, false}, {9 * time.Second, 18, 20, 18, false}},
		"still reading":        {{0, 10, 12, 3, false}, {4 * time.Second, 10, 12, 7, false}, {8 * time.Second, 10, 12, 10, false}, {12 * time.Second, 10, 12, 10, true}},
		"aborted ones before":  {{0, 10, 12, 7, false}, {4 * time.Second, 10, 12, 7, true}},
		"it ends, and another": {{0, 10, 12, 10, false}, {4 * time.Second, 10, 12, 10, true}, {6 * time.Second, 12, 14, 12, false}, {10 * time.Second, 12, 14, 12, true}},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			var w openWait
			for _, l := range looks {
				now := begin.Add(l.at)
				if w = w.update(now, l.stable, l.high, l.next); w.long(now) != l.held {
					t.Errorf("after %v: held %v", l.at, !l.held)
				}
			}
		})
	}
}

// The error says what is known of an open transaction, and what to do.
func TestOpenTransaction(t *testing.T) {
	bare := openTransaction{partition: stream.Partition{Topic: "in", ID: 3}, first: 100}
	known := bare
	known.known, known.producer = true, kadm.DescribedProducer{ProducerID: 4000, ProducerEpoch: 2, LastTimestamp: 1_790_000_000_000}
	ongoing := known
	ongoing.ongoing, ongoing.txn = true, kadm.DescribedTransaction{TxnID: "etl-7", StartTimestamp: 1_789_999_940_000, TimeoutMillis: 60_000}
	ended := known
	ended.ended = true
	forbidden := bare
	forbidden.err = errors.New("TOPIC_AUTHORIZATION_FAILED")
	const abort = "abort --topic in --partition 3 --start-offset 100"
	for name, test := range map[string]struct {
		txn  openTransaction
		want []string
		not  string
	}{
		"nothing is known":   {bare, []string{"in-3 from offset 100", "find-hanging", abort}, "producer id"},
		"the producer":       {known, []string{"producer id 4000, epoch 2, wrote to it last at 2026-09-21T", abort}, "began"},
		"the transaction":    {ongoing, []string{"transaction etl-7 began at 2026-09-21T", "timeout of 1m0s"}, "abort"},
		"a hanging one":      {ended, []string{"may hang", abort}, "began"},
		"without permission": {forbidden, []string{abort, "the broker does not say whose: TOPIC_AUTHORIZATION_FAILED"}, "producer id"},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.txn.Error()
			for _, w := range test.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q does not tell %q", got, w)
				}
			}
			if strings.Contains(got, test.not) {
				t.Errorf("%q tells %q", got, test.not)
			}
			if !errors.Is(test.txn, stream.ErrOpenTransaction) {
				t.Error("it is not ErrOpenTransaction")
			}
		})
	}
}
