package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// The states of a version, and the states that follow. No version stores its state:
// snapshot.status works it out from a versionEntry and the decisions of the state file.
//
//	state        the version …                    next
//	found        is in the directory, not tried   loading: its files rest, and no other
//	                                              one loads or is on probation;
//	                                              closed: its turn is over
//	loading      is at a gate before the warm-up  warming, failed
//	warming      is at the gate warm-up or later  serving, standby, failed
//	serving      answers, as its label says       standby, draining: another one has its
//	                                              label; rolled-back
//	standby      is loaded, and has no label      serving, draining
//	draining     is unloaded, and its last runs   closed
//	             go on
//	closed       is not loaded, and has no turn   loading: it is chosen, or those above it
//	                                              are gone
//	failed       did not pass a gate              found: its files change;
//	                                              loading: it is tried again
//	rolled-back  was rolled back, for a cause     found: its files change;
//	                                              loading: it is chosen
//
// A version has no turn while a higher one serves or another one was chosen, or if model.versions
// leaves it out.
const (
	StateFound      = "found"
	StateLoading    = "loading"
	StateWarming    = "warming"
	StateServing    = "serving"
	StateStandby    = "standby"
	StateDraining   = "draining"
	StateClosed     = "closed"
	StateFailed     = "failed"
	StateRolledBack = "rolled-back"
)

// state is what the reconciler knows. Only the reconciler's goroutine uses it: observe and received
// fill it in, plan reads it, and apply changes it.
type state struct {
	config Config        // set once
	quiet  time.Duration // for which files must not change; set once, by Load or Run

	versions   map[int64]*versionEntry // every version that is in the directory, or loaded
	routes     *routes                 // which versions answer; replaced, never changed
	resume     chan<- struct{}         // closed to end the pause of routes, if there is one
	loading    *versionEntry           // is being loaded; nil: none
	replaces   *versionEntry           // the version that loading replaces; nil: none
	probation  *probation              // of the version that serves; nil: it is not on probation
	scanned    bool                    // Run has scanned the directory once
	unreadable error                   // why the state file cannot be read; nil: it can
	served     []int64                 // versions that have served, each once in a row, the present one last

	// The version that serves, in another precision.
	candidate      *candidate // nil: there is none
	retryPrecision time.Time  // when a precision may be tried again

	// Memory.
	cost         float64 // bytes of memory for each byte of a version's files, the most so far
	memoryLeft   uint64  // bytes for another version, if memoryKnown
	memoryKnown  bool
	overdueLoads []overdueLoad // each keeps its memory until it ends

	health map[*infer.Version]health // of those that are loaded, as last observed
}

// A versionEntry is what is known of one version.
type versionEntry struct {
	infer.Folder
	there  bool // in the directory, at the last scan
	seen   bool // its files were looked at: files, bytes and since are set
	files  fingerprint
	bytes  int64     // of these files
	digest string    // of these files; empty: not computed yet
	since  time.Time // when its files were first seen as they are, or its state began

	loaded  *infer.Version          // nil: it is not
	before  *infer.Version          // in the precision before, while loaded is on probation for its own; nil: there is none
	leaving *infer.Version          // unloaded, and its last runs may still keep its memory
	gate    *atomic.Pointer[string] // at which its last load is, or was; nil: it was not loaded
	failed  *infer.GateError        // why these files have failed; nil: they have not
	retry   time.Time               // when to load it again although its files are the same; zero: never
	backoff *backoff.ExponentialBackOff

	// A load or a run of these files is overdue. Another load of them could take too long or hang
	// likewise, and would need as much memory again.
	overdue    <-chan struct{} // closed when that has ended and its memory is freed; nil: there is none
	overdueRun string          // a description of the run; empty: it is a load

	current bool // its files were looked at since the last observe

	precision  string          // in which it is loaded; empty: it runs as exported
	precisions precisionRecord // what is known of these files, once they were loaded
}

// health says how a loaded version runs.
type health struct {
	stuck bool              // every lane has an overdue run
	runs  []infer.ActiveRun // that have not ended
	fault *verdict          // why it has to be rolled back; nil: it need not be

	slowdown float64 // see slowdown, compared with the version before or the stable one
}

// An overdueLoad is a load that has not ended within model.gate.timeout.
type overdueLoad struct {
	number int64
	ended  <-chan struct{}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// entry returns the entry of a version that is, or was, loaded; nil for nil.
func (s *state) entry(v *infer.Version) *versionEntry {
	if v == nil {
		return nil
	}
	return s.versions[v.Info().Version]
}

// isLoaded tells whether a version is still loaded.
func (s *state) isLoaded(v *infer.Version) bool {
	e := s.entry(v)
	return e != nil && (e.loaded == v || e.before == v)
}

// order lists the versions that may be loaded, the highest first.
func (s *state) order() []*versionEntry {
	var list []*versionEntry
	for _, e := range s.versions {
		if (e.there || e.loaded != nil) && s.config.Versions.allows(e.Version) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *versionEntry) int { return cmp.Compare(b.Version, a.Version) })
	return list
}

// remember keeps the result of a scan, and forgets versions that are neither there nor in memory.
func (s *state) remember(candidates []infer.Folder) {
	s.noneThere()
	for _, c := range candidates {
		e := s.versions[c.Version]
		if e == nil {
			e = &versionEntry{}
			s.versions[c.Version] = e
		}
		e.Folder, e.there = c, true
	}
	for number, e := range s.versions {
		if !e.there && e.loaded == nil && e.leaving == nil && e != s.loading && e != s.replaces && e.overdue == nil {
			delete(s.versions, number)
		}
	}
}

// noneThere notes that the directory has no versions, or cannot be read. What is known of each
// version is kept.
func (s *state) noneThere() {
	for _, e := range s.versions {
		e.there = false
	}
}

// hangs tells whether a version answers nothing: every lane has an overdue run, or one of its
// runs was overdue when it was unloaded.
func (s *state) hangs(e *versionEntry) bool {
	if e.loaded != nil {
		return s.health[e.loaded].stuck
	}
	return e.overdueRun != "" && e.overdue != nil
}

// judge sets the fault of versions that have to be rolled back: a canary or shadow at any time,
// and the version that serves while it is on probation.
func (s *state) judge() {
	stable, secondary, p := s.routes.stable, s.routes.secondary, s.config.Probation
	if stable == nil {
		return
	}
	find := func(v, before *infer.Version, p Probation, runs []infer.ActiveRun) {
		h := s.health[v]
		h.fault = p.verdict(v.Stats(), before.Stats(), runs)
		if p.Slowdown > 0 {
			h.slowdown, _ = slowdown(v.Stats(), before.Stats())
		}
		s.health[v] = h
	}
	if t := s.probation; t != nil && t.judged {
		judged := p
		judged.Slowdown *= s.expectedSlowdown(stable, t.before)
		if t.ofPrecision(stable) { // it was chosen because it is faster
			judged.Slowdown = 1
		}
		find(stable, t.before, judged, s.health[stable].runs)
	}
	switch {
	case secondary == nil:
	case s.routes.label == LabelShadow: // it runs in the lowest scheduling class, so its times say nothing
		p.Slowdown = 0
		find(secondary, stable, p, nil)
	default:
		p.Slowdown *= s.expectedSlowdown(secondary, stable)
		find(secondary, stable, p, s.health[secondary].runs)
	}
}

// expectedSlowdown returns how many times as long the runs of v take as those of before by their
// precisions alone: a new version begins in float32. It is 0 if that is not known.
func (s *state) expectedSlowdown(v, before *infer.Version) float64 {
	_, is := v.Optimized()
	_, was := before.Optimized()
	switch speed := s.speed(v); {
	case is == was:
		return 1
	case speed == 0:
		return 0
	default:
		return s.speed(before) / speed
	}
}

// speed returns how many times as fast as in float32 a version is in its precision; 0: not known.
func (s *state) speed(v *infer.Version) float64 {
	_, precision := v.Optimized()
	if precision == "" || precision == precisionFloat32 {
		return 1
	}
	e := s.entry(v)
	if e == nil || e.precisions.Candidates[precision].Took == 0 {
		return 0
	}
	c := e.precisions.Candidates[precision]
	return float64(c.Float32) / float64(c.Took)
}

// waits returns why no version is loaded now; empty: one may be. While a load is overdue, no
// other one begins: it might not end either, and how much memory is left for it is not known.
// Only a version that was unloaded to make room is loaded again meanwhile.
func (s *state) waits() string {
	if len(s.overdueLoads) > 0 {
		return fmt.Sprintf("a load of version %d does not end", s.overdueLoads[0].number)
	}
	return ""
}

// pace returns how long the next round may wait if this one finds nothing to do.
func (s *state) pace() time.Duration {
	if s.probation != nil || s.routes.secondary != nil {
		return min(s.config.Poll, judgeEvery)
	}
	return s.config.Poll
}

// unproven returns the version to blame if native code crashes the process; nil: none.
func (s *state) unproven() *int64 {
	switch {
	case s.loading != nil:
		return new(s.loading.Version)
	case s.routes.secondary != nil:
		return new(s.routes.secondary.Info().Version)
	case (s.probation != nil || s.candidate != nil && s.candidate.step != stepCalibrate) && s.routes.stable != nil:
		return new(s.routes.stable.Info().Version)
	case len(s.overdueLoads) > 0:
		return new(s.overdueLoads[0].number)
	}
	return nil
}

// changed records that a version's files have changed. Failures of the files before do not count.
func (e *versionEntry) changed(files fingerprint, bytes int64, since time.Time) {
	e.files, e.bytes, e.since, e.seen, e.digest = files, bytes, since, true, ""
	e.failed, e.retry, e.backoff = nil, time.Time{}, nil
	e.overdue, e.overdueRun = nil, ""
}

// wait returns how long to wait before a load: until the files have not changed for the time
// quiet, or until a failed version may be tried again. It is not positive if the version may be
// loaded now.
func (e *versionEntry) wait(now time.Time, quiet, poll time.Duration) time.Duration {
	switch {
	case e.overdue != nil, e.failed != nil && e.retry.IsZero():
		return poll
	case e.failed != nil && now.Before(e.retry):
		return e.retry.Sub(now)
	}
	return e.since.Add(quiet).Sub(now)
}

// Pauses before a version is loaded again that has failed through a fault of the machine.
const (
	firstRetry = time.Second
	maxRetry   = time.Minute
)

// fail records why a version has failed, and when it is tried again.
func (e *versionEntry) fail(err error, now time.Time) {
	gate := &infer.GateError{Gate: infer.GateLoad, Err: err}
	errors.As(err, &gate)
	e.failed, e.retry = gate, time.Time{}
	if gate.Transient() && !errors.Is(err, savedmodel.ErrNoRuntime) {
		if e.backoff == nil {
			e.backoff = &backoff.ExponentialBackOff{InitialInterval: firstRetry, MaxInterval: maxRetry, Multiplier: 2, RandomizationFactor: 0.2}
		}
		e.retry = now.Add(e.backoff.NextBackOff())
	}
}

// lacksRoom returns nil if there is enough memory for another version, or if that is not known.
// It estimates what the version takes from those before: the most memory that a byte of their
// files has cost, and a tenth more.
func (s *state) lacksRoom(e *versionEntry) error {
	need := uint64(s.cost * float64(e.bytes))
	if !s.memoryKnown || need == 0 || s.memoryLeft > need+need/10 {
		return nil
	}
	return fmt.Errorf("it takes about %d MiB, and %d MiB are left", need>>20, s.memoryLeft>>20)
}

// learn updates cost by a version that was just loaded.
func (s *state) learn(e *versionEntry) {
	if e.bytes > 0 {
		s.cost = max(s.cost, float64(e.loaded.Memory())/float64(e.bytes))
	}
}

// wayBack tells whether another version may serve in place of this one.
func (s *state) wayBack(version int64, d decisions) bool {
	for _, e := range s.versions {
		if e.mayReplace(version, s.served, s.config, d) {
			return true
		}
	}
	return false
}

// mayReplace tells whether a version may serve if another one is rolled back by hand. served lists
// the versions that have served.
func (e *versionEntry) mayReplace(version int64, served []int64, c Config, d decisions) bool {
	return e.mayServe(version, c, d) && (e.loaded != nil || e.Version < version || slices.Contains(served, e.Version))
}

// mayServe tells whether a version may serve in place of another one, as far as is known.
func (e *versionEntry) mayServe(version int64, c Config, d decisions) bool {
	return e.Version != version && !d.forbids(e) && c.Versions.allows(e.Version) && (e.loaded != nil || e.there && !e.failedForGood())
}

// failedForGood tells whether a version has failed and is not tried again until its files change.
func (e *versionEntry) failedForGood() bool { return e.failed != nil && e.retry.IsZero() }

// maxServed bounds state.served.
const maxServed = 32

// noteServing remembers that a version begins to serve.
func (s *state) noteServing(version int64) {
	if n := len(s.served); n > 0 && s.served[n-1] == version {
		return
	}
	s.served = append(slices.Clone(s.served), version) // others read the old one
	s.served = s.served[max(0, len(s.served)-maxServed):]
}

// servedBefore returns the version that served last before this one, of those that may serve again;
// nil: there is none.
func (s *state) servedBefore(version int64, d decisions) *versionEntry {
	for _, n := range slices.Backward(s.served) {
		if e := s.versions[n]; e != nil && e.mayServe(version, s.config, d) {
			return e
		}
	}
	return nil
}

// higher returns the versions above one that may serve in place of another one, the highest first.
func (s *state) higher(than, version int64, d decisions) (found []*versionEntry) {
	for _, e := range s.order() {
		if e.Version > than && e.mayServe(version, s.config, d) {
			found = append(found, e)
		}
	}
	return found
}
