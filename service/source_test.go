package service

import (
	"bytes"
	gocmp "cmp"
	"context"
	"errors"
	"image"
	stdpng "image/png"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/internal/history"
	"inceptor/service/internal/thumbnail"
	"inceptor/service/page"
	"inceptor/service/stream"
)

// newSource returns the source of a service that answers with m, its handler, and what its driver
// would tell.
func newSource(t *testing.T, m fakeModel) (source, *handler, observer) {
	metrics := NewMetrics(prometheus.NewRegistry())
	h := newHandler(t, m)
	h.metrics = metrics.records
	s := &Service{
		config:  Config{Kafka: Kafka{Brokers: []string{"b:9092"}, Input: []string{"in"}, Output: "out", DeadLetter: "dead"}},
		metrics: metrics, recent: h.recent, classifier: m, versions: m, started: time.Now(), log: slog.New(slog.DiscardHandler),
	}
	o := observing(metrics, nil)
	o.recent = h.recent
	return source{s}, h, o
}

// While the broker is dead, a record is answered and not published.
func TestPublishedOnceAcknowledged(t *testing.T) {
	s, h, driver := newSource(t, fakeModel{})
	state := func() string { return s.View().Records[0].State }
	driver.Assigned([]stream.Partition{of(2)})
	if _, err := h.handle(t.Context(), record(png)); err != nil {
		t.Fatal(err)
	}
	driver.Retrying(of(2), stream.Publishing, errors.New("connection refused"))
	if got := state(); got != page.StateAnswered {
		t.Errorf("the broker is dead: %s", got)
	}
	if v := s.View(); len(v.Problems) == 0 || v.Problems[0].What != "Partition in-2 is stuck: connection refused." || v.Problems[0].Severity != page.SeverityError {
		t.Errorf("problems: %+v", v.Problems)
	}
	driver.Delivered(of(2), 4711, 4711)
	if got := state(); got != page.StatePublished {
		t.Errorf("acknowledged: %s", got)
	}
	refused, err := h.replaceRefused(record(png), stream.Record{Topic: "out"}, errors.New("too large"))
	if got := s.View().Records; err != nil || refused.Topic != "dead" || len(got) != 1 || got[0].State != page.StateDeadLetter || got[0].Reason != ReasonRefused {
		t.Errorf("an answer that the broker refuses: %+v, %v", got, err)
	}
}

func TestView(t *testing.T) {
	s, _, driver := newSource(t, fakeModel{})
	driver.Assigned([]stream.Partition{of(0), of(2)})
	driver.InFlight(of(2), 3, 300)
	driver.InFlight(of(2), -1, -100)
	driver.Committed(of(2), 5, 7)
	driver.Retrying(of(2), stream.Handling, errors.New("no model"))
	v := s.View()
	want := []page.Partition{{Topic: "in", Number: 0, Lag: -1}, {Topic: "in", Number: 2, Lag: 7, InFlight: 2, Stuck: "no model"}}
	if diff := cmp.Diff(want, v.Partitions); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	events := []page.Event{
		{Version: 4, Kind: page.EventFailed, Text: "failed at the gate golden: too <bad>"},
		{Version: 3, Kind: page.EventServing, Text: "answers the records"},
	}
	if diff := cmp.Diff(events, v.Timeline, cmpopts.IgnoreFields(page.Event{}, "At")); diff != "" {
		t.Errorf("time line (-want +got):\n%s", diff)
	}
	if m := v.Memory; m.Resident <= 0 || m.Go <= 0 || m.Resident != m.Go+m.Library+m.Model {
		t.Errorf("memory: %+v", m)
	}
	if !v.Ready || v.Model != "inception, version 3, sha256:abc" || v.Assumed != "pixels −1…1 are assumed" || v.Thumbnails || len(v.Versions) != 2 {
		t.Errorf("view: %+v", v)
	}
	driver.Revoked()
	if _, lag := s.metrics.stream.of.now(of(2)); lag != -1 || s.metrics.stream.of.lag() != -1 {
		t.Errorf("lag after the generation: %d", lag)
	}
}

// swapping lets a higher version serve each time that somebody asks.
type swapping struct {
	fakeModel
	version *atomic.Int64
}

func (s swapping) Versions() []model.Status {
	version := s.version.Add(1)
	runtime.Gosched() // others look meanwhile, if they may
	return []model.Status{{Version: version, State: model.StateServing, Label: model.LabelStable}}
}

// However many look at the versions at a time, the time line has the swaps in their order.
func TestLooksInOrder(t *testing.T) {
	s, _, _ := newSource(t, fakeModel{})
	s.versions = swapping{version: new(atomic.Int64)}
	var looking sync.WaitGroup
	for range 8 {
		looking.Go(func() {
			for range 100 {
				s.look(time.Now())
			}
		})
	}
	looking.Wait()
	events := s.history.timeline.Events()
	if !slices.IsSortedFunc(events, func(a, b page.Event) int { return gocmp.Compare(b.Version, a.Version) }) || len(events) != page.MaxEvents {
		t.Errorf("%d events: %v", len(events), events)
	}
}

// The agreement and the buttons of versions.
func TestVersionOnPage(t *testing.T) {
	s, _, _ := newSource(t, fakeModel{})
	s.comparer = &comparer{}
	for i := range 5 {
		s.comparer.agrees(3, true)
		s.comparer.agrees(4, i > 0)
	}
	s.comparer.agrees(4, true)
	s.metrics.PrecisionCompared("int8", 50, 49)
	for _, test := range []struct {
		name   string
		status model.Status
		want   page.Version
	}{
		{"stable", model.Status{Version: 3, Label: model.LabelStable, CanUse: true, CanRollBack: true}, page.Version{Number: 3, Label: "stable", CanRollBack: true}},
		{"stable, another precision is tried", model.Status{Version: 3, Label: model.LabelStable, Trying: "comparing int8"},
			page.Version{Number: 3, Label: "stable", Trying: "comparing int8", Compared: 50, Agreement: 0.98}},
		{"canary", model.Status{Version: 4, Label: model.LabelCanary, CanUse: true, Slowdown: 1.5}, page.Version{Number: 4, Label: "canary", CanUse: true, Slowdown: 1.5, Compared: 2, Agreement: 1}},
		{"another canary", model.Status{Version: 5, Label: model.LabelCanary}, page.Version{Number: 5, Label: "canary"}},
		{"neither", model.Status{Version: 4}, page.Version{Number: 4}},
	} {
		if diff := cmp.Diff(test.want, s.version(test.status)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	for name, over := range map[string]func(){
		"decided":                func() { s.metrics.PrecisionDecided("int8", "refused") },
		"another version serves": func() { s.metrics.VersionServing(4, true) },
	} {
		s.metrics.PrecisionCompared("int8", 50, 49)
		over()
		if v := s.version(model.Status{Version: 4, Label: model.LabelStable, Trying: "loading bfloat16"}); v.Compared != 0 {
			t.Errorf("%s: the next precision agrees before it is compared: %+v", name, v)
		}
	}
}

// Samples are of what the metrics count.
func TestCounts(t *testing.T) {
	s, h, driver := newSource(t, fakeModel{})
	driver.Committed(of(0), 5, 7)
	driver.Committed(of(2), 5, 1)
	for range 3 {
		if _, err := h.handle(t.Context(), record(png)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.handle(t.Context(), record([]byte{})); err != nil {
		t.Fatal(err)
	}
	s.metrics.BatchRun(3, infer.Run{Size: 4})
	s.metrics.BatchRun(3, infer.Run{Size: 8})
	want := history.Counts{Records: 4, DeadLetters: map[string]float64{"crashed": 0, "empty": 1}, Runs: 2, Images: 12, Lag: 8}
	if diff := cmp.Diff(want, s.metrics.counts()()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if p50, _ := s.metrics.records.latency.Take(); p50 < 95*time.Millisecond || p50 > 125*time.Millisecond {
		t.Errorf("latency %v, want about 108 ms", p50)
	}
}

// The history goes on whether somebody looks or not, and ends with the service.
func TestRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource(t, fakeModel{})
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { s.remember(ctx); close(done) }()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if n := len(s.Samples()); n != int(page.SampleSpan/page.SampleEvery) {
			t.Errorf("%d samples", n)
		}
		if v := s.View(); len(v.Timeline) != 2 || v.Now.Sub(v.Timeline[0].At) < 19*time.Minute || v.Now.Sub(v.Problems[0].Since) < 19*time.Minute {
			t.Errorf("view: %+v", v)
		}
		cancel()
		<-done
	})
}

func TestDetail(t *testing.T) {
	s, h, _ := newSource(t, fakeModel{})
	if _, err := h.handle(t.Context(), record(png)); err != nil {
		t.Fatal(err)
	}
	d, ok := s.Detail("in-2-4711")
	if !ok || d.Kcat != "kcat -C -b b:9092 -t in -p 2 -o 4711 -c 1 -e -f '%s'" || d.Thumbnail || len(d.Headers) != 5 || len(d.Classes) != 2 {
		t.Errorf("detail: %v %+v", ok, d)
	}
	if _, ok := s.Detail("in-2-1"); ok {
		t.Error("a record that never came has a detail")
	}
	for _, test := range []struct {
		mechanism string
		tls       bool
		want      string
	}{
		{"none", false, ""},
		{"none", true, " -X security.protocol=SSL"},
		{"PLAIN", true, " -X security.protocol=SASL_SSL -X sasl.mechanism=PLAIN"},
		{"SCRAM-SHA-256", false, " -X security.protocol=SASL_PLAINTEXT -X sasl.mechanism=SCRAM-SHA-256"},
	} {
		k := Kafka{Brokers: []string{"a:1", "b:2"}, SASL: SASL{Mechanism: test.mechanism, User: "u", Password: "secret"}, TLS: TLS{Enabled: test.tls}}
		if got, want := k.kcat(record(nil)), "kcat -C -b a:1,b:2 -t in -p 2 -o 4711 -c 1 -e -f '%s'"+test.want; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// An answer that is too large for the page is shown without its arrays.
func TestShortAnswer(t *testing.T) {
	p := with(localAnswer, func(p *infer.Prediction) { p.Output, p.Scores, p.Outputs = "scores", make([]float32, 1e5), arrays })
	const want = `{"id":"in-2-4711","model":"inception","version":3,"version_label":"stable",` + localJSON +
		`,"class":null,"score":null,"predictions":null,"outputs":null,"image":null,"timings_ms":{"wait":0.0,"decode":0.0,"infer":0.0}}`
	if diff := cmp.Diff(want, string(shortAnswer(nil, record(nil), p))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// With http.thumbnails, the answered pictures are on the page.
func TestPictures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h, _ := newSource(t, fakeModel{})
		s.thumbnails = thumbnail.New(s.metrics.modelRan, s.log)
		defer s.thumbnails.Close()
		h.thumbnails = s.thumbnails
		var b bytes.Buffer
		if err := stdpng.Encode(&b, image.NewGray(image.Rect(0, 0, 640, 480))); err != nil { // as fakeModel says
			t.Fatal(err)
		}
		if _, err := h.handle(t.Context(), record(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		empty := record(nil)
		empty.Offset++
		if _, err := h.handle(t.Context(), empty); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		v := s.View()
		if !v.Thumbnails || len(v.Pictures) != 1 || !v.Pictures[0].Thumbnail || v.Pictures[0].ID != "in-2-4711" {
			t.Errorf("pictures: %+v", v.Pictures)
		}
		if jpeg, ok := s.Thumbnail("in-2-4711"); !ok || !bytes.HasPrefix(jpeg, []byte("\xff\xd8")) {
			t.Error("there is no thumbnail")
		}
	})
}
