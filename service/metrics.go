package service

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service/stream"
)

// Metrics are what /metrics tells of a service. They observe the model and
// the stream: see model.Observer and stream.Observer.
type Metrics struct {
	tried     func(version int64, ok bool) // set before anything is observed
	imageTook atomic.Int64                 // nanoseconds, of the version that was loaded last

	records *prometheus.CounterVec
	stages  *prometheus.HistogramVec
	fast    struct { // of these, and of answers, what each record needs
		answered, local, remote            prometheus.Counter
		read, wait, decode, infer, publish prometheus.Observer
	}
	batches    prometheus.Histogram
	runs       *prometheus.CounterVec
	inFlight   prometheus.Gauge
	bytes      prometheus.Gauge
	buffered   prometheus.Gauge
	limit      prometheus.Gauge // of buffered
	fetchers   prometheus.Gauge // that wait for it
	lag        *prometheus.GaugeVec
	skipped    *prometheus.CounterVec
	repeated   *prometheus.CounterVec
	committed  *prometheus.GaugeVec
	standing   *prometheus.GaugeVec
	retries    prometheus.Counter
	retrying   prometheus.Gauge
	partitions prometheus.Gauge

	desired, serving, overdue, overdueLoads prometheus.Gauge
	overdueRuns                             atomic.Int32 // as overdue
	refused                                 *prometheus.CounterVec
	rejected                                *prometheus.CounterVec
	loaded                                  prometheus.Gauge
	steps                                   *prometheus.GaugeVec
	swapped                                 prometheus.Gauge
	images                                  *prometheus.CounterVec
	runTimes                                *prometheus.HistogramVec
	comparisons                             *prometheus.CounterVec

	answers     *prometheus.CounterVec
	calls       *prometheus.CounterVec
	callTimes   *prometheus.HistogramVec
	breaker     *prometheus.GaugeVec
	fallback    prometheus.Gauge
	fallbackFor prometheus.Counter

	mu       sync.Mutex
	held     int64         // as buffered
	waiting  int           // as fetchers
	since    time.Time     // when they began to wait
	waited   time.Duration // before
	assigned []stream.Partition
	joined   bool
	stuck    map[stream.Partition]map[stream.Stage]error // by partition
	denied   error                                       // why the brokers have refused the last login
}

// stageBuckets span a header read and a batch that takes half a minute.
var stageBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_records_total",
			Help: "Records handled, by outcome (answered, dead_letter; forwarded or dropped, of tombstones with kafka.tombstones) and a dead letter's reason.",
		}, []string{"outcome", "reason"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inceptor_stage_duration_seconds", Buckets: stageBuckets,
			Help: "Time of a record in each stage: read, wait, decode, infer (of its whole batch), publish (of a run of records).",
		}, []string{"stage"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "inceptor_batch_size_images", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
			Help: "Images in each run of the model.",
		}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_model_runs_total", Help: "Runs of the model, by result (ok, error).",
		}, []string{"result"}),
		images: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_version_images_total", Help: "Images by the version that ran on them and by result (ok, error). A version's series end when it is unloaded.",
		}, []string{"version", "result"}),
		runTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inceptor_version_run_duration_seconds", Buckets: stageBuckets,
			Help: "Time of each run of a version, of a whole batch.",
		}, []string{"version"}),
		comparisons: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_comparisons_total",
			Help: "Images that a second version was asked about, by its label (shadow; stable, for images that a canary answered) and by result: same or other best class, error, skipped (no time left), unpublished.",
		}, []string{"asked", "result"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_in_flight_records", Help: "Records fetched and not yet published.",
		}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_in_flight_bytes", Help: "Keys, values and headers of the records in flight.",
		}),
		buffered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_buffered_bytes", Help: "Memory of what was fetched and is not answered, as kafka.window.total-bytes counts it.",
		}),
		limit: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_buffered_bytes_limit", Help: "Bound on inceptor_buffered_bytes: kafka.window.total-bytes, or its default.",
		}),
		fetchers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_fetch_waiting_partitions", Help: "Partitions whose fetching waits for kafka.window.total-bytes.",
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_lag_records", Help: "Records of each assigned partition that are not committed yet.",
		}, []string{"topic", "partition"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_skipped_records_total",
			Help: "Records that the brokers removed before they were read, by topic and the reason that the position was lost (recreated, out-of-range).",
		}, []string{"topic", "reason"}),
		repeated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_repeated_records_total",
			Help: "Records, at most, that are read again because the position was lost, by topic and reason (beyond-end, expired, recreated).",
		}, []string{"topic", "reason"}),
		committed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_committed_offset", Help: "Offset in each assigned partition at which a restart begins.",
		}, []string{"topic", "partition"}),
		standing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_stuck_partition", Help: "1 for each partition that stands still, by stage (reading, handling, publishing) and reason: open-transaction (a producer's, in the input), read, model, refused (neither the output nor the dead-letter topic takes the outcome), publish. /readyz has the error.",
		}, []string{"topic", "partition", "stage", "reason"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "inceptor_retries_total", Help: "Tries to read, handle or publish a record that came to nothing.",
		}),
		retrying: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_stuck_partitions", Help: "Partitions that stand still: reading, or a record, is being tried again.",
		}),
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_assigned_partitions", Help: "Partitions of the inputs that this process works on.",
		}),
		desired: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_desired_version", Help: "Version that was chosen by hand, or the highest there is; other than the serving one for long, it was refused; -1: none.",
		}),
		serving: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_serving_version", Help: "Version that serves; -1: none.",
		}),
		overdue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_overdue_runs", Help: "Runs of the model that have taken longer than a run may, and have not ended. They cannot be cancelled: each keeps its memory.",
		}),
		overdueLoads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_overdue_loads", Help: "Loads of a version that have taken longer than model.gate.timeout, and have not ended. They cannot be cancelled: each keeps its memory, and nothing else is loaded meanwhile.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_model_refusals_total", Help: "Versions that were not taken, by the gate that they did not pass: read, complete, load, signature, warm-up, golden, agreement, timeout, memory.",
		}, []string{"gate"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_model_rejections_total", Help: "Versions that were taken back, by cause: errors, slow, hangs, crash, by-hand.",
		}, []string{"cause"}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_last_load_successful", Help: "1 if the last version that was tried passed its gates, 0 if it was refused.",
		}),
		steps: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_model_last_duration_seconds",
			Help: "Time that each step took for the last version that took it: load (TensorFlow's), warm-up, gates (all of them, load and warm-up included), pause (of the partitions, where it took another one's place), drain (of a version that was unloaded).",
		}, []string{"step"}),
		swapped: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_last_swap_timestamp_seconds", Help: "When the serving version began to serve, in Unix time.",
		}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_answers_total", Help: "Images answered, by backend: local or remote.",
		}, []string{"backend"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_fallback_calls_total", Help: "Calls to the model server, by operation (predict, metadata, status) and gRPC's code, or BadAnswer or WrongVersion.",
		}, []string{"op", "code"}),
		callTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inceptor_fallback_call_duration_seconds", Buckets: stageBuckets, Help: "Time of each call to the model server.",
		}, []string{"op"}),
		breaker: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_fallback_breaker", Help: "1 for the state that the model server's breaker is in (closed, half-open, open), else 0.",
		}, []string{"state"}),
		fallback: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_fallback_active", Help: "1 while the model server answers in place of a version here.",
		}),
		fallbackFor: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "inceptor_fallback_active_seconds_total", Help: "Time in which the model server answered in place of a version here.",
		}),
		stuck: map[stream.Partition]map[stream.Stage]error{},
	}
	f := &m.fast
	f.answered = m.records.WithLabelValues("answered", "")
	f.local, f.remote = m.answers.WithLabelValues(model.BackendLocal), m.answers.WithLabelValues(model.BackendRemote)
	for name, stage := range map[string]*prometheus.Observer{
		"read": &f.read, "wait": &f.wait, "decode": &f.decode, "infer": &f.infer, "publish": &f.publish,
	} {
		*stage = m.stages.WithLabelValues(name)
	}
	m.desired.Set(noVersion)
	m.serving.Set(noVersion)
	r.MustRegister(m.records, m.stages, m.batches, m.runs, m.inFlight, m.bytes, m.buffered, m.limit, m.fetchers, m.lag, m.skipped, m.repeated, m.committed, m.standing, m.retries, m.retrying, m.partitions,
		m.desired, m.serving, m.overdue, m.overdueLoads, m.refused, m.rejected, m.loaded, m.steps, m.swapped, m.images, m.runTimes, m.comparisons,
		m.answers, m.calls, m.callTimes, m.breaker, m.fallback, m.fallbackFor,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "inceptor_fetch_waited_seconds_total", Help: "Time in which at least one partition waited for kafka.window.total-bytes.",
		}, func() float64 { return m.fetchWaited().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "inceptor_live_tensors", Help: "Native tensors that are not freed yet.",
		}, func() float64 { return float64(savedmodel.LiveTensors()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "inceptor_leaked_tensors_total", Help: "Native tensors that the collector had to free; above zero is a bug.",
		}, func() float64 { return float64(savedmodel.LeakedTensors()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "inceptor_native_resident_bytes", Help: "Resident memory of the process less what the Go runtime holds: TensorFlow, its model, its buffers.",
		}, nativeBytes),
	)
	return m
}

func (m *Metrics) answered(read time.Duration, p model.Prediction) {
	f := &m.fast
	f.answered.Inc()
	if p.Backend == model.BackendRemote {
		f.remote.Inc()
	} else {
		f.local.Inc()
	}
	f.read.Observe(read.Seconds())
	f.wait.Observe(p.Timings.Wait.Seconds())
	f.decode.Observe(p.Timings.Decode.Seconds())
	f.infer.Observe(p.Timings.Infer.Seconds())
}

func (m *Metrics) deadLetter(reason string) {
	m.records.WithLabelValues("dead_letter", reason).Inc()
}

func (m *Metrics) tombstone(outcome string) { m.records.WithLabelValues(outcome, "").Inc() }

// BatchRun implements model.Observer.
func (m *Metrics) BatchRun(version int64, r model.Run) {
	m.batches.Observe(float64(r.Size))
	result := "ok"
	if r.Err != nil {
		result = "error"
	}
	m.runs.WithLabelValues(result).Inc()
	v := strconv.FormatInt(version, 10)
	m.runTimes.WithLabelValues(v).Observe(r.Took.Seconds())
	if !r.Halved { // else they are run, and counted, again
		m.images.WithLabelValues(v, "ok").Add(float64(r.Size - r.Failed))
		m.images.WithLabelValues(v, "error").Add(float64(r.Failed))
	}
}

// RunOverdue implements model.Observer.
func (m *Metrics) RunOverdue(_ int64, ended bool) {
	if ended {
		m.overdue.Dec()
		m.overdueRuns.Add(-1)
	} else {
		m.overdue.Inc()
		m.overdueRuns.Add(1)
	}
}

// LoadOverdue implements model.Observer.
func (m *Metrics) LoadOverdue(_ int64, ended bool) {
	if ended {
		m.overdueLoads.Dec()
	} else {
		m.overdueLoads.Inc()
	}
}

// VersionDesired implements model.Observer.
func (m *Metrics) VersionDesired(version int64) { m.desired.Set(float64(version)) }

// VersionLoaded implements model.Observer.
func (m *Metrics) VersionLoaded(_ int64, took model.Durations) {
	m.loaded.Set(1)
	m.imageTook.Store(int64(took.Each))
	m.step("load", took.Load)
	m.step("warm-up", took.WarmUp)
	m.step("gates", took.Gates)
	m.step("pause", took.Pause)
}

func (m *Metrics) step(name string, took time.Duration) {
	m.steps.WithLabelValues(name).Set(took.Seconds())
}

// VersionServing implements model.Observer.
func (m *Metrics) VersionServing(version int64, ok bool) {
	if !ok {
		m.serving.Set(noVersion)
		return
	}
	m.serving.Set(float64(version))
	m.swapped.SetToCurrentTime()
}

// noVersion is the value of a metric that is a version's number, while there
// is no version.
const noVersion = -1

// VersionRejected implements model.Observer.
func (m *Metrics) VersionRejected(_ int64, cause string) { m.rejected.WithLabelValues(cause).Inc() }

// VersionTried implements model.Observer.
func (m *Metrics) VersionTried(version int64, ok bool) {
	if m.tried != nil {
		m.tried(version, ok)
	}
}

// VersionClosed implements model.Observer.
func (m *Metrics) VersionClosed(version int64, drained time.Duration) {
	m.step("drain", drained)
	v := prometheus.Labels{"version": strconv.FormatInt(version, 10)}
	m.images.DeletePartialMatch(v)
	m.runTimes.DeletePartialMatch(v)
}

func (m *Metrics) compared(asked, result string) { m.comparisons.WithLabelValues(asked, result).Inc() }

// VersionRefused implements model.Observer.
func (m *Metrics) VersionRefused(_ int64, gate string) {
	m.refused.WithLabelValues(gate).Inc()
	m.loaded.Set(0)
}

// CallDone implements remote.Observer.
func (m *Metrics) CallDone(op, code string, took time.Duration) {
	m.calls.WithLabelValues(op, code).Inc()
	m.callTimes.WithLabelValues(op).Observe(took.Seconds())
}

// BreakerChanged implements remote.Observer.
func (m *Metrics) BreakerChanged(state string) {
	for _, s := range []string{"closed", "half-open", "open"} {
		m.breaker.WithLabelValues(s).Set(0)
	}
	m.breaker.WithLabelValues(state).Set(1)
}

// FellBack implements model.FallbackObserver.
func (m *Metrics) FellBack(now bool, did time.Duration) {
	m.fallback.Set(0)
	if now {
		m.fallback.Set(1)
	}
	m.fallbackFor.Add(did.Seconds())
}

// Assigned implements stream.Observer.
func (m *Metrics) Assigned(partitions []stream.Partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.assigned, m.joined = partitions, true
	m.partitions.Set(float64(len(partitions)))
	for p := range m.stuck { // told since Revoked, by what had begun before
		if !slices.Contains(partitions, p) {
			m.forget(p)
		}
	}
}

// forget notes that a partition is another process's. The caller holds mu.
func (m *Metrics) forget(p stream.Partition) {
	delete(m.stuck, p)
	m.standing.DeletePartialMatch(prometheus.Labels{"topic": p.Topic, "partition": strconv.Itoa(p.ID)})
	m.retrying.Set(float64(len(m.stuck)))
}

// Revoked implements stream.Observer.
func (m *Metrics) Revoked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.assigned, m.joined = nil, false
	m.partitions.Set(0)
	m.lag.Reset()
	m.committed.Reset()
	m.standing.Reset()
	clear(m.stuck)
	m.retrying.Set(0)
}

// InFlight implements stream.Observer.
func (m *Metrics) InFlight(records int, bytes int64) {
	m.inFlight.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

// Buffered implements stream.Observer.
func (m *Metrics) Buffered(bytes int64, waiting int) {
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

// fetchWaited is how long fetching has waited for memory.
func (m *Metrics) fetchWaited() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting > 0 {
		return m.waited + time.Since(m.since)
	}
	return m.waited
}

// Published implements stream.Observer.
func (m *Metrics) Published(_ int, took time.Duration) { m.fast.publish.Observe(took.Seconds()) }

// Committed implements stream.Observer.
func (m *Metrics) Committed(p stream.Partition, next, lag int64) {
	m.lag.WithLabelValues(p.Topic, strconv.Itoa(p.ID)).Set(float64(lag))
	m.committed.WithLabelValues(p.Topic, strconv.Itoa(p.ID)).Set(float64(next))
}

// Retrying implements stream.Observer.
func (m *Metrics) Retrying(partition stream.Partition, stage stream.Stage, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.joined && !slices.Contains(m.assigned, partition) {
		return // it was taken away meanwhile
	}
	stuck := m.stuck[partition]
	if before := stuck[stage]; before != nil {
		m.standing.DeleteLabelValues(partition.Topic, strconv.Itoa(partition.ID), stageNames[stage], stuckReason(stage, before))
	}
	switch {
	case err == nil:
		delete(stuck, stage)
		if len(stuck) == 0 {
			delete(m.stuck, partition)
		}
	case stuck == nil:
		m.stuck[partition] = map[stream.Stage]error{stage: err}
	default:
		stuck[stage] = err
	}
	if err != nil {
		m.retries.Inc()
		m.standing.WithLabelValues(partition.Topic, strconv.Itoa(partition.ID), stageNames[stage], stuckReason(stage, err)).Set(1)
	}
	m.retrying.Set(float64(len(m.stuck)))
}

// Reset implements stream.Observer.
func (m *Metrics) Reset(r stream.Reset) {
	m.skipped.WithLabelValues(r.Partition.Topic, r.Reason).Add(float64(r.Skipped))
	m.repeated.WithLabelValues(r.Partition.Topic, r.Reason).Add(float64(r.Repeated))
}

// Authentication implements stream.Observer.
func (m *Metrics) Authentication(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denied = err
}

// NewModelInfo is a metric of value 1 with the serving version in its labels.
func NewModelInfo(m Model) prometheus.Collector { return modelInfo{m} }

type modelInfo struct{ Model }

var modelInfoDesc = prometheus.NewDesc("inceptor_model_info", "1, with the model version that serves.",
	[]string{"model", "version", "digest"}, nil)

// Describe implements prometheus.Collector.
func (modelInfo) Describe(c chan<- *prometheus.Desc) { c <- modelInfoDesc }

// Collect implements prometheus.Collector.
func (m modelInfo) Collect(c chan<- prometheus.Metric) {
	info, err := m.Serving()
	if err != nil {
		return
	}
	c <- prometheus.MustNewConstMetric(modelInfoDesc, prometheus.GaugeValue, 1,
		info.Model, strconv.FormatInt(max(info.Version, 0), 10), info.Digest)
}
