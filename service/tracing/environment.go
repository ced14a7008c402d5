package tracing

import (
	"cmp"
	"errors"
	"fmt"
	"math"
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

// limits are the variables of spans' limits. Below 0 is no limit.
var limits = []string{
	"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT",
	"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
	"OTEL_SPAN_EVENT_COUNT_LIMIT", linkLimit,
	"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
}

// linkLimit bounds the links of a span.
const linkLimit = "OTEL_SPAN_LINK_COUNT_LIMIT"

// readEnvironment reads the variables with get. Traces are off unless OTEL_TRACES_EXPORTER is otlp,
// or an endpoint is given and OTEL_TRACES_EXPORTER is not none. The error has every mistake.
func readEnvironment(get func(string) string) (environment, error) {
	v := &variables{get: get}
	_, disabled := v.value("OTEL_SDK_DISABLED")
	exporterName, exporter := v.value("OTEL_TRACES_EXPORTER")
	endpointName, endpoint := v.value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if strings.EqualFold(disabled, "true") || exporter == "none" || exporter == "" && endpoint == "" {
		return environment{}, nil
	}
	e := environment{on: true}
	if exporter != "" && exporter != "otlp" {
		v.bad(exporterName, "%q is neither otlp nor none", exporter)
	}
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		v.bad(endpointName, "want http://HOST:PORT or https://HOST:PORT, for gRPC too") // the value may hold a password
	} else if err == nil {
		e.endpoint = cmp.Or(u.Host, "localhost")
	}
	e.protocol = cmp.Or(v.oneOf(exact, []string{overGRPC, overHTTP}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"), overHTTP)
	sampler := v.oneOf(strings.ToLower, samplers, "OTEL_TRACES_SAMPLER")
	name, ratio := v.value("OTEL_TRACES_SAMPLER_ARG")
	if f, err := strconv.ParseFloat(ratio, 64); strings.HasSuffix(sampler, "ratio") && ratio != "" && (err != nil || !(0 <= f && f <= 1)) {
		v.bad(name, "%q is no number from 0 to 1", ratio)
	}
	name, propagators := v.value("OTEL_PROPAGATORS")
	for p := range strings.SplitSeq(propagators, ",") {
		if p = strings.TrimSpace(p); p != "" && p != "tracecontext" && p != "baggage" {
			v.bad(name, "%q is not supported, only tracecontext is", p)
		}
	}
	e.queue = v.number("OTEL_BSP_MAX_QUEUE_SIZE", 1, 1<<20-1, defaultQueue)
	v.checkUnread(e)
	return e, errors.Join(v.problems...)
}

// variables reads variables, and collects what is wrong with them.
type variables struct {
	get      func(string) string
	problems []error
}

func (v *variables) bad(name, format string, args ...any) {
	v.problems = append(v.problems, fmt.Errorf(name+": "+format, args...))
}

// value returns the first of these variables that is set.
func (v *variables) value(names ...string) (name, text string) {
	for _, name = range names {
		if text = strings.TrimSpace(v.get(name)); text != "" {
			return name, text
		}
	}
	return names[0], ""
}

func exact(s string) string { return s }

// oneOf returns the value of the first of these variables that is set, in the given case.
func (v *variables) oneOf(inCase func(string) string, of []string, names ...string) string {
	name, text := v.value(names...)
	if text = inCase(text); text != "" && !slices.Contains(of, text) {
		v.bad(name, "%q is none of %s", text, strings.Join(of, ", "))
	}
	return text
}

// number returns a variable's number, or unset. The SDK takes no spaces around it.
func (v *variables) number(name string, least, most, unset int) int {
	text := v.get(name)
	if text == "" {
		return unset
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		v.bad(name, "%q is no number from %d to %d", text, least, most)
		return unset
	}
	return n
}

// checkUnread checks variables that the SDK alone reads, and whose mistakes it only notes, or does
// not see at all.
func (v *variables) checkUnread(e environment) {
	v.number("OTEL_BSP_SCHEDULE_DELAY", 1, math.MaxInt32, 0) // with 0, the SDK would never rest
	v.number("OTEL_BSP_EXPORT_TIMEOUT", 0, math.MaxInt32, 0)
	v.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1, e.queue, 0)
	v.number("OTEL_EXPORTER_OTLP_TIMEOUT", 0, math.MaxInt32, 0)
	v.number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", 0, math.MaxInt32, 0)
	for _, name := range limits {
		v.number(name, -1, math.MaxInt32, 0)
	}
	truth := []string{"true", "false"}
	v.oneOf(strings.ToLower, truth, "OTEL_SDK_DISABLED")
	for _, of := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"} {
		v.oneOf(strings.ToLower, truth, of+"INSECURE")
		v.oneOf(exact, []string{"gzip", "none"}, of+"COMPRESSION")
		certificate, file := v.value(of + "CLIENT_CERTIFICATE")
		key, keyFile := v.value(of + "CLIENT_KEY")
		switch {
		case file != "" && keyFile == "":
			v.bad(certificate, "needs %s", key)
		case file == "" && keyFile != "":
			v.bad(key, "needs %s", certificate)
		}
	}
}
