package service

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/stream"
)

// A Readiness is the body of /readyz.
type Readiness struct {
	Ready      bool               `json:"ready"`
	Reasons    []string           `json:"reasons,omitempty"` // why not
	Partitions []stream.Partition `json:"partitions"`
	Retrying   map[string]string  `json:"retrying,omitempty"` // partition to error

	// Authentication is why the brokers refused the last login. Open connections keep working.
	Authentication string `json:"authentication,omitempty"`
}

// Reasons of a Readiness.
const (
	notAMember = "not a member of the consumer group yet"
	allStuck   = "every partition is stuck, each for the reason below"
)

// readiness knows which partitions the process has, and which of them are
// stuck: for /readyz, and as metrics. The driver tells it, through observer.
// Safe for concurrent use.
type readiness struct {
	mu       sync.Mutex // guards what follows
	assigned []stream.Partition
	joined   bool // the process is a member of the group
	stuck    map[stream.Partition]map[stream.Stage]error
	retries  int
	denied   error // why the brokers refused the last login
}

func newReadiness() *readiness {
	return &readiness{stuck: map[stream.Partition]map[stream.Stage]error{}}
}

// setAssigned is stream.Observer's Assigned.
func (r *readiness) setAssigned(partitions []stream.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assigned, r.joined = partitions, true
	// An error may come after Revoked, from work that began before.
	maps.DeleteFunc(r.stuck, func(p stream.Partition, _ map[stream.Stage]error) bool {
		return !slices.Contains(partitions, p)
	})
}

// revoked is stream.Observer's Revoked.
func (r *readiness) revoked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assigned, r.joined = nil, false
	clear(r.stuck)
}

// retrying is stream.Observer's Retrying.
func (r *readiness) retrying(p stream.Partition, stage stream.Stage, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joined && !slices.Contains(r.assigned, p) {
		return // the partition was taken away meanwhile
	}
	switch stuck := r.stuck[p]; {
	case err == nil:
		delete(stuck, stage)
		if len(stuck) == 0 {
			delete(r.stuck, p)
		}
		return
	case stuck == nil:
		r.stuck[p] = map[stream.Stage]error{stage: err}
	default:
		stuck[stage] = err
	}
	r.retries++
}

// authentication is stream.Observer's Authentication.
func (r *readiness) authentication(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied = err
}

// report is the answer to /readyz. notServing is why no version can answer.
func (r *readiness) report(notServing error) Readiness {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := Readiness{Partitions: append([]stream.Partition{}, r.assigned...)}
	if r.denied != nil {
		report.Authentication = r.denied.Error()
	}
	if !r.joined {
		report.Reasons = append(report.Reasons, notAMember)
		if report.Authentication != "" {
			report.Reasons = append(report.Reasons, report.Authentication)
		}
	}
	if notServing != nil {
		report.Reasons = append(report.Reasons, notServing.Error())
	}
	standing := 0
	for p, errs := range r.stuck {
		if _, commits := errs[stream.Committing]; !commits || len(errs) > 1 { // else its records are answered
			standing++
		}
		if report.Retrying == nil {
			report.Retrying = map[string]string{}
		}
		report.Retrying[p.String()] = textOf(errs)
	}
	if standing > 0 && standing == len(r.assigned) {
		report.Reasons = append(report.Reasons, allStuck)
	}
	report.Ready = len(report.Reasons) == 0
	return report
}

// stuckPartitions returns the partitions that are stuck, in their order.
func (r *readiness) stuckPartitions() (list []stuckPartition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range slices.SortedFunc(maps.Keys(r.stuck), stream.ComparePartitions) {
		stuck := stuckPartition{Partition: p, text: textOf(r.stuck[p])}
		first := slices.Min(slices.Collect(maps.Keys(r.stuck[p])))
		stuck.reason = stuckReason(first, r.stuck[p][first])
		list = append(list, stuck)
	}
	return list
}

// textOf joins the errors of a partition.
func textOf(errs map[stream.Stage]error) string {
	var texts []string
	for _, stage := range slices.Sorted(maps.Keys(errs)) {
		texts = append(texts, errs[stage].Error())
	}
	return strings.Join(texts, "; ")
}

var (
	assignedDesc = prometheus.NewDesc("inceptor_assigned_partitions",
		"Partitions of the inputs that this process works on.", nil, nil)
	stuckDesc = prometheus.NewDesc("inceptor_stuck_partition",
		"1 for each partition that is stuck, by stage (reading, handling, publishing, committing) and reason: open-transaction "+
			"(a producer's, in the input), read, model, refused (neither the output nor the dead-letter topic takes the result), "+
			"publish, commit (answers are published, and would be again after a restart). /readyz has the error.",
		[]string{"topic", "partition", "stage", "reason"}, nil)
	stuckCountDesc = prometheus.NewDesc("inceptor_stuck_partitions",
		"Partitions that are stuck: the process tries again to read them, to handle or publish one of their records, or to commit.", nil, nil)
	retriesDesc = prometheus.NewDesc("inceptor_retries_total",
		"Failed attempts to read, handle or publish a record or to commit its offset, each of which is tried again.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*readiness) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{assignedDesc, stuckDesc, stuckCountDesc, retriesDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (r *readiness) Collect(c chan<- prometheus.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(assignedDesc, len(r.assigned))
	gauge(stuckCountDesc, len(r.stuck))
	for p, errs := range r.stuck {
		for stage, err := range errs {
			gauge(stuckDesc, 1, p.Topic, strconv.Itoa(p.ID), stageNames[stage], stuckReason(stage, err))
		}
	}
	c <- prometheus.MustNewConstMetric(retriesDesc, prometheus.CounterValue, float64(r.retries))
}

// stageNames are the stages in metrics.
var stageNames = map[stream.Stage]string{stream.Reading: "reading", stream.Handling: "handling", stream.Publishing: "publishing", stream.Committing: "committing"}

// stuckReason returns why a partition is stuck, as one of a fixed set of words:
// a label of a metric. The error has the details.
func stuckReason(stage stream.Stage, err error) string {
	refused := func() bool {
		return errors.Is(err, errLetterRefused) || errors.Is(err, stream.ErrKeyless) || errors.Is(err, stream.ErrInvalidTime)
	}
	switch {
	case errors.Is(err, stream.ErrOpenTransaction):
		return "open-transaction"
	case stage == stream.Reading:
		return "read"
	case stage == stream.Handling:
		return "model"
	case refused():
		return "refused"
	case stage == stream.Committing:
		return "commit"
	}
	return "publish"
}
