package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"inceptor/model/infer"
)

// A precisionRecord is what is known of the precisions that a version's files can run in, on one
// kind of processor. It is kept over restarts, see precisionFolder. It is replaced, never changed.
type precisionRecord struct {
	Digest    string `yaml:"digest"` // of the version
	Processor string `yaml:"processor"`
	// Trying is the precision that is being loaded or compared, or is on probation; empty: none.
	// If native code crashes the process meanwhile, that precision is to blame.
	Trying     string                     `yaml:"trying,omitempty"`
	Candidates map[string]candidateRecord `yaml:"candidates,omitempty"` // by precision
	// Calibration has the ranges for int8; nil: there are none yet.
	Calibration *infer.Calibration `yaml:"calibration,omitempty"`
}

// A candidateRecord is what is known of one precision.
type candidateRecord struct {
	Verdict string        `yaml:"verdict,omitempty"` // one of those below; empty: not decided
	Reason  string        `yaml:"reason,omitempty"`  // for the verdict
	Took    time.Duration `yaml:"took,omitempty"`    // of one record; 0: not measured
	Float32 time.Duration `yaml:"float32,omitempty"` // of one record in float32, measured at the same time
}

// The verdicts on a precision.
const (
	verdictAgrees  = "agrees"  // with float32, and is faster: it serves
	verdictRefused = "refused" // it is not tried again
)

// A candidateStep is the next thing to do to run a version in another precision.
type candidateStep string

// The steps, in their order. Their names are in the log and in the status.
const (
	stepNone      candidateStep = ""
	stepCalibrate candidateStep = "calibrating" // find the ranges for int8
	stepLoad      candidateStep = "loading"
	stepMeasure   candidateStep = "measuring" // how long a record takes
	stepCompare   candidateStep = "comparing" // answers to records of the stream
	stepAdopt     candidateStep = "adopting"  // it serves
)

// next returns what is to be done next, and for which precision. loaded is the precision of the
// candidate that is loaded; empty: none is. All precisions are measured first, and then the fastest
// one is compared.
func (r precisionRecord) next(wanted []string, loaded string) (candidateStep, string) {
	needs := func(step candidateStep, precision string) (candidateStep, string) {
		if loaded != precision {
			step = stepLoad
		}
		return step, precision
	}
	fastest := ""
	for _, precision := range wanted {
		c := r.Candidates[precision]
		switch {
		case c.Verdict == verdictRefused:
		case precision == precisionInt8 && r.Calibration == nil:
			return stepCalibrate, precision
		case c.Verdict == verdictAgrees:
			return needs(stepAdopt, precision)
		case c.Took == 0:
			return needs(stepMeasure, precision)
		case fastest == "" || c.Took < r.Candidates[fastest].Took:
			fastest = precision
		}
	}
	if fastest == "" {
		return stepNone, ""
	}
	return needs(stepCompare, fastest)
}

// opens returns the precision in which the version is opened at once; empty: float32.
func (r precisionRecord) opens(wanted []string) string {
	for _, precision := range wanted {
		if r.Candidates[precision].Verdict == verdictAgrees && (precision != precisionInt8 || r.Calibration != nil) {
			return precision
		}
	}
	return ""
}

// why returns why a version does not run in any of the wanted precisions; empty: that is not
// decided yet, or it does.
func (r precisionRecord) why(wanted []string) string {
	var reasons []string
	for _, precision := range wanted {
		c := r.Candidates[precision]
		if c.Verdict != verdictRefused {
			return ""
		}
		reasons = append(reasons, precision+": "+c.Reason)
	}
	return strings.Join(reasons, "; ")
}

// with returns a copy with another record of a precision, which is not tried any more.
func (r precisionRecord) with(precision string, c candidateRecord) precisionRecord {
	r.Candidates = maps.Clone(r.Candidates)
	if r.Candidates == nil {
		r.Candidates = map[string]candidateRecord{}
	}
	c.Reason = c.Reason[:min(len(c.Reason), maxReason)]
	r.Candidates[precision] = c
	return r
}

// leastGain is how many times as fast as float32 a precision must be.
const leastGain = 1.1

// measured returns a copy with the time of one record. A precision that gains too little is
// refused.
func (r precisionRecord) measured(precision string, took, float32 time.Duration) precisionRecord {
	c := candidateRecord{Took: took, Float32: float32}
	if leastGain*float64(took) > float64(float32) {
		c.Verdict = verdictRefused
		c.Reason = fmt.Sprintf("a record takes %v, and %v in float32", rounded(took), rounded(float32))
	}
	return r.with(precision, c)
}

// decided returns a copy with the verdict on a precision.
func (r precisionRecord) decided(precision, verdict, reason string) precisionRecord {
	c := r.Candidates[precision]
	c.Verdict, c.Reason = verdict, reason
	return r.with(precision, c)
}

// disagrees returns a copy for a precision whose answers differ from those in float32. For int8 the
// next method of choosing ranges is tried then.
func (r precisionRecord) disagrees(precision, reason string) precisionRecord {
	if precision == precisionInt8 && r.Calibration != nil {
		methods := infer.Methods()
		if next := slices.Index(methods, r.Calibration.Method) + 1; next < len(methods) {
			other := *r.Calibration
			other.Method = methods[next]
			r.Calibration = &other
			return r.with(precision, candidateRecord{})
		}
	}
	return r.decided(precision, verdictRefused, reason)
}

func rounded(d time.Duration) time.Duration { return d.Round(max(time.Microsecond, d/1000)) }

// candidates returns the precisions besides float32 that the version that serves may be tried in.
func (c Config) candidates() []string {
	switch c.Precision {
	case precisionInt8:
		return []string{precisionInt8}
	case precisionAuto:
		return []string{precisionInt8, precisionBFloat16}
	}
	return nil
}
