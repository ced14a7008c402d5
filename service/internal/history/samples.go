package history

import (
	"maps"
	"sync"
	"time"

	"inceptor/service/page"
)

// Counts are counters and gauges at a moment. Counters only grow.
type Counts struct {
	Records      float64            // handled so far
	DeadLetters  map[string]float64 // so far, by reason
	Runs, Images float64            // of the model so far
	Lag          int64              // now; negative: not known
}

// Samples are the samples of the last page.SampleSpan. Safe for concurrent use.
type Samples struct {
	mu     sync.Mutex // guards the rest
	before Counts
	at     time.Time // of before; zero: there is none
	list   []page.Sample
}

// Add takes the counts at a moment, and the latencies since the one before: a sample is the
// difference.
func (s *Samples) Add(at time.Time, now Counts, p50, p99 time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, since := s.before, at.Sub(s.at).Seconds()
	first := s.at.IsZero()
	s.before, s.at = now, at
	s.before.DeadLetters = maps.Clone(now.DeadLetters)
	if first || since <= 0 {
		return
	}
	sample := page.Sample{
		At: at, Records: (now.Records - before.Records) / since, Lag: now.Lag,
		P50: page.Milliseconds(p50), P99: page.Milliseconds(p99),
	}
	if runs := now.Runs - before.Runs; runs > 0 {
		sample.Batch = (now.Images - before.Images) / runs
	}
	for reason, n := range now.DeadLetters {
		if n -= before.DeadLetters[reason]; n > 0 {
			if sample.DeadLetters == nil {
				sample.DeadLetters = map[string]float64{}
			}
			sample.DeadLetters[reason] = n / since
		}
	}
	const most = int(page.SampleSpan / page.SampleEvery)
	if len(s.list) >= most {
		s.list = append(s.list[:0], s.list[len(s.list)-most+1:]...)
	}
	s.list = append(s.list, sample)
}

// List returns the samples, oldest first. They must not be changed.
func (s *Samples) List() []page.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]page.Sample(nil), s.list...)
}
