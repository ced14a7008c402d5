package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// second has a second version, which waits for hold and answers otherwise.
type second struct {
	fakeModel
	label string
	hold  chan struct{}
	asked atomic.Int64
}

func (s *second) Secondary() string { return s.label }
func (s *second) MaxBatch() int     { return 1 }

func (s *second) ClassifyAs(ctx context.Context, label string, image []byte) (infer.Prediction, error) {
	s.asked.Add(1)
	if s.hold != nil {
		<-s.hold
	}
	p, err := s.Classify(ctx, nil, image)
	p.Label = label
	p.Classes = p.Classes[1:]
	return p, err
}

func (m *Metrics) comparisonsOf(asked, result string) float64 {
	return testutil.ToFloat64(m.records.comparisons.WithLabelValues(asked, result))
}

// A shadow that does not keep up costs the stream nothing: what it has no time
// for is counted, and bounded in number and bytes.
func TestCompareNeverDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &second{label: model.LabelShadow, hold: make(chan struct{})}
		metrics := NewMetrics(prometheus.NewRegistry())
		var published atomic.Int64
		c := newComparer(m, 2, "shadow", func(_ context.Context, r stream.Record) error {
			if r.Topic != "shadow" || r.Partition != 3 || string(r.Key) != "k" || !strings.Contains(string(r.Value), `"version_label":"shadow"`) {
				t.Errorf("got %+v: %s", r, r.Value)
			}
			published.Add(1)
			return nil
		}, metrics.records.compared, slog.New(slog.DiscardHandler))
		given, _ := m.Classify(t.Context(), nil, nil)
		given.Label = model.LabelStable
		r := stream.Record{Topic: "in", Partition: 3, Key: []byte("k"), Value: []byte("x")}
		for range 100 {
			c.offer(t.Context(), r, input.Image{Bytes: make([]byte, 1000)}, given)
			synctest.Wait()
		}
		if n := m.asked.Load(); n != 2 {
			t.Errorf("%d are asked at once, want 2", n)
		}
		if n := metrics.comparisonsOf("shadow", "skipped"); n != 94 {
			t.Errorf("%v skipped, want 94: two at work, four wait", n)
		}
		close(m.hold)
		synctest.Wait()
		if published.Load() != 6 || metrics.comparisonsOf("shadow", "other") != 6 || c.bytes.Load() != 0 {
			t.Errorf("%d published, %v differ, %d bytes held", published.Load(), metrics.comparisonsOf("shadow", "other"), c.bytes.Load())
		}
		m.hold = make(chan struct{})
		big := input.Image{Bytes: make([]byte, maxCompareBytes/2+1)}
		c.offer(t.Context(), r, big, given)
		synctest.Wait()
		c.offer(t.Context(), r, big, given)
		if n := metrics.comparisonsOf("shadow", "skipped"); n != 95 {
			t.Errorf("%v skipped, want one more for its bytes", n)
		}
		close(m.hold)
		c.close()
	})
}

// What a canary answers is compared with the stable version, one at a time and
// without a shadow record.
func TestCompareCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &second{label: model.LabelCanary, hold: make(chan struct{})}
		metrics := NewMetrics(prometheus.NewRegistry())
		c := newComparer(m, 2, "shadow", func(context.Context, stream.Record) error {
			t.Error("published")
			return nil
		}, metrics.records.compared, slog.New(slog.DiscardHandler))
		given, _ := m.Classify(t.Context(), nil, nil)
		for _, label := range []string{model.LabelStable, model.LabelCanary, model.LabelCanary} {
			given.Label = label
			c.offer(t.Context(), stream.Record{}, input.Image{Bytes: []byte("x")}, given)
			synctest.Wait()
		}
		if n := m.asked.Load(); n != 1 {
			t.Errorf("%d asked, want 1", n)
		}
		close(m.hold)
		synctest.Wait()
		if n := metrics.comparisonsOf("stable", "other"); n != 1 {
			t.Errorf("%v compared, want 1", n)
		}
		c.close()
	})
}

// Answers without classes agree on nothing, and differ in nothing: the shadow's are
// published, and no comparison is counted.
func TestCompareWithoutClasses(t *testing.T) {
	p := localAnswer
	p.Outputs = arrays
	metrics, published := NewMetrics(prometheus.NewRegistry()), 0
	c := &comparer{model: answering{p: p}, count: metrics.records.compared, log: slog.New(slog.DiscardHandler), topic: "shadow",
		publish: func(context.Context, stream.Record) error { published++; return nil }}
	c.compare(t.Context(), comparison{record: record(png), image: input.Image{Bytes: png}, given: p, ask: model.LabelShadow})
	if n := metrics.comparisonsOf("shadow", "same") + metrics.comparisonsOf("shadow", "other"); n != 0 || published != 1 {
		t.Errorf("%v comparisons, %d published, want 0 and 1", n, published)
	}
	p.Classes = cats
	c.compare(t.Context(), comparison{record: record(png), image: input.Image{Bytes: png}, given: p, ask: model.LabelShadow})
	if n := metrics.comparisonsOf("shadow", "other"); n != 1 {
		t.Errorf("%v times another class, where one answer has none, want 1", n)
	}
}

// An outage of the shadow topic is two lines in the log, however many answers it costs.
func TestCompareUnpublished(t *testing.T) {
	var log bytes.Buffer
	outage := errors.New("no leader")
	metrics := NewMetrics(prometheus.NewRegistry())
	c := &comparer{model: answering{p: localAnswer}, count: metrics.records.compared, log: slog.New(slog.NewTextHandler(&log, nil)), topic: "shadow",
		publish: func(context.Context, stream.Record) error { return outage }}
	job := comparison{record: record(png), image: input.Image{Bytes: png}, given: localAnswer, ask: model.LabelShadow}
	for range 3 {
		c.compare(t.Context(), job)
	}
	outage = nil
	for range 2 {
		c.compare(t.Context(), job)
	}
	if n := metrics.comparisonsOf("shadow", "unpublished"); n != 3 {
		t.Errorf("%v unpublished, want 3", n)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "no leader") || !strings.Contains(lines[1], "published again") {
		t.Errorf("the log has %q", lines)
	}
}
