package tracing

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Values of OTEL_EXPORTER_OTLP_PROTOCOL.
const (
	overGRPC = "grpc"
	overHTTP = "http/protobuf"
)

// defaultQueue is how many spans wait for the collector at most, as OpenTelemetry has it.
const defaultQueue = 2048

// An environment is what the OTEL_… variables ask for, as far as OpenTelemetry's SDK does not read
// them itself, or not strictly.
type environment struct {
	on       bool
	protocol string
	endpoint string // for the log
	queue    int
}

var samplers = []string{
	"always_on", "always_off", "traceidratio",
	"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
}

// readEnvironment reads the variables with get. Traces are off unless OTEL_TRACES_EXPORTER is otlp,
// or an endpoint is given and OTEL_TRACES_EXPORTER is not none. The error has every mistake.
func readEnvironment(get func(string) string) (environment, error) {
	value := func(names ...string) (name, text string) {
		for _, name = range names {
			if text = strings.TrimSpace(get(name)); text != "" {
				return name, text
			}
		}
		return names[0], ""
	}
	var problems []error
	bad := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf(name+": "+format, args...))
	}
	_, disabled := value("OTEL_SDK_DISABLED")
	exporterName, exporter := value("OTEL_TRACES_EXPORTER")
	endpointName, endpoint := value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if strings.EqualFold(disabled, "true") || exporter == "none" || exporter == "" && endpoint == "" {
		return environment{}, nil
	}
	e := environment{on: true, queue: defaultQueue}
	if exporter != "" && exporter != "otlp" {
		bad(exporterName, "%q is neither otlp nor none", exporter)
	}
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad(endpointName, "want http://HOST:PORT or https://HOST:PORT, for gRPC too") // the value may hold a password
	} else if err == nil {
		e.endpoint = cmp.Or(u.Host, "localhost")
	}
	name, protocol := value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	if e.protocol = cmp.Or(protocol, overHTTP); e.protocol != overGRPC && e.protocol != overHTTP {
		bad(name, "%q is neither %s nor %s", protocol, overGRPC, overHTTP)
	}
	name, sampler := value("OTEL_TRACES_SAMPLER")
	if sampler != "" && !slices.Contains(samplers, strings.ToLower(sampler)) {
		bad(name, "%q is none of %s", sampler, strings.Join(samplers, ", "))
	}
	name, ratio := value("OTEL_TRACES_SAMPLER_ARG")
	if f, err := strconv.ParseFloat(ratio, 64); strings.HasSuffix(sampler, "ratio") && ratio != "" && (err != nil || !(0 <= f && f <= 1)) {
		bad(name, "%q is no number from 0 to 1", ratio)
	}
	name, size := value("OTEL_BSP_MAX_QUEUE_SIZE")
	if n, err := strconv.ParseUint(size, 10, 20); size != "" && (err != nil || n == 0) {
		bad(name, "%q is no number from 1 to %d", size, 1<<20-1)
	} else if size != "" {
		e.queue = int(n)
	}
	name, propagators := value("OTEL_PROPAGATORS")
	for p := range strings.SplitSeq(propagators, ",") {
		if p = strings.TrimSpace(p); p != "" && p != "tracecontext" && p != "baggage" {
			bad(name, "%q is not supported, only tracecontext is", p)
		}
	}
	return e, errors.Join(problems...)
}
