package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/internal/recent"
	"inceptor/service/stream"
)

// fakeModel answers every image alike, or with an error.
type fakeModel struct{ err error }

func (f fakeModel) Classify(context.Context, []byte, []byte) (infer.Prediction, error) {
	if f.err != nil {
		return infer.Prediction{}, f.err
	}
	return infer.Prediction{
		Info:    infer.Info{Model: "inception", Version: 3, Digest: "sha256:abc"},
		Backend: "local", Label: model.LabelStable, Precision: "float32",
		Classes: []infer.Class{{Label: "Neutral <&>", Index: 2, Score: 0.9997}, {Index: 0, Score: 0.0003}},
		Image:   infer.Header{Format: "png", Width: 640, Height: 480},
		Timings: infer.Timings{Wait: 1234567 * time.Nanosecond, Decode: 3 * time.Millisecond, Infer: 104 * time.Millisecond},
	}, nil
}

func (f fakeModel) Serving() (infer.Info, error) {
	return infer.Info{Model: "inception", Version: 3, Digest: "sha256:abc"}, f.err
}

func (f fakeModel) Wait(context.Context) error { return f.err }

func (fakeModel) Secondary() string { return "" }
func (fakeModel) MaxBatch() int     { return 1 }

func (f fakeModel) ClassifyAs(context.Context, string, []byte) (infer.Prediction, error) {
	return infer.Prediction{}, model.ErrNoVersion
}

func (f fakeModel) Use(context.Context, int64) error { return f.err }

func (f fakeModel) UseHighest(context.Context) error { return f.err }

func (f fakeModel) Blame(int64) bool                                { return false }
func (f fakeModel) Rollback(context.Context, *int64) (int64, error) { return 3, f.err }

func (fakeModel) Versions() []model.Status {
	return []model.Status{
		{Version: 4, State: model.StateFailed, Gate: infer.GateGolden, Reason: "too <bad>"},
		{Version: 3, State: model.StateServing, Label: model.LabelStable, Digest: "sha256:abc", Assumed: "pixels −1…1 are assumed"},
	}
}

func newHandler(t testing.TB, m Classifier) *handler {
	t.Helper()
	r, err := input.New(settings.Default[input.Config]())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &handler{
		input: r, classifier: m, output: "out", deadLetter: "dead",
		metrics: NewMetrics(prometheus.NewRegistry()).records, recent: &recent.Records{Shorten: shortAnswer}, queue: newFairQueue(limitOf(maxRecordsInModel)), log: slog.New(slog.DiscardHandler),
	}
}

// observing is what a driver tells.
func observing(m *Metrics, j *journal) observer {
	return observer{m.stream, m.ready, j, &recent.Records{}, nil, drainCheck{imageTook: m.imageTime, log: slog.New(slog.DiscardHandler)}}
}

var png = []byte("\x89PNG\r\n\x1a\n and so on")

func record(value []byte) stream.Record {
	return stream.Record{
		Topic: "in", Partition: 2, Offset: 4711, Key: []byte("k"), Value: value,
		Headers: []stream.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}},
		Time:    time.UnixMilli(1_790_000_000_000),
	}
}

func TestAnswer(t *testing.T) {
	h := newHandler(t, fakeModel{})
	in := record(png)
	out, err := h.handle(t.Context(), in)
	if err != nil || len(out) != 1 {
		t.Fatalf("got %v, %v", out, err)
	}
	want := stream.Record{
		Topic: "out", Key: in.Key, Time: in.Time,
		Headers: append(slices.Clone(in.Headers),
			stream.Header{Key: "inceptor-format", Value: []byte("2")},
			stream.Header{Key: "inceptor-id", Value: []byte("in-2-4711")},
			stream.Header{Key: "inceptor-model", Value: []byte("inception/3")}),
		Value: []byte(`{"id":"in-2-4711","model":"inception","version":3,"version_label":"stable","digest":"sha256:abc",` +
			`"precision":"float32","backend":"local","server":null,"fallback_reason":null,"wanted_version":null,` +
			`"class":"Neutral <&>","score":0.9997,` +
			`"predictions":[{"label":"Neutral <&>","index":2,"score":0.9997},{"label":null,"index":0,"score":0.0003}],"outputs":null,` +
			`"image":{"source":null,"format":"png","width":640,"height":480},` +
			`"timings_ms":{"wait":1.235,"decode":3.0,"infer":104.0}}`),
	}
	if diff := cmp.Diff(want, out[0]); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if len(in.Headers) != 2 {
		t.Error("the input's headers were changed")
	}
}

func TestDeadLetter(t *testing.T) {
	for _, test := range []struct {
		name   string
		value  []byte
		model  error
		reason string
	}{
		{"no value", nil, nil, "empty"},
		{"noise", []byte("\x00\x01"), nil, "unknown-format"},
		{"path", []byte("/etc/passwd"), nil, "path-not-allowed"},
		{"URL", []byte("http://169.254.169.254/latest/meta-data"), nil, "url-not-allowed"},
		{"undecodable", png, &infer.InputError{Reason: infer.ReasonUndecodable, Err: errors.New("bad")}, "undecodable"},
		{"wrapped", png, fmt.Errorf("why: %w", &infer.InputError{Reason: infer.ReasonUndecodable, Err: errors.New("bad")}), "undecodable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHandler(t, fakeModel{test.model})
			in := record(test.value)
			out, err := h.handle(t.Context(), in)
			if err != nil || len(out) != 1 {
				t.Fatalf("got %v, %v", out, err)
			}
			got := map[string]string{}
			for _, header := range out[0].Headers[len(in.Headers):] {
				got[header.Key] = string(header.Value)
			}
			if got["inceptor-error"] == "" {
				t.Error("no error told")
			}
			delete(got, "inceptor-error")
			want := map[string]string{
				"inceptor-reason": test.reason, "inceptor-id": "in-2-4711",
				"inceptor-topic": "in", "inceptor-partition": "2", "inceptor-offset": "4711",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if r := out[0]; r.Topic != "dead" || string(r.Value) != string(in.Value) || string(r.Key) != "k" || !r.Time.Equal(in.Time) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// What does not blame the record is tried again.
func TestHandlerError(t *testing.T) {
	h := newHandler(t, fakeModel{model.ErrNoVersion})
	if out, err := h.handle(t.Context(), record(png)); !errors.Is(err, model.ErrNoVersion) || out != nil {
		t.Errorf("got %v, %v", out, err)
	}
}

// A dead letter without a key gets its id as the key where the topic is
// compacted, and stays whole otherwise; a replay takes the key off again.
func TestKeylessLetter(t *testing.T) {
	h := newHandler(t, fakeModel{})
	in := record([]byte("\x00"))
	in.Key = nil
	out, err := h.handle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	refusal := fmt.Errorf("publish to dead: %w", stream.ErrKeyless)
	letter, err := h.replaceRefused(in, out[0], refusal)
	if err != nil || string(letter.Key) != "in-2-4711" || valueOf(letter, headerAddedKey) != "true" {
		t.Fatalf("key %q, headers %v, %v", letter.Key, letter.Headers, err)
	}
	l, err := ParseLetter(letter)
	if d := cmp.Diff(in, l.Original); err != nil || l.Truncated || d != "" {
		t.Errorf("it is read as %+v, %v\n%s", l, err, d)
	}
	again := letter
	for range 2 { // it is too large as well
		if again, err = h.replaceRefused(in, again, errors.New("too large")); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := ParseLetter(again); err != nil || string(again.Key) != "in-2-4711" || !l.Truncated || l.Original.Key != nil || len(l.Original.Headers) > 0 {
		t.Errorf("shortened: key %q, read as %+v, %v", again.Key, l, err)
	}
	if _, err := h.replaceRefused(in, again, errors.New("too large")); err == nil {
		t.Error("there is something smaller than the smallest")
	}
}

// What the broker does not take becomes smaller until it is taken, whatever the
// sender has made large, and tells what is left out.
func TestRefused(t *testing.T) {
	large := make([]byte, 900_000)
	for name, test := range map[string]struct {
		key     []byte
		headers []stream.Header
		left    string // of the key, in the smallest letter
		told    map[string]string
	}{
		"large value":   {nil, nil, "in-2-4711", map[string]string{"inceptor-truncated": fmt.Sprint(len(png)), "inceptor-truncated-key": "0"}},
		"empty key":     {[]byte{}, nil, "in-2-4711", map[string]string{"inceptor-truncated-key": "0"}},
		"large header":  {[]byte("k"), []stream.Header{{Key: "big", Value: large}}, "k", map[string]string{"inceptor-truncated-headers": "900003", "inceptor-truncated-key": "1"}},
		"many headers":  {[]byte("k"), make([]stream.Header, 100_000), "k", map[string]string{"inceptor-truncated-headers": "0"}},
		"their own":     {[]byte("k"), []stream.Header{header("inceptor-truncated-key", "7")}, "k", map[string]string{"inceptor-truncated-key": "1"}},
		"large key":     {bytes.Repeat([]byte("k"), 3<<20), nil, strings.Repeat("k", 256), map[string]string{"inceptor-truncated-key": fmt.Sprint(3 << 20)}},
		"all are large": {large, []stream.Header{{Key: string(large)}}, string(large[:256]), map[string]string{"inceptor-truncated-key": "900000"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, fakeModel{})
			in := record(png)
			in.Key, in.Headers = test.key, test.headers
			out, err := h.handle(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			reason := fmt.Errorf("too large: %s", strings.Repeat("x", 5000))
			whole, err := h.replaceRefused(in, out[0], reason)
			if err != nil || whole.Topic != "dead" || string(whole.Value) != string(png) || len(whole.Headers) != len(sendersHeaders(in.Headers))+6 {
				t.Fatalf("an answer that is refused: got %v, %v", whole.Topic, err)
			}
			bare, err := h.replaceRefused(in, whole, reason)
			if err != nil || bare.Value != nil || !bytes.Equal(bare.Key, in.Key) || len(bare.Headers) > 8 {
				t.Fatalf("a dead letter that is refused: got %d headers, %v", len(bare.Headers), err)
			}
			least, err := h.replaceRefused(in, bare, reason)
			if err != nil || string(least.Key) != test.left || least.Size() > 1536 {
				t.Fatalf("a dead letter without its value that is refused: got %d bytes, key %.300q, %v", least.Size(), least.Key, err)
			}
			for key, want := range test.told {
				if !slices.ContainsFunc(least.Headers, func(h stream.Header) bool { return h.Key == key && string(h.Value) == want }) {
					t.Errorf("no header %s: %s in %q", key, want, least.Headers)
				}
			}
			for _, letter := range []stream.Record{bare, least} {
				l, err := ParseLetter(letter)
				if err != nil || !l.Truncated || l.ID != "in-2-4711" || l.Reason != ReasonRefused || len(l.Original.Headers) > 0 {
					t.Errorf("it is read as %+v, %v", l, err)
				}
			}
			if _, err := h.replaceRefused(in, least, reason); err == nil {
				t.Error("there is something smaller than the smallest")
			}
		})
	}
}

// A batch that is not read has one dead letter, which tells of all its records
// and is not sent back.
func TestUnread(t *testing.T) {
	h := newHandler(t, fakeModel{})
	out := h.replaceUnread(1000)(stream.Batch{Topic: "in", Partition: 2, First: 7, Last: 9})
	if len(out) != 1 || out[0].Topic != "dead" || out[0].Value != nil || out[0].Key != nil {
		t.Fatalf("got %+v", out)
	}
	for _, letter := range out {
		for {
			l, err := ParseLetter(letter)
			if err != nil || l.ID != "in-2-7" || l.Reason != ReasonUnreadBatch || !l.Truncated {
				t.Errorf("it is read as %+v, %v", l, err)
			}
			if !slices.ContainsFunc(letter.Headers, func(h stream.Header) bool { return h.Key == headerLastOffset && string(h.Value) == "9" }) {
				t.Errorf("no last offset in %q", letter.Headers)
			}
			source := stream.Record{Topic: "in", Partition: 2, Offset: 9} // that stands for it
			if letter, err = h.replaceRefused(source, letter, errors.New("too large")); err != nil {
				break
			}
		}
	}
}

// A dead letter whose time is not taken gets another one, and stays whole.
func TestRefusedTime(t *testing.T) {
	h := newHandler(t, fakeModel{})
	in := record([]byte("\x00"))
	in.Time = time.Now().Add(48 * time.Hour)
	out, err := h.handle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := h.replaceRefused(in, out[0], fmt.Errorf("publish: %w", stream.ErrInvalidTime))
	if err != nil || string(letter.Value) != "\x00" || time.Since(letter.Time).Abs() > time.Minute {
		t.Fatalf("got %+v, %v", letter, err)
	}
	now := letter
	letter.Time = out[0].Time
	if diff := cmp.Diff(out[0], letter); diff != "" {
		t.Errorf("more than its time has changed (-want +got):\n%s", diff)
	}
	// A broker whose clock is wrong takes no time of now either.
	for range 3 {
		if now, err = h.replaceRefused(in, now, fmt.Errorf("publish: %w", stream.ErrInvalidTime)); err != nil {
			return
		}
	}
	t.Error("a topic that takes no time at all is never given up")
}

// of is a partition of the topic "in".
func of(id int) stream.Partition { return stream.Partition{Topic: "in", ID: id} }

func TestHTTP(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry)
	driver := observing(metrics, nil)
	s := &Service{
		config:  Config{Kafka: Kafka{Input: []string{"in"}, Output: "out"}},
		metrics: metrics, recent: &recent.Records{Shorten: shortAnswer}, registry: registry, classifier: fakeModel{}, versions: fakeModel{}, started: time.Now(),
	}
	registry.MustRegister(NewModelInfo(s.classifier))
	get := func(path string) (int, string) {
		t.Helper()
		rec := httptest.NewRecorder()
		s.routes().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://localhost:8080"+path, nil))
		return rec.Code, rec.Body.String()
	}
	ready := func() (int, Readiness) {
		t.Helper()
		code, body := get("/readyz")
		var r Readiness
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		return code, r
	}

	if code, body := get("/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, r := ready(); code != 503 || r.Ready || len(r.Reasons) != 1 {
		t.Errorf("not assigned: %d %+v", code, r)
	}
	driver.Assigned([]stream.Partition{of(0), of(2)})
	driver.Retrying(of(2), stream.Handling, errors.New("no model"))
	if code, r := ready(); code != 200 || !r.Ready || fmt.Sprint(r.Partitions) != "[in-0 in-2]" || r.Retrying["in-2"] != "no model" {
		t.Errorf("assigned: %d %+v", code, r)
	}
	driver.Retrying(of(0), stream.Handling, errors.New("no model"))
	if code, r := ready(); code != 503 || len(r.Retrying) != 2 {
		t.Errorf("all partitions are stuck: %d %+v", code, r)
	}
	driver.Retrying(of(0), stream.Handling, nil)
	driver.Retrying(of(2), stream.Publishing, errors.New("refused"))
	if _, r := ready(); r.Retrying["in-2"] != "no model; refused" {
		t.Errorf("stuck twice: %+v", r)
	}
	driver.Retrying(of(2), stream.Handling, nil)
	if _, r := ready(); r.Retrying["in-2"] != "refused" {
		t.Errorf("another record is handled: %+v", r)
	}
	s.stream.TotalBytes = 64 << 20
	if _, body := get("/"); strings.Contains(body, "Fetching") {
		t.Errorf("nothing waits: %s", body)
	}
	driver.Buffered(63<<20, 3)
	if _, body := get("/"); !strings.Contains(body, "3 partitions wait: the records in memory take 63 of the 64 MiB") {
		t.Errorf("fetching waits: %s", body)
	}
	s.classifier = fakeModel{err: model.ErrNoVersion}
	if code, r := ready(); code != 503 || !slices.Equal(r.Reasons, []string{model.ErrNoVersion.Error()}) {
		t.Errorf("no version: %d %+v", code, r)
	}

	driver.Committed(of(2), 5, 7)
	s.recent.DeadLetter(record(nil), "undecodable", errors.New("<script>"), stream.Record{})
	if code, body := get("/"); code != 200 || !strings.Contains(body, "in-2-4711") || !strings.Contains(body, "in-2 is stuck: refused") || strings.Contains(body, "<script>") {
		t.Errorf("page: %d %s", code, body)
	}
	if _, body := get("/"); !strings.Contains(body, "pixels −1…1 are assumed") {
		t.Errorf("the page does not tell what is assumed: %s", body)
	}
	if code, _ := get("/other"); code != 404 {
		t.Errorf("/other: %d", code)
	}
	if code, body := get("/models"); code != 200 || !strings.Contains(body, `"version":4,"state":"failed","gate":"golden"`) {
		t.Errorf("/models: %d %s", code, body)
	}
	_, body := get("/metrics")
	for _, want := range []string{
		`inceptor_lag_records{partition="2",topic="in"} 7`, `inceptor_assigned_partitions 2`, `inceptor_stuck_partitions 1`,
		`inceptor_committed_offset{partition="2",topic="in"} 5`,
		`inceptor_stuck_partition{partition="2",reason="publish",stage="publishing",topic="in"} 1`,
		`inceptor_model_info{digest="sha256:abc",model="inception",version="3"} 1`, `inceptor_live_tensors 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("/metrics does not hold %s", want)
		}
	}
	driver.Retrying(of(2), stream.Publishing, nil)
	driver.Revoked()
	if _, body = get("/metrics"); strings.Contains(body, "inceptor_lag_records{") || !strings.Contains(body, "inceptor_stuck_partitions 0\n") {
		t.Errorf("after the generation: %s", body)
	}
}
