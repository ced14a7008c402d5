package service

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// Metrics are the metrics of a service. The model reports to them: they implement
// model.Observer, fallback.Observer and remote.Observer.
//
// To add a metric: make and register it where its part is made (newModelMetrics,
// newFallbackMetrics, newRecordMetrics, newStreamMetrics, newEndToEnd, newReadiness or NewMemory),
// and set it in a method of that part. Then run
// `go test ./cmd/inceptor -run TestReference -update`.
type Metrics struct {
	*modelMetrics
	*fallbackMetrics
	records *recordMetrics
	spans   *prometheus.CounterVec
	stream  *streamMetrics
	ready   *readiness
}

// stageBuckets range from reading a header to a batch that takes half a minute.
var stageBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// NewMetrics registers the metrics, for New and for the model.
func NewMetrics(r prometheus.Registerer) *Metrics {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "inceptor_live_tensors", Help: "Native tensors in memory.",
		}, func() float64 { return float64(savedmodel.LiveTensors()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "inceptor_leaked_tensors_total", Help: "Native tensors that the garbage collector had to free; more than zero is a bug.",
		}, func() float64 { return float64(savedmodel.LeakedTensors()) }),
	)
	records, ready := newRecordMetrics(r), newReadiness()
	r.MustRegister(ready)
	return &Metrics{
		modelMetrics:    newModelMetrics(r),
		fallbackMetrics: newFallbackMetrics(r),
		records:         records,
		spans:           newSpanMetrics(r),
		stream:          newStreamMetrics(r, records.stages.WithLabelValues("publish")),
		ready:           ready,
	}
}

// newSpanMetrics registers what counts the spans of traces.
func newSpanMetrics(r prometheus.Registerer) *prometheus.CounterVec {
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "inceptor_trace_spans_total",
		Help: "Spans of traces, by result: exported, failed (the collector did not take them), dropped (too many waited for the collector).",
	}, []string{"result"})
	r.MustRegister(spans)
	return spans
}

// traced counts spans.
func (m *Metrics) traced(result string, n int) { m.spans.WithLabelValues(result).Add(float64(n)) }

// modelMetrics count what the model does: see model.Observer.
type modelMetrics struct {
	// Set once, before anything is observed.
	unproven func(version int64, ok bool) // gets what VersionUnproven gets; nil: nothing does
	batches  prometheus.Histogram
	fill     prometheus.Histogram
	runs     *prometheus.CounterVec

	desired, serving, overdue, overdueLoads prometheus.Gauge
	failed                                  *prometheus.CounterVec
	rolledBack                              *prometheus.CounterVec
	loaded                                  prometheus.Gauge
	steps                                   *prometheus.GaugeVec
	swapped                                 prometheus.Gauge
	images                                  *prometheus.CounterVec
	runTimes                                *prometheus.HistogramVec
	precision, agreement                    *prometheus.GaugeVec
	verdicts                                *prometheus.CounterVec

	// Updated by the model, and read by others.
	overdueRuns atomic.Int32              // as overdue
	imageTook   atomic.Int64              // see imageTime; in nanoseconds
	ran         atomic.Int64              // see modelRan; in nanoseconds
	compared    atomic.Pointer[agreement] // of another precision of the version that serves; nil: of none yet
}

func newModelMetrics(r prometheus.Registerer) *modelMetrics {
	m := &modelMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_model_runs_total", Help: "Runs of the model, by result (ok, error).",
		}, []string{"result"}),
		images: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_version_images_total", Help: "Images by the version that ran on them and by result (ok, error). The series of a version end when it is unloaded.",
		}, []string{"version", "result"}),
		runTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inceptor_version_run_duration_seconds", Buckets: stageBuckets,
			Help: "Time of each run of a version, for a whole batch.",
		}, []string{"version"}),
		desired: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_desired_version", Help: "Version that should serve: the one that was chosen, or else the highest. If it differs from inceptor_model_serving_version for long, see inceptor models. -1: none.",
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
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_model_load_failures_total", Help: "Versions that failed, by the gate that they did not pass: read, complete, load, signature, warm-up, golden, agreement, timeout, memory.",
		}, []string{"gate"}),
		rolledBack: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_model_rollbacks_total", Help: "Versions that were rolled back, by cause: errors, slow, hangs, crash, by-hand.",
		}, []string{"cause"}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_last_load_successful", Help: "1 if the last version that was tried passed its gates, 0 if it failed.",
		}),
		steps: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_model_last_duration_seconds",
			Help: "Time that each step took for the last version that took it: load (TensorFlow's), warm-up, gates (all of them, load and warm-up included), pause (of the partitions, where it took another one's place), drain (of a version that was unloaded).",
		}, []string{"step"}),
		precision: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_model_precision", Help: "1 for the precision that the serving version computes in: float32, bfloat16 or int8. There is none if it runs as it was exported.",
		}, []string{"precision"}),
		agreement: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inceptor_precision_agreement_ratio", Help: "Part of the records on which another precision of the serving version had the same best class, when they were last compared.",
		}, []string{"precision"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inceptor_precision_verdicts_total", Help: "Verdicts on other precisions of the serving version: agrees (it serves) or refused.",
		}, []string{"precision", "verdict"}),
		swapped: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inceptor_model_last_swap_timestamp_seconds", Help: "When the serving version began to serve, in Unix time.",
		}),
	}
	m.desired.Set(noVersion)
	m.serving.Set(noVersion)
	beginAtZero(m.failed, infer.Gates)
	beginAtZero(m.rolledBack, model.Causes)
	m.batches, m.fill = newBatchMetrics(r)
	r.MustRegister(m.runs,
		m.desired, m.serving, m.overdue, m.overdueLoads, m.failed, m.rolledBack, m.loaded, m.steps, m.swapped, m.images, m.runTimes,
		m.precision, m.agreement, m.verdicts)
	return m
}

// beginAtZero makes series of a counter by their last label: Prometheus cannot see the first event
// of a series that begins with it.
func beginAtZero(c *prometheus.CounterVec, last []string, first ...string) {
	for _, value := range last {
		c.WithLabelValues(append(slices.Clone(first), value)...)
	}
}

// newBatchMetrics returns the metrics of how large batches are.
func newBatchMetrics(r prometheus.Registerer) (images, fill prometheus.Histogram) {
	images = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "inceptor_batch_size_images", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		Help: "Images in each run of the model.",
	})
	fill = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "inceptor_batch_fill_ratio", Buckets: []float64{.1, .25, .5, .75, .9, 1},
		Help: "Images in each run of the model, as part of the most that a batch of the version may have.",
	})
	r.MustRegister(images, fill)
	return images, fill
}

// BatchRun implements model.Observer.
func (m *modelMetrics) BatchRun(version int64, r infer.Run) {
	m.batches.Observe(float64(r.Size))
	m.fill.Observe(float64(r.Size) / float64(max(1, r.Most)))
	m.ran.Add(int64(r.Took))
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
func (m *modelMetrics) RunOverdue(_ int64, ended bool) {
	if ended {
		m.overdue.Dec()
		m.overdueRuns.Add(-1)
	} else {
		m.overdue.Inc()
		m.overdueRuns.Add(1)
	}
}

// LoadOverdue implements model.Observer.
func (m *modelMetrics) LoadOverdue(_ int64, ended bool) {
	if ended {
		m.overdueLoads.Dec()
	} else {
		m.overdueLoads.Inc()
	}
}

// VersionDesired implements model.Observer.
func (m *modelMetrics) VersionDesired(version int64) { m.desired.Set(float64(version)) }

// VersionLoaded implements model.Observer.
func (m *modelMetrics) VersionLoaded(_ int64, took infer.Durations) {
	m.loaded.Set(1)
	m.imageTook.Store(int64(took.PerImage))
	m.step("load", took.Load)
	m.step("warm-up", took.WarmUp)
	m.step("gates", took.Gates)
	m.step("pause", took.Pause)
}

func (m *modelMetrics) step(name string, took time.Duration) {
	m.steps.WithLabelValues(name).Set(took.Seconds())
}

// VersionServing implements model.Observer.
func (m *modelMetrics) VersionServing(version int64, ok bool) {
	m.compared.Store(nil)
	if !ok {
		m.serving.Set(noVersion)
		return
	}
	m.serving.Set(float64(version))
	m.swapped.SetToCurrentTime()
}

// PrecisionServing implements model.Observer.
func (m *modelMetrics) PrecisionServing(precision string) {
	m.precision.Reset()
	if precision != "" {
		m.precision.WithLabelValues(precision).Set(1)
	}
}

// PrecisionCompared implements model.Observer.
func (m *modelMetrics) PrecisionCompared(precision string, records, same int) {
	m.compared.Store(&agreement{compared: int64(records), same: int64(same)})
	m.agreement.WithLabelValues(precision).Set(float64(same) / float64(max(1, records)))
}

// PrecisionDecided implements model.Observer.
func (m *modelMetrics) PrecisionDecided(precision, verdict string) {
	m.compared.Store(nil)
	m.verdicts.WithLabelValues(precision, verdict).Inc()
}

// noVersion is the value of a metric for a version's number while there is none.
const noVersion = -1

// VersionRolledBack implements model.Observer.
func (m *modelMetrics) VersionRolledBack(_ int64, cause string) {
	m.rolledBack.WithLabelValues(cause).Inc()
}

// VersionUnproven implements model.Observer.
func (m *modelMetrics) VersionUnproven(version int64, ok bool) {
	if m.unproven != nil {
		m.unproven(version, ok)
	}
}

// imageTime returns how long the version that was loaded last takes for one image;
// zero: not known, as with a model server.
func (m *modelMetrics) imageTime() time.Duration { return time.Duration(m.imageTook.Load()) }

// modelRan returns how long all runs of the model have taken so far.
func (m *modelMetrics) modelRan() time.Duration { return time.Duration(m.ran.Load()) }

// VersionClosed implements model.Observer.
func (m *modelMetrics) VersionClosed(version int64, drained time.Duration) {
	m.step("drain", drained)
	v := prometheus.Labels{"version": strconv.FormatInt(version, 10)}
	m.images.DeletePartialMatch(v)
	m.runTimes.DeletePartialMatch(v)
}

// VersionFailed implements model.Observer.
func (m *modelMetrics) VersionFailed(_ int64, gate string) {
	m.failed.WithLabelValues(gate).Inc()
	m.loaded.Set(0)
}

// NewModelInfo returns the metrics of which version serves, and whether another one answers next to
// it. New registers them.
func NewModelInfo(c Classifier) prometheus.Collector { return modelInfo{c} }

type modelInfo struct{ Classifier }

var modelInfoDesc = prometheus.NewDesc("inceptor_model_info", "1, with the serving version of the model in its labels.",
	[]string{"model", "version", "digest"}, nil)

var rolloutDesc = prometheus.NewDesc("inceptor_model_rollout",
	"1 while a version with this label (canary, shadow) answers next to the one that serves, else 0.", []string{"label"}, nil)

// Describe implements prometheus.Collector.
func (modelInfo) Describe(c chan<- *prometheus.Desc) {
	c <- modelInfoDesc
	c <- rolloutDesc
}

// Collect implements prometheus.Collector.
func (m modelInfo) Collect(c chan<- prometheus.Metric) {
	if versions, ok := m.Classifier.(VersionController); ok {
		present := versions.Secondary()
		for _, label := range []string{model.LabelCanary, model.LabelShadow} {
			value := 0.0
			if label == present {
				value = 1
			}
			c <- prometheus.MustNewConstMetric(rolloutDesc, prometheus.GaugeValue, value, label)
		}
	}
	info, err := m.Serving()
	if err != nil {
		return
	}
	c <- prometheus.MustNewConstMetric(modelInfoDesc, prometheus.GaugeValue, 1,
		info.Model, strconv.FormatInt(max(info.Version, 0), 10), info.Digest)
}
