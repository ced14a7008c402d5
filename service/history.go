package service

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/service/internal/history"
	"inceptor/service/page"
)

// A pageHistory is what the page shows of the last minutes. The zero value is ready to use.
type pageHistory struct {
	samples  history.Samples  // safe for concurrent use
	timeline history.Timeline // the same
	problems problemLog       // guarded by looking

	// Held from a look at the versions until it is noted: noted in another order, a swap would
	// seem to be taken back.
	looking sync.Mutex
}

// lookEvery is how often remember looks at the versions and problems.
const lookEvery = time.Second

// remember keeps the history up to date until ctx ends.
func (s *Service) remember(ctx context.Context) {
	look, sample := time.NewTicker(lookEvery), time.NewTicker(page.SampleEvery)
	defer look.Stop()
	defer sample.Stop()
	counts := s.metrics.counts()
	s.history.samples.Add(time.Now(), counts(), 0, 0)
	for {
		select {
		case <-look.C:
			s.look(time.Now())
		case <-sample.C:
			p50, p99 := s.metrics.records.latency.Take()
			s.history.samples.Add(time.Now(), counts(), p50, p99)
		case <-ctx.Done():
			return
		}
	}
}

// look notes which versions and problems there are, and returns them.
func (s *Service) look(now time.Time) ([]model.Status, []page.Problem) {
	s.history.looking.Lock()
	defer s.history.looking.Unlock()
	versions := versionsOf(s.versions)
	s.history.timeline.Update(versions, now)
	return versions, s.history.problems.update(s.problems(versions), now)
}

// counts returns a function that reads the metrics which samples are made of.
func (m *Metrics) counts() func() history.Counts {
	own := prometheus.NewRegistry() // gathers these alone
	own.MustRegister(m.records.records, m.batches)
	return func() history.Counts {
		c := history.Counts{DeadLetters: map[string]float64{}, Lag: m.stream.of.lag()}
		families, err := own.Gather()
		if err != nil {
			return c
		}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				if runs := metric.GetHistogram(); runs != nil {
					c.Runs, c.Images = float64(runs.GetSampleCount()), runs.GetSampleSum()
					continue
				}
				n := metric.GetCounter().GetValue()
				c.Records += n
				for _, label := range metric.GetLabel() {
					if label.GetName() == "reason" && label.GetValue() != "" {
						c.DeadLetters[label.GetValue()] += n
					}
				}
			}
		}
		return c
	}
}
