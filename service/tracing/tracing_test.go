package tracing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"inceptor/internal/span"
	"inceptor/service/tracing/tracingtest"
)

// What the variables ask for; a mistake is an error that names the variable.
func TestReadEnvironment(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"
	on := environment{on: true, protocol: overHTTP, endpoint: "collector:4318", queue: defaultQueue}
	with := func(change func(*environment)) environment {
		e := on
		change(&e)
		return e
	}
	for _, test := range []struct {
		name, variables string
		want            environment
		problem         string
	}{
		{"nothing", "", environment{}, ""},
		{"other variables only", "OTEL_SERVICE_NAME=x OTEL_TRACES_SAMPLER=nonsense", environment{}, ""},
		{"an endpoint", endpoint, on, ""},
		{"an endpoint for traces", "OTEL_EXPORTER_OTLP_ENDPOINT=nonsense OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://collector:4318", on, ""},
		{"off", endpoint + " OTEL_TRACES_EXPORTER=none", environment{}, ""},
		{"disabled", endpoint + " OTEL_SDK_DISABLED=true", environment{}, ""},
		{"an exporter", "OTEL_TRACES_EXPORTER=otlp", with(func(e *environment) { e.endpoint = "localhost" }), ""},
		{"another exporter", "OTEL_TRACES_EXPORTER=zipkin", environment{}, `OTEL_TRACES_EXPORTER: "zipkin"`},
		{"gRPC", endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc", with(func(e *environment) { e.protocol = overGRPC }), ""},
		{"gRPC for traces", endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=x OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", with(func(e *environment) { e.protocol = overGRPC }), ""},
		{"another protocol", endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=http/json", environment{}, `OTEL_EXPORTER_OTLP_PROTOCOL: "http/json"`},
		{"no scheme", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317", environment{}, "OTEL_EXPORTER_OTLP_ENDPOINT: want http://"},
		{"no URL", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a:secret@b:c", environment{}, "OTEL_EXPORTER_OTLP_ENDPOINT: want http://"},
		{"a sampler", endpoint + " OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.01", on, ""},
		{"another sampler", endpoint + " OTEL_TRACES_SAMPLER=jaeger_remote", environment{}, `OTEL_TRACES_SAMPLER: "jaeger_remote"`},
		{"a ratio", endpoint + " OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=10", environment{}, `OTEL_TRACES_SAMPLER_ARG: "10"`},
		{"no number", endpoint + " OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=NaN", environment{}, `OTEL_TRACES_SAMPLER_ARG: "NaN"`},
		{"a queue", endpoint + " OTEL_BSP_MAX_QUEUE_SIZE=7", with(func(e *environment) { e.queue = 7 }), ""},
		{"no queue", endpoint + " OTEL_BSP_MAX_QUEUE_SIZE=0", environment{}, `OTEL_BSP_MAX_QUEUE_SIZE: "0"`},
		{"a huge queue", endpoint + " OTEL_BSP_MAX_QUEUE_SIZE=1e9", environment{}, `OTEL_BSP_MAX_QUEUE_SIZE: "1e9"`},
		{"propagators", endpoint + " OTEL_PROPAGATORS=tracecontext,baggage", on, ""},
		{"a delay", endpoint + " OTEL_BSP_SCHEDULE_DELAY=50 OTEL_BSP_EXPORT_TIMEOUT=0 OTEL_BSP_MAX_EXPORT_BATCH_SIZE=2048", on, ""},
		{"no delay", endpoint + " OTEL_BSP_SCHEDULE_DELAY=0", environment{}, `OTEL_BSP_SCHEDULE_DELAY: "0" is no number from 1`},
		{"a batch above the queue", endpoint + " OTEL_BSP_MAX_QUEUE_SIZE=7 OTEL_BSP_MAX_EXPORT_BATCH_SIZE=8", environment{}, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "8" is no number from 1 to 7`},
		{"no time", endpoint + " OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=-1", environment{}, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "-1"`},
		{"no limit", endpoint + " OTEL_SPAN_LINK_COUNT_LIMIT=-1 OTEL_ATTRIBUTE_COUNT_LIMIT=0", on, ""},
		{"words", endpoint + " OTEL_SDK_DISABLED=False OTEL_EXPORTER_OTLP_INSECURE=TRUE OTEL_EXPORTER_OTLP_COMPRESSION=gzip OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=none", on, ""},
		{"disabled perhaps", endpoint + " OTEL_SDK_DISABLED=1", environment{}, `OTEL_SDK_DISABLED: "1" is none of true, false`},
		{"a pair", endpoint + " OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=a OTEL_EXPORTER_OTLP_CLIENT_KEY=b", on, ""},
		{"no key", endpoint + " OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=a", environment{}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: needs OTEL_EXPORTER_OTLP_CLIENT_KEY"},
		{"no certificate", endpoint + " OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY=b", environment{}, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: needs"},
		{"another propagator", endpoint + " OTEL_PROPAGATORS=tracecontext,b3", environment{}, `OTEL_PROPAGATORS: "b3"`},
	} {
		variables := map[string]string{}
		for v := range strings.FieldsSeq(test.variables) {
			name, value, _ := strings.Cut(v, "=")
			variables[name] = value
		}
		got, err := readEnvironment(func(name string) string { return variables[name] })
		switch {
		case test.problem == "" && (err != nil || got != test.want):
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, test.want)
		case test.problem != "" && (err == nil || !strings.HasPrefix(err.Error(), test.problem) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: got %v, want %s", test.name, err, test.problem)
		}
	}
}

// Mistakes in variables that only OpenTelemetry's SDK reads are errors too, also where the SDK goes
// on with its default.
func TestMistakesThatTheSDKFinds(t *testing.T) {
	mistakes := map[string][2]string{
		"OTEL_EXPORTER_OTLP_TIMEOUT":            {"10s", "OTEL_EXPORTER_OTLP_TIMEOUT: "},
		"OTEL_EXPORTER_OTLP_HEADERS":            {"token", "parse headers"},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":        {"/nowhere.pem", "/nowhere.pem"},
		"OTEL_RESOURCE_ATTRIBUTES":              {"a", "missing value"},
		"OTEL_BSP_SCHEDULE_DELAY":               {"5s", "OTEL_BSP_SCHEDULE_DELAY: "},
		"OTEL_BSP_EXPORT_TIMEOUT":               {" 5", "OTEL_BSP_EXPORT_TIMEOUT: "},
		"OTEL_BSP_MAX_EXPORT_BATCH_SIZE":        {"x", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "},
		"OTEL_EXPORTER_OTLP_COMPRESSION":        {"zip", "OTEL_EXPORTER_OTLP_COMPRESSION: "},
		"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": {"GZIP", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: "},
		"OTEL_EXPORTER_OTLP_INSECURE":           {"1", "OTEL_EXPORTER_OTLP_INSECURE: "},
		"OTEL_EXPORTER_OTLP_TRACES_INSECURE":    {"maybe", "OTEL_EXPORTER_OTLP_TRACES_INSECURE: "},
	}
	for _, name := range limits {
		mistakes[name] = [2]string{"x", name + ": "}
	}
	for name, test := range mistakes {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(name, test[0])
			tracer, err := FromEnvironment(t.Context(), "v1", slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test[1]) {
				t.Errorf("got %v, want %s", err, test[1])
			}
			tracer.Close(t.Context())
		})
	}
}

// A run keeps its links to all records of its batch, unless a variable sets a limit.
func TestLinksOfALargeBatch(t *testing.T) {
	const batch = 256
	for limit, want := range map[string]int{"": batch, "9": 9} {
		collector := tracingtest.Start(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.HTTP())
		t.Setenv(linkLimit, limit)
		tracer, err := FromEnvironment(t.Context(), "v1", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		steps := make([]span.Span, batch)
		for i := range steps {
			ctx, _ := tracer.tracer.Start(t.Context(), "batch")
			steps[i] = span.Of(ctx)
		}
		_, run := span.Join("run", steps)
		run.End(nil)
		for _, s := range steps {
			s.End(nil)
		}
		tracer.Close(t.Context())
		linked := map[string]bool{}
		spans := collector.Spans()
		joint := spans[slices.IndexFunc(spans, func(s tracingtest.Span) bool { return s.Name == "run" })]
		for _, l := range joint.Links {
			linked[l] = true
		}
		found := 0
		for _, s := range spans {
			if s.Name == "batch" && linked[s.ID] {
				found++
			}
		}
		if len(spans) != batch+1 || found != want || want == batch && !linked[joint.Parent] {
			t.Errorf("limit %q: %d of %d spans are linked, want %d, the parent %t", limit, found, len(spans)-1, want, linked[joint.Parent])
		}
	}
}

// Both protocols reach the collector, with the headers and the resource that the variables ask for.
func TestProtocols(t *testing.T) {
	for _, protocol := range []string{overGRPC, overHTTP} {
		collector := tracingtest.Start(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", map[string]string{overGRPC: collector.GRPC(), overHTTP: collector.HTTP()}[protocol])
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "token=a%20b")
		t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
		tracer, err := FromEnvironment(t.Context(), "v1", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, s := tracer.tracer.Start(t.Context(), "x")
		s.End()
		tracer.Close(t.Context())
		spans := collector.Spans()
		if len(spans) != 1 || spans[0].Attributes["deployment.environment.name"] != "test" || spans[0].Service != "inceptor" {
			t.Errorf("%s: got %+v", protocol, spans)
		}
		if got := collector.Headers().Get("token"); protocol == overHTTP && got != "a b" {
			t.Errorf("got the token %q", got)
		}
	}
}

// A counter counts what became of spans.
type counter struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counter) count(result string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[result] += n
}

func (c *counter) of(result string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[result]
}

// stuck is a collector that takes no span until it is released.
type stuck struct{ release chan struct{} }

func (s stuck) ExportSpans(ctx context.Context, _ []sdk.ReadOnlySpan) error {
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (stuck) Shutdown(context.Context) error { return nil }

// While the collector is stuck, spans wait within the queue's bound, and those beyond it are
// dropped. Nobody waits for them, and a stop gives up when its time is over.
func TestStuckCollector(t *testing.T) {
	const limit, made = 10, 35
	collector := stuck{make(chan struct{})}
	defer close(collector.release)
	log := &bytes.Buffer{}
	tracer := newTracerWith(collector, limit, resource.Empty(), slog.New(slog.NewTextHandler(log, nil)))
	counts := &counter{n: map[string]int{}}
	tracer.OnSpans(counts.count)
	for range made {
		_, s := tracer.tracer.Start(t.Context(), "x")
		s.End()
	}
	if n := counts.of(Dropped); n != made-limit {
		t.Errorf("%d spans dropped, want %d", n, made-limit)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	tracer.Close(over)
	if !strings.Contains(log.String(), "the last spans are not exported") || !strings.Contains(log.String(), "spans=10") {
		t.Errorf("got the log %s", log)
	}
}

// refusing is a collector that may refuse spans.
type refusing struct{ err error }

func (r *refusing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return r.err }
func (*refusing) Shutdown(context.Context) error                          { return nil }

// An outage of the collector is logged once, and so is its end; each span is counted.
func TestOutageIsLoggedOnce(t *testing.T) {
	log := &bytes.Buffer{}
	counts := &counter{n: map[string]int{}}
	collector := &refusing{errors.New("refused")}
	e := exporter{collector, &queue{log: slog.New(slog.NewTextHandler(log, nil)), count: counts.count}}
	spans := make([]sdk.ReadOnlySpan, 3)
	for range 4 {
		if err := e.ExportSpans(t.Context(), spans); err != nil {
			t.Fatal(err)
		}
	}
	collector.err = nil
	for range 2 {
		_ = e.ExportSpans(t.Context(), spans)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "exported again") {
		t.Errorf("got the log\n%s", log)
	}
	if counts.of(Failed) != 12 || counts.of(Exported) != 6 {
		t.Errorf("got %v", counts.n)
	}
}

// A collector that never answers does not hold up a stop for longer than the time that is left.
func TestSilentCollector(t *testing.T) {
	for _, protocol := range []string{overGRPC, overHTTP} {
		silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+silent.Addr().String())
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
		tracer, err := FromEnvironment(t.Context(), "v1", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, s := tracer.tracer.Start(t.Context(), "x")
		s.End()
		left, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		tracer.Close(left)
		if left.Err() == nil {
			t.Errorf("%s: it has given up before its time was over", protocol)
		}
		cancel()
	}
}
