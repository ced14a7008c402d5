package service

import (
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
