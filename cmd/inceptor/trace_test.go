package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"inceptor/service/stream/embedded"
	"inceptor/service/tracing/tracingtest"
	"inceptor/testenv"
)

// A record's trace goes from its sender's span through those of a real process to its reader's.
// docs/operations.md shows it; -update writes it there.
func TestTrace(t *testing.T) {
	t.Parallel()
	collector := tracingtest.Start(t)
	broker, err := embedded.Start(0, 1, inputTopic, outputTopic, deadLetterTopic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	pictures := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bitmap(7)) }))
	t.Cleanup(pictures.Close)

	cmd := program(runArgs(t, broker.Addr(), "--model.dir", testenv.Tiny(t), "--crash.journal", t.TempDir(),
		"--input.fetch.hosts", strings.TrimPrefix(pictures.URL, "http://"), "--input.fetch.private", "127.0.0.1")...)
	cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.GRPC(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	p := startCommand(t, cmd)

	ctx, sent := collector.Tracer(t, "sender").Start(t.Context(), "send "+inputTopic, trace.WithSpanKind(trace.SpanKindProducer))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	record := &kgo.Record{Topic: inputTopic, Value: []byte(pictures.URL + "/photo.bmp")}
	for key, value := range carrier {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	produce(t, broker.Addr(), record)
	sent.End()

	out := follow(t, broker.Addr(), outputTopic)
	out.awaitDistinct(t, 1, patience, outputTopic)
	carrier = propagation.MapCarrier{"traceparent": lastHeader(out.from(outputTopic)[0], "traceparent")}
	ctx = propagation.TraceContext{}.Extract(context.Background(), carrier)
	_, read := collector.Tracer(t, "reader").Start(ctx, "process "+outputTopic, trace.WithSpanKind(trace.SpanKindConsumer))
	read.End()

	p.await("assigned", patience)
	if code := p.terminate(); code != 0 { // and the last spans are sent
		t.Errorf("SIGTERM: exit status %d", code)
	}
	checkTree(t, tracingtest.Tree(collector.Spans(), sent.SpanContext().TraceID().String()))
}

// A mistake in a variable ends the program, and check tells it before.
func TestTraceMistake(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"run", "check"} {
		cmd := program(command, "--kafka.brokers", "127.0.0.1:1", "--model.dir", t.TempDir(), "--http.listen", "")
		cmd.Env = append(cmd.Env, "OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=sometimes")
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), `OTEL_TRACES_SAMPLER: "sometimes" is none of always_on,`) {
			t.Errorf("%s: exit status %d, %v\n%s", command, code, err, out)
		}
	}
}

// checkTree compares a trace with the one in docs/operations.md.
func checkTree(t *testing.T, got string) {
	t.Helper()
	path := filepath.Join(testenv.Root(t), "docs", "operations.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), "that names a URL:\n\n```\n")
	want, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/operations.md has no place for the trace")
	}
	if *update {
		page := before + "that names a URL:\n\n```\n" + got + "```\n" + after
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("got\n%swant, as in docs/operations.md,\n%s", got, want)
	}
}
