package service

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/stream"
)

// streamMetrics count what the driver reports: see observer.
type streamMetrics struct {
	// Set once.
	inFlight  prometheus.Gauge
	bytes     prometheus.Gauge
	buffered  prometheus.Gauge
	limit     prometheus.Gauge // of buffered
	fetchers  prometheus.Gauge // that wait for it
	lag       *prometheus.GaugeVec
	skipped   *prometheus.CounterVec
	repeated  *prometheus.CounterVec
	committed *prometheus.GaugeVec
	publish   prometheus.Observer
	endToEnd  endToEnd
	of        partitionCounts

	mu      sync.Mutex    // guards what follows
	held    int64         // as buffered
	waiting int           // as fetchers
	since   time.Time     // when they began to wait
	waited  time.Duration // in all, before since
}

// newStreamMetrics registers the metrics. publish gets the time of each publication.
func newStreamMetrics(r prometheus.Registerer, publish prometheus.Observer) *streamMetrics {
	m := &streamMetrics{
		publish: publish, endToEnd: newEndToEnd(r),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_in_flight_records", Help: "Records that were fetched and are not published yet.",
		}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_in_flight_bytes", Help: "Size of the records in flight: keys, values and headers.",
		}),
		buffered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_buffered_bytes", Help: "Memory for records that were fetched and are not answered, as kafka.window.total-bytes counts it.",
		}),
		limit: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_buffered_bytes_limit", Help: "Limit of inceptor_buffered_bytes: kafka.window.total-bytes, or its default.",
		}),
		fetchers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_fetch_waiting_partitions", Help: "Partitions that wait to fetch, because kafka.window.total-bytes is reached.",
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_lag_records", Help: "Records of each assigned partition that are not committed yet.",
		}, []string{"topic", "partition"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_skipped_records_total",
			Help: "Records that the brokers removed before they were read, by topic and by why the position was lost (recreated, out-of-range).",
		}, []string{"topic", "reason"}),
		repeated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_repeated_records_total",
			Help: "Most records that may be read again because the position was lost, by topic and reason (beyond-end, expired, recreated).",
		}, []string{"topic", "reason"}),
		committed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_committed_offset", Help: "Offset in each assigned partition at which a restart begins.",
		}, []string{"topic", "partition"}),
	}
	r.MustRegister(m.inFlight, m.bytes, m.buffered, m.limit, m.fetchers, m.lag, m.skipped, m.repeated, m.committed,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "inceptor_fetch_waited_seconds_total", Help: "Time in which at least one partition waited to fetch, because of kafka.window.total-bytes.",
		}, func() float64 { return m.fetchWaited().Seconds() }),
	)
	return m
}

// inputs says which topics are read.
func (m *streamMetrics) inputs(topics []string) {
	for _, topic := range topics {
		beginAtZero(m.skipped, []string{stream.Recreated, stream.OutOfRange}, topic)
		beginAtZero(m.repeated, []string{stream.BeyondEnd, stream.Expired, stream.Recreated}, topic)
	}
}

// Revoked implements stream.Observer.
func (m *streamMetrics) Revoked() {
	m.of.revoked()
	m.lag.Reset()
	m.committed.Reset()
}

// InFlight implements stream.Observer.
func (m *streamMetrics) InFlight(p stream.Partition, records int, bytes int64) {
	m.of.get(p).inFlight.Add(int64(records))
	m.inFlight.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

// Buffered implements stream.Observer.
func (m *streamMetrics) Buffered(bytes int64, waiting int) {
	m.buffered.Set(float64(bytes))
	m.fetchers.Set(float64(waiting))
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.waiting == 0 && waiting > 0:
		m.since = time.Now()
	case m.waiting > 0 && waiting == 0:
		m.waited += time.Since(m.since)
	}
	m.held, m.waiting = bytes, waiting
}

// fetchWaited returns how long fetching has waited for memory.
func (m *streamMetrics) fetchWaited() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting > 0 {
		return m.waited + time.Since(m.since)
	}
	return m.waited
}

// Published implements stream.Observer.
func (m *streamMetrics) Published(_ int, took time.Duration) { m.publish.Observe(took.Seconds()) }

// Acknowledged implements stream.Observer.
func (m *streamMetrics) Acknowledged(source stream.Record) {
	m.endToEnd.observe(source.Time, time.Now())
}

// Committed implements stream.Observer.
func (m *streamMetrics) Committed(p stream.Partition, next, lag int64) {
	m.of.get(p).lag.Store(lag)
	m.lag.WithLabelValues(p.Topic, strconv.Itoa(p.ID)).Set(float64(lag))
	m.committed.WithLabelValues(p.Topic, strconv.Itoa(p.ID)).Set(float64(next))
}

// Reset implements stream.Observer.
func (m *streamMetrics) Reset(r stream.Reset) {
	m.skipped.WithLabelValues(r.Partition.Topic, r.Reason).Add(float64(r.Skipped))
	m.repeated.WithLabelValues(r.Partition.Topic, r.Reason).Add(float64(r.Repeated))
}

// fetching returns the bytes in memory, and how many partitions wait to fetch.
func (m *streamMetrics) fetching() (bytes int64, waiting int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held, m.waiting
}
