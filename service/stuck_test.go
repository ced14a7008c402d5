package service

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"inceptor/service/stream"
)

// Each reason for which a partition stands still has one word, and a series of
// its own for as long as it lasts.
func TestStuckReasons(t *testing.T) {
	h := newHandler(t, fakeModel{})
	_, takesNothing := h.refused(record(nil), stream.Record{Topic: "dead", Headers: []stream.Header{header(headerTruncatedKey, "0")}}, errors.New("no"))
	p := stream.Partition{Topic: "in", ID: 3}
	for name, test := range map[string]struct {
		stage stream.Stage
		err   error
		want  string // stage and reason
	}{
		"open transaction":  {stream.Reading, fmt.Errorf("x: %w", stream.ErrOpenTransaction), "reading open-transaction"},
		"unreadable":        {stream.Reading, errors.New("a wrong checksum"), "reading read"},
		"the model":         {stream.Handling, errors.New("no version"), "handling model"},
		"no key":            {stream.Publishing, fmt.Errorf("x: %w", stream.ErrKeyless), "publishing refused"},
		"a time":            {stream.Publishing, fmt.Errorf("x: %w", stream.ErrInvalidTime), "publishing refused"},
		"takes nothing":     {stream.Publishing, errors.Join(errors.New("too large"), takesNothing), "publishing refused"},
		"the broker's side": {stream.Publishing, errors.New("not enough replicas"), "publishing publish"},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMetrics(prometheus.NewRegistry())
			m.Assigned([]stream.Partition{p})
			stage, reason, _ := strings.Cut(test.want, " ")
			series := func(count int) {
				t.Helper()
				if n := testutil.CollectAndCount(m.standing); n != count {
					t.Errorf("%d series, want %d", n, count)
				}
			}
			m.Retrying(p, test.stage, errors.New("something else"))
			m.Retrying(p, test.stage, test.err)
			m.Retrying(p, test.stage, test.err)
			series(1)
			if v := testutil.ToFloat64(m.standing.WithLabelValues("in", "3", stage, reason)); v != 1 {
				t.Errorf("%s: %v, want 1", test.want, v)
			}
			m.Retrying(p, test.stage, nil)
			series(0)
			m.Retrying(p, test.stage, test.err)
			m.Revoked()
			series(0)
		})
	}
}

// What is told of a partition after it was taken away does not stay.
func TestStuckElsewhere(t *testing.T) {
	ours, lost := stream.Partition{Topic: "in", ID: 0}, stream.Partition{Topic: "in", ID: 1}
	for name, tell := range map[string]func(*Metrics){
		"between": func(m *Metrics) {
			m.Retrying(ours, stream.Reading, errors.New("still unknown"))
			m.Retrying(lost, stream.Reading, stream.ErrOpenTransaction)
			m.Assigned([]stream.Partition{ours})
		},
		"after": func(m *Metrics) {
			m.Assigned([]stream.Partition{ours})
			m.Retrying(ours, stream.Reading, errors.New("still unknown"))
			m.Retrying(lost, stream.Reading, stream.ErrOpenTransaction)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMetrics(prometheus.NewRegistry())
			m.Assigned([]stream.Partition{ours, lost})
			m.Revoked()
			tell(m)
			if n, gauge := testutil.CollectAndCount(m.standing), testutil.ToFloat64(m.retrying); n != 1 || gauge != 1 || m.stuck[ours] == nil {
				t.Errorf("%d series, %v partitions stand still, want one: %v", n, gauge, m.stuck)
			}
		})
	}
}
