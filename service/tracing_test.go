package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
	"inceptor/service/tracing"
	"inceptor/service/tracing/tracingtest"
)

// newTracer returns a tracer by the standard variables, which exports each span soon.
func newTracer(t *testing.T, c *tracingtest.Collector, variables ...string) *tracing.Tracer {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	for i := 0; i < len(variables); i += 2 {
		t.Setenv(variables[i], variables[i+1])
	}
	tracer, err := tracing.FromEnvironment(t.Context(), "v1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracer.Close(context.Background()) })
	return tracer
}

// runTraced runs a service on topics of its own until the test ends.
func runTraced(t *testing.T, c Config, m Classifier) *Metrics {
	t.Helper()
	registry := prometheus.NewRegistry()
	metrics := NewMetrics(registry)
	s, err := New(c, m, metrics, registry, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return metrics
}

// traceparentOf returns the header that names a span.
func traceparentOf(s tracingtest.Span, flags string) string {
	return "00-" + s.Trace + "-" + s.ID + "-" + flags
}

const (
	senderTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	senderSpan  = "00f067aa0ba902b7"
)

// With every driver, a record's span is below that of its sender, and the spans of its steps below
// it. What is published names its own span, which ends when the brokers have acknowledged it. All
// other headers stay, baggage among them.
func TestTraces(t *testing.T) {
	for _, test := range []struct{ name, delivery, client string }{
		{"kafka-go", "at_least_once", "kafka-go"},
		{"franz-go", "at_least_once", franzGo},
		{"exactly once", exactlyOnce, franzGo},
	} {
		t.Run(test.name, func(t *testing.T) {
			collector := tracingtest.Start(t)
			broker, err := embedded.Start(0, 1, "in", "out", "dead")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(broker.Close)
			c := goodConfig()
			c.Kafka.Brokers, c.Kafka.Delivery, c.Kafka.Client, c.Kafka.Window = []string{broker.Addr()}, test.delivery, test.client, Window{Bytes: 1 << 20}
			c.Kafka.Transaction = Transaction{Interval: 20 * time.Millisecond, Records: 10, Timeout: 10 * time.Second}
			c.Crash.Journal, c.Shutdown.Timeout, c.Tracer = "off", 20*time.Second, newTracer(t, collector)
			metrics := runTraced(t, c, fakeModel{})

			headers := []kgo.RecordHeader{
				{Key: "a", Value: []byte("1")}, {Key: "traceparent", Value: []byte("00-" + senderTrace + "-" + senderSpan + "-01")},
				{Key: "tracestate", Value: []byte("x=1,y=2")}, {Key: "baggage", Value: []byte("user=7")},
			}
			send(t, broker.Addr(), &kgo.Record{Topic: "in", Value: png, Headers: headers}, &kgo.Record{Topic: "in", Value: []byte("\x00"), Headers: headers})
			read := receive(t, broker, "out", "dead")
			spans := collector.Await(t, func(spans []tracingtest.Span) bool { return len(spans) >= 6 })

			want := "process in                                        inceptor, consumer\n" +
				"├─ read                                           inceptor, internal\n" +
				"└─ send %-40s  inceptor, producer\n"
			for topic, children := range map[string]string{"out": "out", "dead": "dead"} {
				r := read[topic]
				sent := spans[slices.IndexFunc(spans, func(s tracingtest.Span) bool { return s.Name == "send "+topic })]
				process := spans[slices.IndexFunc(spans, func(s tracingtest.Span) bool { return s.ID == sent.Parent })]
				if process.Trace != senderTrace || process.Parent != senderSpan || sent.State != "x=1,y=2" || sent.Error != "" {
					t.Errorf("%s: got %+v below %+v", topic, sent, process)
				}
				got := ""
				for _, h := range r.Headers {
					if !strings.HasPrefix(h.Key, headerPrefix) {
						got += fmt.Sprintf("%s: %s\n", h.Key, h.Value)
					}
				}
				if wanted := "a: 1\nbaggage: user=7\ntracestate: x=1,y=2\ntraceparent: " + traceparentOf(sent, "01") + "\n"; got != wanted {
					t.Errorf("%s: got the headers\n%swant\n%s", topic, got, wanted)
				}
				below := slices.DeleteFunc(slices.Clone(spans), func(s tracingtest.Span) bool { return s.ID != process.ID && s.Parent != process.ID })
				for i := range below {
					if below[i].ID == process.ID {
						below[i].Parent = ""
					}
				}
				if got, want := tracingtest.Tree(below, senderTrace), fmt.Sprintf(want, children); got != want {
					t.Errorf("%s: got\n%swant\n%s", topic, got, want)
				}
			}
			checkDescribed(t, spans)
			if letter, err := ParseLetter(read["dead"]); err != nil || len(letter.Original.Headers) != 4 {
				t.Errorf("the dead letter: got %v, %v", letter.Original.Headers, err)
			}
			counted := func() float64 { return testutil.ToFloat64(metrics.spans.WithLabelValues(tracing.Exported)) }
			for end := time.Now().Add(patience); counted() < 6 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			} // when the collector has answered
			if n := counted(); n != 6 {
				t.Errorf("%v spans counted, want 6", n)
			}
		})
	}
}

// checkDescribed checks the attributes of an answer's span and of a dead letter's.
func checkDescribed(t *testing.T, spans []tracingtest.Span) {
	t.Helper()
	for _, s := range spans {
		want := map[string]string{"messaging.system": "kafka", "service.name": "inceptor", "service.version": "v1"}
		switch {
		case s.Name == "process in" && s.Error == "":
			want["inceptor.version"], want["inceptor.source"], want["messaging.kafka.offset"] = "3", "record", "0"
			want["messaging.operation.type"], want["messaging.consumer.group.name"] = "process", "g"
		case s.Name == "process in":
			want["error.type"], want["messaging.kafka.offset"] = "unknown-format", "1"
		case strings.HasPrefix(s.Name, "send"):
			want["messaging.operation.type"], want["messaging.destination.name"] = "send", strings.TrimPrefix(s.Name, "send ")
		default:
			continue
		}
		for name, value := range want {
			if s.Attributes[name] != value {
				t.Errorf("%s: %s is %q, want %q", s.Name, name, s.Attributes[name], value)
			}
		}
	}
}

// send writes records with their headers.
func send(t *testing.T, broker string, records ...*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// receive returns the first record of each topic.
func receive(t *testing.T, broker *embedded.Broker, topics ...string) map[string]stream.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	read := map[string]stream.Record{}
	err := broker.Follow(ctx, func(r stream.Record) bool {
		read[r.Topic] = r
		return len(read) < len(topics)
	}, topics...)
	if err != nil || len(read) < len(topics) {
		t.Fatalf("got %d records, %v", len(read), err)
	}
	return read
}

// Who sends no context, or a bad one, begins no trace that the sampler does not want, and readers
// are told. A sender's decision counts more.
func TestTracesAreSampledByTheParent(t *testing.T) {
	collector := tracingtest.Start(t)
	tracer := newTracer(t, collector, "OTEL_TRACES_SAMPLER", "parentbased_always_off")
	cfg, handle := tracer.Records(stream.Config{Observer: stream.Unobserved{}}, newHandler(t, fakeModel{}).handle, sendersHeaders)
	for i, test := range []struct{ name, header, want string }{
		{"none", "", "-00"},
		{"sampled", "00-" + senderTrace + "-" + senderSpan + "-01", senderTrace},
		{"not sampled", "00-" + senderTrace + "-" + senderSpan + "-00", "00-" + senderTrace},
		{"a later version", "cc-" + senderTrace + "-" + senderSpan + "-01-what-comes", senderTrace},
		{"noise", "\x00\xff", "-00"},
		{"no span", "00-" + senderTrace + "-0000000000000000-01", "-00"},
		{"too long", "cc-" + senderTrace + "-" + senderSpan + "-01-" + strings.Repeat("x", 1<<20), "-00"},
	} {
		r := record(png)
		r.Offset = int64(i)
		if test.header != "" {
			r.Headers = append(r.Headers, stream.Header{Key: "traceparent", Value: []byte(test.header)})
		}
		out, err := handle(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range out[0].Headers {
			if h.Key == "traceparent" {
				got = append(got, string(h.Value))
			}
		}
		if len(got) != 1 || len(got[0]) != 55 || !strings.Contains(got[0], test.want) {
			t.Errorf("%s: got %q, want one with %q", test.name, got, test.want)
		}
		if len(r.Headers) > 2 && string(r.Headers[2].Value) != test.header {
			t.Errorf("%s: the input's headers were changed", test.name)
		}
	}
	cfg.Observer.Delivered(record(nil).Source(), 0, 6)
	tracer.Close(t.Context())
	if spans := collector.Spans(); len(spans) != 6 {
		t.Errorf("got %d spans, want 3 of each of two records: %+v", len(spans), spans)
	}
}

// refusals are outputs that no broker takes, or that are not acknowledged.
func TestTracesOfRefusedOutputs(t *testing.T) {
	collector := tracingtest.Start(t)
	tracer := newTracer(t, collector)
	h := newHandler(t, fakeModel{})
	c := stream.Config{Observer: stream.Unobserved{}, ReplaceRefused: h.replaceRefused}
	c.OnFailure = func(_ context.Context, r stream.Record, _ time.Duration, err error) ([]stream.Record, bool) {
		return []stream.Record{deadLetter(r, "dead", ReasonGivenUp, err)}, true
	}
	cfg, handle := tracer.Records(c, h.handle, sendersHeaders)
	in := record(png)
	in.Headers = append(in.Headers, stream.Header{Key: "traceparent", Value: []byte("00-" + senderTrace + "-" + senderSpan + "-01")})
	out, err := handle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := cfg.ReplaceRefused(in, out[0], errors.New("too large"))
	if err != nil {
		t.Fatal(err)
	}
	short, err := cfg.ReplaceRefused(in, letter, errors.New("still too large")) // keeps its trace
	if err != nil {
		t.Fatal(err)
	}
	cfg.Observer.Delivered(in.Source(), in.Offset, in.Offset)
	in.Offset++
	given, ok := cfg.OnFailure(t.Context(), in, time.Hour, errors.New("no version is serving"))
	if !ok {
		t.Fatal("it was not given up")
	}
	cfg.Observer.Revoked()
	tracer.Close(t.Context())
	spans := collector.Spans()
	want := "process in                                        inceptor, consumer\n" +
		"├─ read                                           inceptor, internal\n" +
		"└─ send out                                       inceptor, producer\n" +
		"   └─ send dead                                   inceptor, producer\n" +
		"process in                                        inceptor, consumer\n" +
		"└─ send dead                                      inceptor, producer\n"
	var refused, dead, late tracingtest.Span
	for i, s := range spans {
		switch {
		case s.Parent == senderSpan:
			spans[i].Parent = ""
		case s.Name == "send out":
			refused = s
		case s.Error == "" && s.Name == "send dead":
			dead = s
		case s.Name == "send dead":
			late = s
		}
	}
	if got := tracingtest.Tree(spans, senderTrace); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if refused.Error != "too large" || !strings.Contains(late.Error, "generation") {
		t.Errorf("got the status %q and %q", refused.Error, late.Error)
	}
	for name, check := range map[string]struct {
		headers []stream.Header
		want    tracingtest.Span
	}{"letter": {letter.Headers, dead}, "shortened": {short.Headers, dead}, "given up": {given[0].Headers, late}} {
		i := slices.IndexFunc(check.headers, func(h stream.Header) bool { return h.Key == "traceparent" })
		if i < 0 || string(check.headers[i].Value) != traceparentOf(check.want, "01") {
			t.Errorf("%s: got %s, want %s", name, check.headers, traceparentOf(check.want, "01"))
		}
	}
}

// shadowed is a model whose shadow answers too.
type shadowed struct{ fakeModel }

func (shadowed) Secondary() string { return model.LabelShadow }

func (shadowed) ClassifyAs(ctx context.Context, label string, _ []byte) (infer.Prediction, error) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return infer.Prediction{}, errors.New("the context has no span")
	}
	p, err := fakeModel{}.Classify(ctx, nil, nil)
	p.Label = label
	return p, err
}

// answersSlowly is a shadow that answers once it is told to.
type answersSlowly struct {
	shadowed
	asked, answer chan struct{}
}

func (m answersSlowly) ClassifyAs(ctx context.Context, label string, image []byte) (infer.Prediction, error) {
	m.asked <- struct{}{}
	<-m.answer
	return m.shadowed.ClassifyAs(ctx, label, image)
}

// At a stop, the spans of comparisons that wait end too.
func TestTraceOfAStoppedShadow(t *testing.T) {
	collector := tracingtest.Start(t)
	tracer := newTracer(t, collector)
	h := newHandler(t, shadowed{})
	m := answersSlowly{asked: make(chan struct{}, 3), answer: make(chan struct{})}
	h.comparer = newComparer(m, 1, "", nil, h.metrics.compared, slog.New(slog.DiscardHandler))
	cfg, handle := tracer.Records(stream.Config{Observer: stream.Unobserved{}}, h.handle, sendersHeaders)
	for offset := range int64(3) { // one is asked, and two wait
		r := record(png)
		r.Offset = offset
		if _, err := handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if offset == 0 {
			<-m.asked
		}
	}
	cfg.Observer.Delivered(record(nil).Source(), 0, 2)
	h.comparer.stop() // before the worker is free
	close(m.answer)
	h.comparer.close()
	tracer.Close(t.Context())
	got := map[string]int{}
	for _, s := range collector.Spans() {
		if s.Name == "compare" {
			got[s.Error]++
		}
	}
	if got[errStopped.Error()] != 2 || len(got) != 2 || h.comparer.bytes.Load() != 0 {
		t.Errorf("got %v, and %d bytes are held", got, h.comparer.bytes.Load())
	}
}

// A shadow's answer is part of the trace, though it is asked when the record has its answer.
func TestTraceOfAShadow(t *testing.T) {
	collector := tracingtest.Start(t)
	tracer := newTracer(t, collector)
	published := make(chan stream.Record, 1)
	publish := tracer.Publish(func(_ context.Context, r stream.Record) error { published <- r; return nil })
	h := newHandler(t, shadowed{})
	h.comparer = newComparer(shadowed{}, 1, "shadow", publish, h.metrics.compared, slog.New(slog.DiscardHandler))
	cfg, handle := tracer.Records(stream.Config{Observer: stream.Unobserved{}}, h.handle, sendersHeaders)
	in := record(png)
	in.Headers = append(in.Headers, stream.Header{Key: "traceparent", Value: []byte("00-" + senderTrace + "-" + senderSpan + "-01")})
	if _, err := handle(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	cfg.Observer.Delivered(in.Source(), in.Offset, in.Offset)
	r := <-published
	h.comparer.close()
	tracer.Close(t.Context())
	spans := collector.Spans()
	named := func(name string) tracingtest.Span {
		i := slices.IndexFunc(spans, func(s tracingtest.Span) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("no %s: %+v", name, spans)
		}
		return spans[i]
	}
	sent, compare := named("send shadow"), named("compare")
	if sent.Parent != compare.ID || compare.Parent != named("process in").ID || compare.Error != "" {
		t.Errorf("got %+v below %+v", sent, compare)
	}
	last := r.Headers[len(r.Headers)-1]
	if last.Key != "traceparent" || string(last.Value) != traceparentOf(sent, "01") || bytes.Count(fmt.Append(nil, r.Headers), []byte("traceparent")) != 1 {
		t.Errorf("got the headers %s", r.Headers)
	}
}
