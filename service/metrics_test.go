package service

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/stream"
)

// The latency of a record counts from its own time, unless that cannot be.
func TestEndToEnd(t *testing.T) {
	for name, test := range map[string]struct {
		recordTime time.Time
		left       string  // the reason for which it is left out
		want       float64 // seconds
	}{
		"just now":                  {recordTime: time.UnixMilli(2e12 - 1500), want: 1.5},
		"weeks ago":                 {recordTime: time.UnixMilli(2e12).AddDate(0, 0, -14), want: 14 * 24 * 3600},
		"a clock that is ahead":     {recordTime: time.UnixMilli(2e12 + 900), want: 0},
		"a clock that is far ahead": {recordTime: time.UnixMilli(2e12 + 1100), left: "future"},
		"the end of time":           {recordTime: time.UnixMilli(1<<62 - 1), left: "future"},
		"seconds as milliseconds":   {recordTime: time.UnixMilli(2e9), left: "old"},
		"no time":                   {recordTime: time.UnixMilli(-1), left: "no-time"},
		"no time at all":            {left: "no-time"},
	} {
		t.Run(name, func(t *testing.T) {
			r := prometheus.NewRegistry()
			e := newEndToEnd(r)
			e.observe(test.recordTime, time.UnixMilli(2e12))
			families, err := r.Gather()
			if err != nil {
				t.Fatal(err)
			}
			left, seconds, count := "", 0.0, uint64(0)
			for _, family := range families {
				for _, m := range family.GetMetric() {
					if h := m.GetHistogram(); h != nil {
						seconds, count = h.GetSampleSum(), h.GetSampleCount()
					} else if m.GetCounter().GetValue() == 1 {
						left = m.GetLabel()[0].GetValue()
					}
				}
			}
			if left != test.left || seconds != test.want || count == 1 == (left != "") {
				t.Errorf("got %q, %d of %v s; want %q, %v s", left, count, seconds, test.left, test.want)
			}
		})
	}
}

func BenchmarkEndToEnd(b *testing.B) {
	m, r := NewMetrics(prometheus.NewRegistry()).stream, stream.Record{Time: time.Now().Add(-time.Second)}
	b.ReportAllocs()
	for b.Loop() {
		m.Acknowledged(r)
	}
}

// Series that an alert watches are there before their first event: all that the help names.
func TestSeriesBeforeEvents(t *testing.T) {
	r := prometheus.NewRegistry()
	NewMetrics(r).stream.inputs([]string{"in"})
	r.MustRegister(NewModelInfo(shadowed{}))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{} // the series, by the metric
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := m.GetLabel()
			last := labels[max(0, len(labels)-1):]
			if family.GetName() == "inceptor_skipped_records_total" || family.GetName() == "inceptor_repeated_records_total" {
				last = labels[:1] // the reason; the other is the topic
			}
			for _, l := range last {
				got[family.GetName()] += fmt.Sprintf("%s %v, ", l.GetValue(), m.GetCounter().GetValue()+m.GetGauge().GetValue())
			}
		}
	}
	for name, want := range map[string]string{
		"inceptor_model_load_failures_total": "agreement 0, complete 0, golden 0, load 0, memory 0, read 0, signature 0, timeout 0, warm-up 0, ",
		"inceptor_model_rollbacks_total":     "by-hand 0, crash 0, errors 0, hangs 0, slow 0, ",
		"inceptor_records_total":             " 0, crashed 0, ",
		"inceptor_skipped_records_total":     "out-of-range 0, recreated 0, ",
		"inceptor_repeated_records_total":    "beyond-end 0, expired 0, recreated 0, ",
		"inceptor_model_rollout":             "canary 0, shadow 1, ",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

// The time in which fetching waits counts once, however many partitions wait,
// and while it lasts.
func TestFetchWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics(prometheus.NewRegistry()).stream
		for _, step := range []struct {
			waiting int
			lasts   time.Duration
			want    time.Duration // in all, at its end
		}{
			{0, time.Second, 0},
			{1, 2 * time.Second, 2 * time.Second},
			{3, 2 * time.Second, 4 * time.Second},
			{0, 5 * time.Second, 4 * time.Second},
			{2, time.Second, 5 * time.Second},
		} {
			m.Buffered(1, step.waiting)
			time.Sleep(step.lasts)
			if got := m.fetchWaited(); got != step.want {
				t.Errorf("%d wait: %v, want %v", step.waiting, got, step.want)
			}
		}
	})
}
