package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/page"
	"inceptor/service/stream"
)

// Each reason for which a partition is stuck has one word, and a series of
// its own for as long as it lasts.
func TestStuckReasons(t *testing.T) {
	h := newHandler(t, fakeModel{})
	_, takesNothing := h.replaceRefused(record(nil), stream.Record{Topic: "dead", Headers: []stream.Header{header(headerTruncatedKey, "0")}}, errors.New("no"))
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
		"the group":         {stream.Committing, errors.New("no coordinator"), "committing commit"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReadiness()
			r.setAssigned([]stream.Partition{p})
			stage, reason, _ := strings.Cut(test.want, " ")
			series := func(want ...string) {
				t.Helper()
				if got := stuckSeries(t, r); !slices.Equal(got, want) {
					t.Errorf("series %q, want %q", got, want)
				}
			}
			r.retrying(p, test.stage, errors.New("something else"))
			r.retrying(p, test.stage, test.err)
			r.retrying(p, test.stage, test.err)
			series("in 3 " + stage + " " + reason + " 1")
			r.retrying(p, test.stage, nil)
			series()
			r.retrying(p, test.stage, test.err)
			r.revoked()
			series()
		})
	}
}

// stuckSeries are the values of the labels of inceptor_stuck_partition, and its values.
func stuckSeries(t *testing.T, r *readiness) (series []string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "inceptor_stuck_partition" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			series = append(series, fmt.Sprint(labels["topic"], " ", labels["partition"], " ", labels["stage"], " ", labels["reason"], " ", m.GetGauge().GetValue()))
		}
	}
	return series
}

// What is told of a partition after it was taken away does not stay.
func TestStuckElsewhere(t *testing.T) {
	ours, lost := stream.Partition{Topic: "in", ID: 0}, stream.Partition{Topic: "in", ID: 1}
	for name, tell := range map[string]func(*readiness){
		"between": func(r *readiness) {
			r.retrying(ours, stream.Reading, errors.New("still unknown"))
			r.retrying(lost, stream.Reading, stream.ErrOpenTransaction)
			r.setAssigned([]stream.Partition{ours})
		},
		"after": func(r *readiness) {
			r.setAssigned([]stream.Partition{ours})
			r.retrying(ours, stream.Reading, errors.New("still unknown"))
			r.retrying(lost, stream.Reading, stream.ErrOpenTransaction)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReadiness()
			r.setAssigned([]stream.Partition{ours, lost})
			r.revoked()
			tell(r)
			if got, want := stuckSeries(t, r), []string{"in 0 reading read 1"}; !slices.Equal(got, want) || len(r.stuck) != 1 {
				t.Errorf("series %q, want %q: %v", got, want, r.stuck)
			}
		})
	}
}

// A partition whose commits fail is told, and the process stays ready: it answers.
func TestCommitsFail(t *testing.T) {
	r, p := newReadiness(), stream.Partition{Topic: "in", ID: 3}
	r.setAssigned([]stream.Partition{p})
	r.retrying(p, stream.Committing, errors.New("no coordinator"))
	if report := r.report(nil); !report.Ready || report.Retrying["in-3"] != "no coordinator" {
		t.Errorf("commits fail: %+v", report)
	}
	list := situation{ready: r.report(nil), stuck: r.stuckPartitions()}.problems()
	if len(list) != 1 || list[0].Severity != page.SeverityWarning || !strings.Contains(list[0].Mend, "__consumer_offsets") {
		t.Errorf("problems: %+v", list)
	}
	r.retrying(p, stream.Publishing, errors.New("no broker"))
	if report := r.report(nil); report.Ready || report.Retrying["in-3"] != "no broker; no coordinator" {
		t.Errorf("nothing is published: %+v", report)
	}
	r.retrying(p, stream.Publishing, nil)
	r.retrying(p, stream.Committing, nil)
	if report := r.report(nil); !report.Ready || len(report.Retrying) > 0 {
		t.Errorf("recovered: %+v", report)
	}
}
