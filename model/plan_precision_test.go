package model

import (
	"testing"
	"time"

	"inceptor/model/infer"
)

// auto lets the version that serves in float32 be tried in int8 and bfloat16. known is what is
// known of them.
func (s scene) auto(known precisionRecord) {
	s.config.Precision = precisionAuto
	e := s.entry(s.routes.stable)
	e.precision, e.precisions = precisionFloat32, known
}

// trying is auto with a candidate at a step, or between two steps. It is loaded if that step needs
// it.
func (s scene) trying(step candidateStep, precision string, known precisionRecord) {
	s.auto(known)
	s.candidate = &candidate{serving: s.routes.stable, step: step, precision: precision}
	if step != stepCalibrate && step != stepLoad && precision != "" {
		s.candidate.v = infer.NewUnloaded(s.routes.stable.Info(), 0)
	}
}

// precisionOnProbation puts the stable version on probation for its precision.
func (s scene) precisionOnProbation(until time.Duration) {
	s.auto(agrees)
	e := s.entry(s.routes.stable)
	e.precision, e.before = precisionInt8, infer.NewUnloaded(infer.Info{Version: e.Version}, 0)
	s.probation = &probation{e.before, planTime.Add(until), true}
}

// What may be known of precisions.
var (
	nothing    = precisionRecord{}
	calibrated = precisionRecord{Calibration: &infer.Calibration{}}
	faster     = calibrated.measured(precisionInt8, 10*time.Millisecond, 30*time.Millisecond)
	both       = faster.measured(precisionBFloat16, 20*time.Millisecond, 30*time.Millisecond)
	agrees     = both.decided(precisionInt8, verdictAgrees, "")
	refused    = both.decided(precisionInt8, verdictRefused, "no")
	allRefused = refused.decided(precisionBFloat16, verdictRefused, "no")
)

// precisionRows are the rows of TestPlan for other precisions of the version that serves.
func precisionRows(t *testing.T) []planRow {
	const canary = rolloutCanary
	return []planRow{
		// Another precision.
		{"another precision is calibrated first", versions{"2 stable"}, func(s scene) { s.auto(nothing) }, "calibrating int8"},
		{"only bfloat16 is left", versions{"2 stable"}, func(s scene) { s.auto(nothing.decided(precisionInt8, verdictRefused, "no")) }, "loading bfloat16"},
		{"it is loaded when it is calibrated", versions{"2 stable"}, func(s scene) { s.trying(stepNone, "", calibrated) }, "loading int8"},
		{"and measured", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, calibrated) }, "measuring int8"},
		{"so is the other one", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, faster) }, "loading bfloat16"},
		{"the faster one is loaded again", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionBFloat16, both) }, "loading int8"},
		{"and compared", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, both) }, "comparing int8"},
		{"and serves, with float32 as the way back", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, agrees) },
			"2 serves; on probation, judged true, way back 2; adopting int8"},
		{"and serves, without probation", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, agrees); s.config.Probation.Period = 0 }, "2 serves; adopting int8"},
		{"the other one is compared if it disagrees", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, refused) }, "loading bfloat16"},
		{"none is left", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionBFloat16, allRefused) }, "drop the candidate"},
		{"none was left", versions{"2 stable"}, func(s scene) { s.auto(allRefused) }, "nothing"},
		{"the file of decisions was not read in time, and it is loaded", versions{"2 stable"}, func(s scene) { s.auto(agrees) }, "loading int8"},
		{"a step goes on", versions{"2 stable"}, func(s scene) { s.trying(stepCompare, precisionInt8, both) }, "nothing"},
		{"float32 is asked for", versions{"2 stable"}, func(s scene) { s.auto(nothing); s.config.Precision = precisionFloat32 }, "nothing"},
		{"int8 alone is asked for", versions{"2 stable"}, func(s scene) {
			s.auto(nothing.decided(precisionInt8, verdictRefused, "no"))
			s.config.Precision = precisionInt8
		}, "nothing"},
		{"it serves in int8 already", versions{"2 stable"}, func(s scene) { s.auto(agrees); s.entry(s.routes.stable).precision = precisionInt8 }, "nothing"},
		{"it runs as exported", versions{"2 stable"}, func(s scene) { s.auto(nothing); s.entry(s.routes.stable).precision = "" }, "nothing"},
		{"a command only looks", versions{"2 stable"}, func(s scene) { s.auto(nothing); s.scanned = false }, "nothing"},
		{"a machine's fault: later", versions{"2 stable"}, func(s scene) { s.auto(nothing); s.retryPrecision = planTime.Add(time.Second) }, "nothing"},
		{"no memory to calibrate", versions{"2 stable"}, func(s scene) { s.auto(nothing); s.noRoom() },
			"version stays in float32 for now: no memory to try another precision: it takes about 0 MiB, and 0 MiB are left"},
		{"no memory to load it", versions{"2 stable"}, func(s scene) { s.trying(stepNone, "", calibrated); s.noRoom() },
			"version stays in float32 for now: no memory to try another precision: it takes about 0 MiB, and 0 MiB are left; drop the candidate"},
		{"no memory is needed to compare", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, both); s.noRoom() }, "comparing int8"},
		{"one copy, and another precision", versions{"2 stable"}, func(s scene) { s.auto(nothing); s.config.Copies = copiesOne },
			"version stays in float32 for now: model.copies one leaves no memory to try another precision"},

		// Another precision, and other things to do.
		{"nothing is tried while a version is loaded", versions{"2 stable", "3 loading"}, func(s scene) { s.auto(nothing) }, "nothing"},
		{"a newer version comes first", versions{"2 stable", "3 new"}, func(s scene) { s.auto(nothing) }, "load 3"},
		{"a newer version waits for the end of a step", versions{"2 stable", "3 new"}, func(s scene) { s.trying(stepCompare, precisionInt8, both) }, "drop the candidate"},
		{"and goes on waiting", versions{"2 stable", "3 new"}, func(s scene) { s.trying(stepCompare, precisionInt8, both); s.candidate.dropped = true }, "nothing"},
		{"a newer version, and no memory: nothing is unloaded yet", versions{"2 stable", "3 new"}, func(s scene) { s.trying(stepLoad, precisionInt8, calibrated); s.noRoom() }, "drop the candidate"},
		{"another version serves now", versions{"1 loaded choice", "2 stable"}, func(s scene) { s.trying(stepCompare, precisionInt8, both) },
			"1 serves; on probation, judged false, way back 2; served 1; drop the candidate"},
		{"a canary comes", versions{"2 stable chosen", "3 new"}, func(s scene) { s.config.Rollout = canary; s.trying(stepNone, precisionInt8, both) }, "drop the candidate"},
		{"nothing is tried beside a canary", versions{"2 stable chosen", "3 canary"}, func(s scene) { s.auto(nothing) }, "nothing"},
		{"nothing is tried beside a shadow", versions{"2 stable chosen", "3 shadow"}, func(s scene) { s.auto(nothing) }, "nothing"},
		{"nothing is tried on probation", versions{"1 loaded", "2 stable"}, func(s scene) { s.onProbation(1, time.Second, true); s.auto(nothing) }, "nothing"},
		{"standby is loaded first", versions{"3 stable", "2 new"}, func(s scene) { s.config.Versions = policy(t, "latest:2"); s.trying(stepNone, precisionInt8, both) }, "drop the candidate"},
		{"nothing is tried while a load is overdue", versions{"2 stable", "1 load-overdue"}, func(s scene) { s.trying(stepNone, precisionInt8, both) },
			"no version can be loaded now: a load of version 1 does not end; drop the candidate"},
		{"nothing is tried while it hangs", versions{"2 stable stuck"}, func(s scene) { s.auto(nothing) }, "nothing"},
		{"it was rolled back, without a way back", versions{"2 stable rolled-back"}, func(s scene) { s.trying(stepNone, precisionInt8, both) }, "drop the candidate"},
		{"records wait for another version", versions{"2 new", "3 loading"}, func(s scene) {
			s.config.Precision = precisionAuto
			s.pause(3, 2)
			s.candidate = &candidate{serving: s.routes.before, step: stepCalibrate}
		}, "drop the candidate"},
		{"not known what was decided, and a step has ended", versions{"2 stable"}, func(s scene) { s.trying(stepNone, precisionInt8, both); s.unknown() }, "nothing"},

		// A precision on probation.
		{"its precision is on probation", versions{"2 stable"}, func(s scene) { s.precisionOnProbation(time.Second) }, "nothing"},
		{"its precision has passed", versions{"2 stable"}, func(s scene) { s.precisionOnProbation(-time.Second) }, "passed; release 2"},
		{"its precision is slow", versions{"2 stable slow"}, func(s scene) { s.precisionOnProbation(time.Second) }, "roll back 2: slow"},
		{"its precision hangs", versions{"2 stable hangs"}, func(s scene) { s.precisionOnProbation(time.Second) }, "roll back 2: hangs"},
		{"a newer version waits for the precision's probation", versions{"2 stable", "3 new"}, func(s scene) { s.precisionOnProbation(time.Second) }, "nothing"},
		{"another version is chosen during the precision's probation", versions{"1 loaded choice", "2 stable"}, func(s scene) { s.precisionOnProbation(time.Second) },
			"1 serves; on probation, judged false, way back 2; served 1; release 2"},
	}
}
