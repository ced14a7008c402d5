package service

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

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
