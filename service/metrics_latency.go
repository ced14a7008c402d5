package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of what is taken for the age of a record.
const (
	maxAge  = 365 * 24 * time.Hour
	maxSkew = time.Second // that a clock may be ahead of this machine's
)

// endToEnd times records from their own time to the acknowledgement of what was published for them.
// All fields are set once.
type endToEnd struct {
	latency             prometheus.Histogram
	noTime, future, old prometheus.Counter
}

func newEndToEnd(r prometheus.Registerer) endToEnd {
	untimed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "inceptor_untimed_records_total",
		Help: "Records that inceptor_end_to_end_latency_seconds leaves out, by reason: no-time (they have none), future (more than a second ahead of this machine's clock), old (more than a year).",
	}, []string{"reason"})
	e := endToEnd{
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "inceptor_end_to_end_latency_seconds",
			Help:    "Time from each record's own time to the acknowledgement of its answer or dead letter by the brokers; exactly once, to the commit.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600 * 6},
			// For a scraper that asks for it: steps of 10 %, and a bound on memory.
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
		noTime: untimed.WithLabelValues("no-time"), future: untimed.WithLabelValues("future"), old: untimed.WithLabelValues("old"),
	}
	r.MustRegister(e.latency, untimed)
	return e
}

// observe notes what was published at a time for a record.
func (e *endToEnd) observe(recordTime, published time.Time) {
	switch age := published.Sub(recordTime); {
	case recordTime.UnixMilli() <= 0: // Kafka's -1, or a sender without a clock
		e.noTime.Inc()
	case age > maxAge:
		e.old.Inc()
	case age < -maxSkew:
		e.future.Inc()
	default:
		e.latency.Observe(max(0, age.Seconds()))
	}
}
