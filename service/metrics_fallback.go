package service

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fallbackMetrics count the calls to a model server: see remote.Observer and
// fallback.Observer. All fields but active are set once.
type fallbackMetrics struct {
	calls       *prometheus.CounterVec
	callTimes   *prometheus.HistogramVec
	breaker     *prometheus.GaugeVec
	fallback    prometheus.Gauge
	fallbackFor prometheus.Counter
	active      atomic.Bool // as fallback
}

func newFallbackMetrics(r prometheus.Registerer) *fallbackMetrics {
	m := &fallbackMetrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_fallback_calls_total", Help: "Calls to the model server, by operation (predict, metadata, status) and by gRPC's code, or BadAnswer or WrongVersion.",
		}, []string{"op", "code"}),
		callTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inceptor_fallback_call_duration_seconds", Buckets: stageBuckets, Help: "Time of each call to the model server.",
		}, []string{"op"}),
		breaker: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_fallback_breaker", Help: "1 for the present state of the model server's circuit breaker (closed, half-open, open), else 0.",
		}, []string{"state"}),
		fallback: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_fallback_active", Help: "1 while the model server answers, because no version here can.",
		}),
		fallbackFor: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "inceptor_fallback_active_seconds_total", Help: "Time in which the model server answered, because no version here could.",
		}),
	}
	r.MustRegister(m.calls, m.callTimes, m.breaker, m.fallback, m.fallbackFor)
	return m
}

// CallDone implements remote.Observer.
func (m *fallbackMetrics) CallDone(op, code string, took time.Duration) {
	m.calls.WithLabelValues(op, code).Inc()
	m.callTimes.WithLabelValues(op).Observe(took.Seconds())
}

// BreakerChanged implements remote.Observer.
func (m *fallbackMetrics) BreakerChanged(state string) {
	for _, s := range []string{"closed", "half-open", "open"} {
		m.breaker.WithLabelValues(s).Set(0)
	}
	m.breaker.WithLabelValues(state).Set(1)
}

// FellBack implements fallback.Observer.
func (m *fallbackMetrics) FellBack(now bool, did time.Duration) {
	m.active.Store(now)
	m.fallback.Set(0)
	if now {
		m.fallback.Set(1)
	}
	m.fallbackFor.Add(did.Seconds())
}
