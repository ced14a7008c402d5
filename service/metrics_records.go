package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model/infer"
	"inceptor/service/internal/history"
)

// recordMetrics count what becomes of records, and time it. All fields are set
// once.
type recordMetrics struct {
	records     *prometheus.CounterVec
	stages      *prometheus.HistogramVec
	answers     *prometheus.CounterVec
	comparisons *prometheus.CounterVec

	// Series of the above that each record needs, looked up in advance.
	answered, local, remote   prometheus.Counter
	read, wait, decode, infer prometheus.Observer

	latency history.Latency // of answered records, from the read to the answer
}

func newRecordMetrics(r prometheus.Registerer) *recordMetrics {
	m := &recordMetrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_records_total",
			Help: "Records handled, by outcome (answered, dead_letter; for tombstones with kafka.tombstones also forwarded, dropped) and by a dead letter's reason.",
		}, []string{"outcome", "reason"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inceptor_stage_duration_seconds", Buckets: stageBuckets,
			Help: "Time of a record in each stage: read, wait, decode, infer (its whole batch), publish (several records at once).",
		}, []string{"stage"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_answers_total", Help: "Images answered, by backend: local or remote.",
		}, []string{"backend"}),
		comparisons: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_comparisons_total",
			Help: "Comparisons of two versions on one image, by the label of the one that was asked second (shadow; or stable, for images that a canary answered) and by result: same or other (best class), error, skipped (the queue was full), unpublished (its answer was not written).",
		}, []string{"asked", "result"}),
	}
	beginAtZero(m.records, []string{ReasonCrashed}, "dead_letter")
	m.answered = m.records.WithLabelValues("answered", "")
	m.local, m.remote = m.answers.WithLabelValues(infer.BackendLocal), m.answers.WithLabelValues(infer.BackendRemote)
	for name, stage := range map[string]*prometheus.Observer{"read": &m.read, "wait": &m.wait, "decode": &m.decode, "infer": &m.infer} {
		*stage = m.stages.WithLabelValues(name)
	}
	r.MustRegister(m.records, m.stages, m.answers, m.comparisons)
	return m
}

// answer counts an answer, and the time that reading its record took.
func (m *recordMetrics) answer(read time.Duration, p infer.Prediction) {
	m.answered.Inc()
	if p.Backend == infer.BackendRemote {
		m.remote.Inc()
	} else {
		m.local.Inc()
	}
	m.read.Observe(read.Seconds())
	m.wait.Observe(p.Timings.Wait.Seconds())
	m.decode.Observe(p.Timings.Decode.Seconds())
	m.infer.Observe(p.Timings.Infer.Seconds())
	m.latency.Observe(read + p.Timings.Wait + p.Timings.Decode + p.Timings.Infer)
}

func (m *recordMetrics) deadLetter(reason string) {
	m.records.WithLabelValues("dead_letter", reason).Inc()
}

func (m *recordMetrics) tombstone(outcome string) { m.records.WithLabelValues(outcome, "").Inc() }

// compared counts an image about which the version with a label was asked.
func (m *recordMetrics) compared(asked, result string) {
	m.comparisons.WithLabelValues(asked, result).Inc()
}
