// Package tracingtest runs an OpenTelemetry collector inside a test.
package tracingtest

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// patience is for what must happen at last, also on a busy machine.
const patience = time.Minute

// A Span is what the collector got.
type Span struct {
	Service, Name, Kind string
	Trace, ID, Parent   string // in hexadecimal; no parent: empty
	State               string // the trace's tracestate
	Links               []string
	Attributes          map[string]string // and those of the resource
	Error               string            // the status; empty: none

	start uint64
}

// A Collector takes spans by gRPC and by HTTP, and keeps them. Safe for concurrent use.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer

	// Set once.
	grpc net.Listener
	http *httptest.Server

	mu       sync.Mutex // guards the rest
	spans    []Span
	refusing bool
	headers  http.Header // of the last request by HTTP
}

// Start starts a collector, which ends with the test.
func Start(t testing.TB) *Collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{grpc: l}
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	c.http = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.http.Close)
	return c
}

// GRPC returns the address for OTEL_EXPORTER_OTLP_ENDPOINT with the protocol grpc.
func (c *Collector) GRPC() string { return "http://" + c.grpc.Addr().String() }

// HTTP returns that for http/protobuf.
func (c *Collector) HTTP() string { return c.http.URL }

// Export takes spans by gRPC.
func (c *Collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	if !c.take(r) {
		return nil, status.Error(codes.InvalidArgument, "refused")
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// serve takes spans by HTTP.
func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	var request collectorpb.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	c.mu.Lock()
	c.headers = r.Header
	c.mu.Unlock()
	if err != nil || r.URL.Path != "/v1/traces" || !c.take(&request) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Refuse makes the collector refuse spans, or take them again.
func (c *Collector) Refuse(refuse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusing = refuse
}

// Headers returns those of the last request by HTTP.
func (c *Collector) Headers() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers
}

func (c *Collector) take(r *collectorpb.ExportTraceServiceRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusing {
		return false
	}
	for _, of := range r.GetResourceSpans() {
		about := attributes(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, newSpan(s, about))
			}
		}
	}
	return true
}

func newSpan(s *tracepb.Span, about map[string]string) Span {
	got := Span{
		Service: about["service.name"], Name: s.GetName(),
		Kind:  strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
		Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		State: s.GetTraceState(), Attributes: attributes(s.GetAttributes()), start: s.GetStartTimeUnixNano(),
	}
	for name, value := range about {
		got.Attributes[name] = value
	}
	if s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		got.Error = s.GetStatus().GetMessage()
	}
	for _, l := range s.GetLinks() {
		got.Links = append(got.Links, hex.EncodeToString(l.GetSpanId()))
	}
	return got
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	values := map[string]string{}
	for _, a := range list {
		text := a.GetValue().GetStringValue()
		if text == "" {
			_, text, _ = strings.Cut(a.GetValue().String(), ":")
		}
		values[a.GetKey()] = text
	}
	return values
}

// Spans returns what the collector has, in the order in which the spans began.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := slices.Clone(c.spans)
	slices.SortStableFunc(spans, func(a, b Span) int { return int(int64(a.start - b.start)) })
	return spans
}

// Await waits until the spans are what done looks for, and returns them.
func (c *Collector) Await(t testing.TB, done func([]Span) bool) []Span {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		spans := c.Spans()
		if done(spans) {
			return spans
		}
		if time.Now().After(end) {
			t.Fatalf("the collector has %d spans, not those that are due: %+v", len(spans), spans)
		}
	}
}

// Tracer returns a tracer of another service, which sends each span to the collector at once.
func (c *Collector) Tracer(t testing.TB, service string) trace.Tracer {
	t.Helper()
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(c.HTTP()+"/v1/traces"))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithResource(resource.NewSchemaless(semconv.ServiceName(service))))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider.Tracer("")
}

// Tree draws the spans of a trace.
func Tree(spans []Span, trace string) string {
	var b strings.Builder
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		var children []Span
		for _, s := range spans {
			if s.Trace == trace && s.Parent == parent {
				children = append(children, s)
			}
		}
		for i, s := range children {
			branch, below := "├─ ", "│  "
			if i == len(children)-1 {
				branch, below = "└─ ", "   "
			}
			if parent == "" {
				branch, below = "", ""
			}
			left := indent + branch + s.Name
			b.WriteString(left + strings.Repeat(" ", max(1, 50-len([]rune(left)))) + s.Service + ", " + s.Kind + "\n")
			draw(s.ID, indent+below)
		}
	}
	draw("", "")
	return b.String()
}
