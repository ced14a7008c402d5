package monitoring

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// rare are metrics whose series begin with an event that the test does not bring about.
var rare = []string{
	"inceptor_comparisons_total", "inceptor_precision_agreement_ratio", "inceptor_model_rollbacks_total",
	"inceptor_stuck_partition", "inceptor_skipped_records_total", "inceptor_repeated_records_total",
}

// Every query of the dashboard finds something on the pages of a running service, and what its
// legend shows; every alert can be evaluated. That also holds if Prometheus takes native histograms
// in place of buckets.
func TestDashboardFindsMetrics(t *testing.T) {
	empty, before, after := scrapes(t)
	all := queries(t)
	for name, format := range map[string]string{"text": text, "native histograms": protobuf} {
		t.Run(name, func(t *testing.T) {
			from := database{}
			from.add(t, before[format], at.Add(-4*time.Minute))
			from.add(t, after[format], at)
			for _, q := range all {
				found := from.eval(t, q.panel, q.expr)
				isRare := slices.ContainsFunc(rare, func(metric string) bool { return strings.Contains(q.expr, metric) })
				if len(found) == 0 && !isRare && q.panel != "Versions" { // its swap was before
					t.Errorf("%s: nothing is found: %s", q.panel, q.expr)
				}
				for _, sample := range found {
					for _, label := range labelsIn(q.legend) {
						if !sample.Metric.Has(label) {
							t.Errorf("%s: %v has no label %s for the legend", q.panel, sample.Metric, label)
						}
					}
				}
			}
			from.alert(t, fires)
		})
	}
	without := database{}
	without.add(t, empty, at)
	without.alert(t, firesEmpty)
	if native := after[protobuf].contentType; !strings.Contains(native, "protobuf") {
		t.Errorf("no native histograms, but %s", native)
	}
}

// fires are the conditions of the alerts that hold in the test. The version failed before the first
// page; the model server is gone, but nobody calls it.
var fires = []string{"InceptorDeadLetters", "InceptorVersionFailed", "InceptorVersionNotServing"}

// firesEmpty are those that hold before there is a version.
var firesEmpty = []string{"InceptorNothingAssigned", "InceptorNoVersion"}

// at is when queries are evaluated. The process has begun within the last quarter of an hour, or a
// little later.
var at = time.Now()

// A database has samples of series, by their labels.
type database map[string]*series

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// add adds the samples of a page, as scraped at a time.
func (d database) add(t *testing.T, p page, when time.Time) {
	t.Helper()
	parser, err := textparse.New(p.body, p.contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		s := sample{t: when.UnixMilli()}
		switch entry {
		case textparse.EntrySeries:
			_, _, s.f = parser.Series()
		case textparse.EntryHistogram:
			_, _, s.h, _ = parser.Histogram() // client_golang sends integers
		default:
			continue
		}
		var own labels.Labels
		parser.Labels(&own)
		full := labels.NewBuilder(own).Set("job", "inceptor").Set("instance", "a:8080").Labels()
		if d[full.String()] == nil {
			d[full.String()] = &series{labels: full}
		}
		d[full.String()].samples = append(d[full.String()].samples, s)
	}
}

// alert makes sure that the conditions of these alerts hold, and of no others.
func (d database) alert(t *testing.T, want []string) {
	t.Helper()
	for _, r := range alerts(t) {
		if firing := d.eval(t, r.Alert, r.Expr); len(firing) > 0 != slices.Contains(want, r.Alert) {
			t.Errorf("%s: %v", r.Alert, firing)
		}
	}
}

// eval evaluates an expression.
func (d database) eval(t *testing.T, where, expr string) promql.Vector {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: patience, Parser: parsing})
	defer engine.Close()
	q, err := engine.NewInstantQuery(t.Context(), d, nil, expr, at)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return nil
	}
	defer q.Close()
	result := q.Exec(t.Context())
	vector, err := result.Vector()
	if err != nil {
		t.Errorf("%s: %v", where, err)
	}
	return slices.Clone(vector)
}

// Querier implements storage.Queryable.
func (d database) Querier(_, _ int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		found := &seriesSet{at: -1}
		for _, s := range d {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
				found.series = append(found.series, storage.NewListSeries(s.labels, s.samples))
			}
		}
		return found
	}}, nil
}

// A seriesSet implements storage.SeriesSet.
type seriesSet struct {
	series []*storage.SeriesEntry
	at     int
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series              { return s.series[s.at] }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// A sample implements chunks.Sample: a number or a native histogram.
type sample struct {
	t int64
	f float64
	h *histogram.Histogram // nil: a number
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return s.h }
func (s sample) FH() *histogram.FloatHistogram { return s.h.ToFloat(nil) }
func (s sample) Copy() chunks.Sample           { return s }

func (s sample) Type() chunkenc.ValueType {
	if s.h != nil {
		return chunkenc.ValHistogram
	}
	return chunkenc.ValFloat
}
