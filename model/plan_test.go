package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inceptor/model/infer"
)

// planTime is the time of every plan here.
var planTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A scene is a state to plan for, with the decisions of a state file.
type scene struct {
	*state
	*decisions
}

// sceneOf makes a scene of versions that are described as "NUMBER WHAT…".
func sceneOf(t *testing.T, versions ...string) scene {
	t.Helper()
	const poll, quiet = 5 * time.Second, 2 * time.Second
	s := scene{&state{
		config: Config{Poll: poll, Canary: 10, Copies: copiesAuto, Rollout: rolloutSwap, Probation: Probation{Period: time.Minute, Errors: 0.1, Slowdown: 2}},
		quiet:  quiet, versions: map[int64]*versionEntry{}, routes: &routes{}, health: map[*infer.Version]health{}, scanned: true,
	}, &decisions{}}
	for _, described := range versions {
		words := strings.Fields(described)
		var number int64
		if _, err := fmt.Sscan(words[0], &number); err != nil {
			t.Fatal(err)
		}
		e := &versionEntry{Folder: infer.Folder{Version: number}, there: true, seen: true, current: true, digest: words[0], since: planTime.Add(-time.Hour)}
		s.versions[number] = e
		for _, word := range words[1:] {
			s.describe(t, e, word)
		}
	}
	return s
}

// describe puts a version into the state that a word names.
func (s scene) describe(t *testing.T, e *versionEntry, word string) {
	t.Helper()
	if slices.Contains([]string{"loaded", LabelStable, LabelCanary, LabelShadow}, word) {
		e.loaded = infer.NewUnloaded(infer.Info{Version: e.Version}, 0)
	}
	switch word {
	case "new", "loaded":
	case LabelStable:
		s.routes.stable = e.loaded
	case LabelCanary, LabelShadow:
		s.routes.secondary, s.routes.label, s.config.Rollout = e.loaded, word, word
		if word == LabelCanary {
			s.routes.canary = s.config.Canary
		}
	case "loading":
		s.loading = e
	case "gone": // from the directory
		e.there = false
	case "unseen":
		e.current = false
	case "fresh": // its files have rested for a second
		e.since = planTime.Add(-time.Second)
	case "failed":
		e.failed = &infer.GateError{Gate: infer.GateGolden, Err: errors.New("no")}
	case "failed-again": // the fault was the machine's, and it is tried again in 3 s
		e.failed, e.retry = &infer.GateError{Gate: infer.GateMemory, Err: errors.New("no")}, planTime.Add(3*time.Second)
	case "retried": // it may be tried again
		e.failed, e.retry = &infer.GateError{Gate: infer.GateMemory, Err: errors.New("no")}, planTime.Add(-time.Second)
	case "stuck":
		s.health[e.loaded] = health{stuck: true}
	case "stuck-unloaded": // it was unloaded, and its runs go on
		e.overdue, e.overdueRun = make(chan struct{}), "a run"
	case "load-overdue": // its load goes on
		e.overdue = make(chan struct{})
		s.overdueLoads = append(s.overdueLoads, overdueLoad{e.Version, e.overdue})
	case "slow", "hangs":
		s.health[e.loaded] = health{fault: &verdict{word, "it is"}, stuck: word == "hangs"}
	case "rolled-back":
		s.rolledBack(e.Version, e.digest)
	case "changed": // since it was rolled back
		s.rolledBack(e.Version, "another")
	case "unreadable": // it was rolled back, and its files cannot be read now
		s.rolledBack(e.Version, e.digest)
		e.digest = ""
	case "chosen": // and has served
		s.Use = &e.Version
	case "choice": // chosen, and has not served yet
		s.Use, s.Before = &e.Version, &chosen{}
	default:
		t.Fatalf("what is %q?", word)
	}
}

func (s scene) rolledBack(number int64, digest string) {
	*s.decisions = s.changed(func(d *decisions) { d.addRollback(number, rollbackRecord{digest, CauseSlow, "it is slow"}) })
}

// onProbation puts the stable version on probation, with the way back to another one.
func (s scene) onProbation(before int64, until time.Duration, judged bool) {
	s.probation = &probation{s.versions[before].loaded, planTime.Add(until), judged}
}

// noRoom sets less memory than a second version takes.
func (s scene) noRoom() {
	s.cost, s.memoryLeft, s.memoryKnown = 10, 100, true
	for _, e := range s.versions {
		e.bytes = 1000
	}
}

// summary lists what a plan changes.
func (p actions) summary(s *state) string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	numbers := func(what string, entries []*versionEntry) {
		for _, e := range entries {
			add("%s %d", what, e.Version)
		}
	}
	if p.rollBack != nil {
		add("roll back %d: %s", p.rollBack.v.Info().Version, p.rollBack.why.cause)
	}
	if p.inspect != nil {
		add("inspect %d", p.inspect.Version)
	}
	for _, one := range p.problems {
		if one.reason != "" {
			add("%s: %s", one.what, one.reason)
		}
	}
	numbers("forgive", p.cleared)
	if p.routes != nil && p.routes != s.routes {
		switch v := p.routes.stable; {
		case v == nil:
			add("nobody serves")
		case v != s.routes.stable:
			add("%d serves", v.Info().Version)
		}
		switch v := p.routes.secondary; {
		case v == nil && s.routes.secondary != nil:
			add("no %s", s.routes.label)
		case v != s.routes.secondary:
			add("%d is %s", v.Info().Version, p.routes.label)
		}
	}
	if p.probation != nil && p.probation != s.probation {
		add("on probation, judged %v, way back %d", p.probation.judged, p.probation.before.Info().Version)
	}
	if p.passed {
		add("passed")
	}
	if p.choose != nil {
		add("choose %d", *p.choose)
	}
	if p.served != nil {
		add("served %d", *p.served)
	}
	numbers("unload", p.unload)
	numbers("release", p.release)
	if p.drop {
		add("drop the candidate")
	}
	if p.step != stepNone {
		add("%s %s", p.step, p.precision)
	}
	for _, f := range p.fail {
		add("fail %d: %v", f.entry.Version, f.err)
	}
	if p.load != nil && p.replaces == nil {
		add("load %d", p.load.Version)
	}
	if p.replaces != nil {
		add("load %d in place of %d", p.load.Version, p.replaces.Version)
	}
	return cmp.Or(strings.Join(list, "; "), "nothing")
}

type versions = []string

// A planRow is what is planned for versions after a change.
type planRow struct {
	name     string
	versions versions
	change   func(scene)
	want     string
}

// Every rule of a plan has a row, and so have rules that meet.
func TestPlan(t *testing.T) {
	const canary, shadow = rolloutCanary, rolloutShadow
	rollout := func(name string) func(scene) { return func(s scene) { s.config.Rollout = name } }
	for _, test := range slices.Concat([]planRow{
		// Versions in the directory.
		{"nothing", nil, nil, "nothing"},
		{"the highest is tried first", versions{"1 new", "2 new"}, nil, "load 2"},
		{"files are looked at before", versions{"1 unseen", "2 unseen"}, nil, "inspect 2"},
		{"lower ones are not looked at", versions{"1 unseen", "2 new"}, nil, "load 2"},
		{"files that do not rest wait", versions{"1 unseen", "2 fresh"}, nil, "inspect 1"},
		{"a lower one is tried meanwhile", versions{"1 new", "2 fresh"}, nil, "load 1"},
		{"failed", versions{"1 new", "2 failed"}, nil, "load 1"},
		{"failed, and its time has not come", versions{"1 new", "2 failed-again"}, nil, "load 1"},
		{"failed, and its time has come", versions{"1 new", "2 retried"}, nil, "load 2"},
		{"gone", versions{"1 new", "2 gone"}, nil, "load 1"},
		{"one load at a time", versions{"1 new", "2 loading", "3 new"}, nil, "nothing"},
		{"not among model.versions", versions{"1 new", "2 new"}, func(s scene) { s.config.Versions = policy(t, "specific:1") }, "load 1"},

		// The version that serves.
		{"what was loaded serves", versions{"1 loaded"}, nil, "1 serves"},
		{"what was loaded serves, whatever came meanwhile", versions{"1 loaded", "2 new"}, nil, "1 serves"},
		{"the one that serves stays", versions{"2 stable", "1 new"}, nil, "nothing"},
		{"what was rolled back does not serve", versions{"1 loaded", "2 loaded rolled-back"}, nil, "1 serves; unload 2"},
		{"a newer one is loaded while it serves", versions{"2 stable", "3 new"}, nil, "load 3"},
		{"a newer one serves, and the one before stays for the probation", versions{"2 stable", "3 loaded"}, nil, "3 serves; on probation, judged true, way back 2"},
		{"without probation the one before goes", versions{"2 stable", "3 loaded"}, func(s scene) { s.config.Probation.Period = 0 }, "3 serves; unload 2"},
		{"its files are gone, and it goes on", versions{"2 stable gone", "1 new"}, nil, "nothing"},
		{"its files are gone, and a newer one comes", versions{"2 stable gone", "3 new"}, nil, "load 3"},

		// model.versions.
		{"standby is loaded", versions{"3 stable", "2 new", "1 new"}, func(s scene) { s.config.Versions = policy(t, "latest:2") }, "load 2"},
		{"standby stays", versions{"3 stable", "2 loaded", "1 new"}, func(s scene) { s.config.Versions = policy(t, "latest:2") }, "nothing"},
		{"standby moves on", versions{"4 stable", "3 loaded", "2 loaded"}, func(s scene) { s.config.Versions = policy(t, "latest:2") }, "unload 2"},
		{"a newer one before standby", versions{"4 new", "3 stable", "2 new"}, func(s scene) { s.config.Versions = policy(t, "latest:2") }, "load 4"},

		// Probation.
		{"passed", versions{"2 loaded", "3 stable"}, func(s scene) { s.onProbation(2, -time.Second, true) }, "passed; unload 2"},
		{"not over", versions{"2 loaded", "3 stable"}, func(s scene) { s.onProbation(2, time.Second, true) }, "nothing"},
		{"over, but for a run", versions{"2 loaded", "3 stable"}, func(s scene) {
			s.onProbation(2, -time.Second, true)
			s.health[s.routes.stable] = health{runs: []infer.ActiveRun{{Since: planTime.Add(-time.Minute)}}}
		}, "nothing"},
		{"a newer one waits for its end", versions{"2 loaded", "3 stable", "4 new"}, func(s scene) { s.onProbation(2, time.Second, true) }, "nothing"},
		{"a newer one comes at its end", versions{"2 loaded", "3 stable", "4 new"}, func(s scene) { s.onProbation(2, -time.Second, true) }, "passed; unload 2"},
		{"slow on probation", versions{"2 loaded", "3 stable slow"}, func(s scene) { s.onProbation(2, time.Second, true) }, "roll back 3: slow"},
		{"slow at its end", versions{"2 loaded", "3 stable slow"}, func(s scene) { s.onProbation(2, -time.Second, true) }, "roll back 3: slow"},
		{"slow, after it was rolled back", versions{"3 stable slow rolled-back"}, nil, "nothing"},
		{"rolled back, and a newer one is tried", versions{"2 stable", "3 loaded rolled-back", "4 new"}, nil, "unload 3; load 4"},
		{"rolled back without a way back", versions{"3 stable rolled-back", "1 failed"}, nil, "nothing"},
		{"rolled back, and an older one is loaded", versions{"3 stable rolled-back", "1 new"}, nil, "load 1"},
		{"rolled back, and a newer one is loaded", versions{"3 stable rolled-back", "4 new"}, nil, "load 4"},
		{"the older one serves, without a probation", versions{"3 stable rolled-back", "1 loaded"}, nil, "1 serves; unload 3"},
		{"all are rolled back", versions{"1 rolled-back", "2 rolled-back"}, nil, "nothing"},
		{"rolled back, and its files have changed", versions{"1 new", "2 changed"}, nil, "forgive 2; load 2"},
		{"rolled back, and its files cannot be read", versions{"1 new", "2 unreadable"}, nil, "load 2"},
		{"back from a version that hangs", versions{"2 stable stuck", "1 loaded"}, nil, "1 serves; unload 2"},

		// Chosen by hand.
		{"chosen", versions{"1 choice", "2 stable"}, nil, "load 1"},
		{"chosen, and loaded", versions{"1 choice loaded", "2 stable"}, nil, "1 serves; on probation, judged false, way back 2; served 1"},
		{"chosen, and serves", versions{"1 stable choice", "2 new"}, nil, "served 1"},
		{"chosen, and has served", versions{"1 stable chosen", "2 new"}, nil, "nothing"},
		{"chosen at the start", versions{"1 chosen", "2 new"}, nil, "load 1"},
		{"chosen, and loading at the start", versions{"1 chosen loading", "2 new"}, nil, "nothing"},
		{"chosen, and both are loaded at the start", versions{"1 chosen loaded", "2 loaded"}, nil, "1 serves; unload 2"},
		{"chosen, and not there", versions{"2 new"}, func(s scene) { s.Use = new(int64(7)) }, "nothing serves: version 7 was chosen by hand and cannot be loaded, and no other one is taken"},
		{"chosen, and not there, and another one serves", versions{"2 stable", "3 new"}, func(s scene) { s.Use = new(int64(7)) }, "nothing"},
		{"chosen, and failed", versions{"1 failed choice", "2 stable"}, nil, "nothing"},
		{"chosen with standby", versions{"1 stable chosen", "2 new", "3 new"}, func(s scene) { s.config.Versions = policy(t, "latest:2") }, "load 3"},
		{"chosen, on probation, and a newer one comes", versions{"1 stable chosen", "2 loaded", "3 new"}, func(s scene) { s.onProbation(2, time.Second, false) }, "nothing"},
		{"chosen during a probation", versions{"2 loaded choice", "3 stable"}, func(s scene) { s.onProbation(2, time.Second, true) }, "2 serves; on probation, judged false, way back 3; served 2"},
		{"chosen, and hangs", versions{"1 stable chosen stuck", "2 new"}, nil, "load 2"},
		{"chosen, hangs, and another one is loaded", versions{"1 stable chosen stuck", "2 loaded"}, nil, "2 serves; unload 1"},
		{"chosen, was unloaded since it hangs", versions{"1 chosen stuck-unloaded", "2 stable", "3 new"}, nil, "load 3"},

		// Canary and shadow.
		{"the stable one is noted", versions{"1 stable"}, rollout(canary), "choose 1"},
		{"a newer one is a canary first", versions{"1 stable chosen", "2 new"}, rollout(canary), "load 2"},
		{"a canary begins", versions{"1 stable chosen", "2 loaded"}, rollout(canary), "2 is canary"},
		{"a canary begins, and the stable one was not noted yet", versions{"1 stable", "2 loaded"}, rollout(canary), "2 is canary; choose 1"},
		{"a shadow begins", versions{"1 stable chosen", "2 loaded"}, rollout(shadow), "2 is shadow"},
		{"a canary goes on", versions{"1 stable chosen", "2 canary"}, nil, "nothing"},
		{"a better canary is loaded", versions{"1 stable chosen", "2 canary", "3 new"}, nil, "load 3"},
		{"a better canary begins", versions{"1 stable chosen", "2 canary", "3 loaded"}, nil, "3 is canary; unload 2"},
		{"a canary is slow", versions{"1 stable chosen", "2 canary slow"}, nil, "roll back 2: slow"},
		{"a canary was rolled back", versions{"1 stable chosen", "2 loaded rolled-back"}, rollout(canary), "unload 2"},
		{"a canary was rolled back, and the one before comes", versions{"1 stable chosen", "2 new", "3 loaded rolled-back"}, rollout(canary), "unload 3; load 2"},
		{"the canary is chosen", versions{"1 stable", "2 canary choice"}, nil, "2 serves; no canary; on probation, judged false, way back 1; served 2"},
		{"the canary is chosen, and a newer one comes", versions{"1 stable", "2 canary choice", "3 new"}, nil,
			"2 serves; no canary; on probation, judged false, way back 1; served 2; load 3"},
		{"a stable one that was rolled back is not noted", versions{"3 stable rolled-back"}, rollout(canary), "nothing"},
		{"chosen away from a canary", versions{"1 stable chosen", "2 canary"}, func(s scene) { s.PassedOver = new(int64(2)) }, "no canary; unload 2"},
		{"passed over, and a newer one comes", versions{"1 stable chosen", "2 new", "3 new"}, func(s scene) { s.config.Rollout, s.PassedOver = canary, new(int64(2)) }, "load 3"},
		{"passed over, and none is newer", versions{"1 stable chosen", "2 new"}, func(s scene) { s.config.Rollout, s.PassedOver = canary, new(int64(2)) }, "nothing"},
		{"the stable one is gone at the start", versions{"2 new", "3 new"}, func(s scene) { s.config.Rollout, s.Use = canary, new(int64(1)) }, "load 3"},
		{"the stable one is there at the start", versions{"1 chosen", "3 new"}, rollout(canary), "load 1"},
		{"the stable one hangs, and a newer one takes its place", versions{"1 stable chosen stuck", "2 loaded"}, rollout(canary), "2 serves; unload 1"},
		{"a canary, and standby", versions{"4 new", "3 stable chosen", "2 new"}, func(s scene) {
			s.config.Rollout, s.config.Versions = canary, policy(t, "latest:2")
		}, "load 4"},
		{"a canary during a probation", versions{"1 loaded", "2 stable chosen", "3 new"}, func(s scene) {
			s.config.Rollout = canary
			s.onProbation(1, time.Second, false)
		}, "load 3"},
		{"a canary and the version on probation are slow: one at a time", versions{"1 loaded", "2 stable slow", "3 canary slow"}, func(s scene) { s.onProbation(1, time.Second, true) }, "roll back 3: slow"},

		{"a canary, and standby is loaded", versions{"4 canary", "3 stable chosen", "2 new"}, func(s scene) { s.config.Versions = policy(t, "latest:2") }, "load 2"},
		{"the stable one cannot be loaded yet, and a newer one waits", versions{"1 chosen failed-again", "2 new"}, rollout(canary),
			"nothing serves: version 1 was chosen by hand and cannot be loaded, and no other one is taken"},
		{"chosen, and not there, and a canary comes", versions{"2 stable", "3 new"}, func(s scene) { s.config.Rollout, s.Use = canary, new(int64(7)) }, "load 3"},
		{"chosen, and not there, and the stable one hangs", versions{"1 loaded", "2 stable stuck"}, func(s scene) { s.config.Rollout, s.Use = canary, new(int64(7)) }, "unload 1"},
		{"the stable one was rolled back, and a newer one takes its place", versions{"3 stable rolled-back", "4 loaded"}, rollout(canary), "4 serves; choose 4; unload 3"},

		// Room for one copy.
		{"room for two", versions{"2 stable", "3 new"}, func(s scene) { s.noRoom(); s.memoryLeft = 20_000 }, "load 3"},
		{"no room", versions{"2 stable", "3 new"}, scene.noRoom, "load 3 in place of 2"},
		{"one copy", versions{"2 stable", "3 new"}, func(s scene) { s.config.Copies = copiesOne }, "load 3 in place of 2"},
		{"two copies, and no room", versions{"2 stable", "3 new"}, func(s scene) { s.noRoom(); s.config.Copies = copiesTwo }, "fail 3: memory: it takes about 0 MiB, and 0 MiB are left"},
		{"a canary, and no room", versions{"2 stable chosen", "3 new"}, func(s scene) { s.noRoom(); s.config.Rollout = canary }, "fail 3: memory: it takes about 0 MiB, and 0 MiB are left"},
		{"standby, and no room", versions{"3 stable", "2 new"}, func(s scene) { s.noRoom(); s.config.Versions = policy(t, "latest:2") }, "fail 2: memory: it takes about 0 MiB, and 0 MiB are left"},
		{"the first version needs no room", versions{"3 new"}, scene.noRoom, "load 3"},
		{"chosen, in one copy's memory", versions{"2 choice", "3 stable"}, func(s scene) { s.config.Copies = copiesOne }, "load 2 in place of 3"},
		{"rolled back, in one copy's memory", versions{"2 new", "3 stable rolled-back"}, func(s scene) { s.config.Copies = copiesOne }, "load 2 in place of 3"},
		{"one copy, and a probation without a way back in memory", versions{"2 new", "3 stable", "4 new"}, func(s scene) {
			s.config.Copies = copiesOne
			s.probation = &probation{&infer.Version{}, planTime.Add(time.Second), true}
		}, "nothing"},
		{"records wait for a load", versions{"2 new", "3 loading", "4 new"}, func(s scene) { s.pause(3, 2) }, "nothing"},
		{"records wait, and the load has come", versions{"2 new", "3 loaded", "4 new"}, func(s scene) { s.pause(3, 2) }, "3 serves; on probation, judged true, way back 2"},
		{"records wait, and the one before is loaded again", versions{"2 loaded", "3 failed"}, func(s scene) { s.pause(3, 2) }, "2 serves"},
		{"records wait, and no version is left", versions{"2 gone", "3 failed"}, func(s scene) { s.pause(3, 2) }, "nobody serves"},

		// Loads that do not end.
		{"nothing is loaded while a load is overdue", versions{"2 stable", "3 load-overdue", "4 new"}, nil, "no version can be loaded now: a load of version 3 does not end"},
		{"what is loaded may serve meanwhile", versions{"2 stable", "3 load-overdue", "4 loaded"}, nil,
			"no version can be loaded now: a load of version 3 does not end; 4 serves; on probation, judged true, way back 2"},
		{"a version with overdue runs is not loaded again", versions{"2 stuck-unloaded", "1 stable"}, nil, "nothing"},

		// The state file cannot be read.
		{"it is not known what was decided", versions{"2 new"}, scene.unknown, "nothing"},
		{"not known, and a newer one is loaded", versions{"2 stable", "3 loaded"}, scene.unknown, "nothing"},
		{"not known, and a canary is slow", versions{"2 stable", "3 canary slow"}, scene.unknown, "roll back 3: slow"},
		{"not known, and records wait", versions{"2 new", "3 loaded"}, func(s scene) { s.unknown(); s.pause(3, 2) }, "3 serves; on probation, judged true, way back 2"},
	}, precisionRows(t)) {
		t.Run(test.name, func(t *testing.T) {
			s := sceneOf(t, test.versions...)
			if test.change != nil {
				test.change(s)
			}
			p := plan(s.state, *s.decisions, planTime)
			if got := p.summary(s.state); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func (s scene) unknown() { s.unreadable = errors.New("no") }

// pause makes records wait while one version takes the place of another.
func (s scene) pause(coming, before int64) {
	s.routes = &routes{paused: make(chan struct{}), coming: coming, before: infer.NewUnloaded(infer.Info{Version: before}, 0)}
}

// A plan says when the next round is due: when files will have rested, when a version may be tried
// again, soon while one is on probation, a canary or a shadow, and otherwise after model.poll.
func TestPlanAgain(t *testing.T) {
	for _, test := range []struct {
		name     string
		versions []string
		change   func(scene)
		want     time.Duration
	}{
		{"nothing to do", []string{"2 stable"}, nil, 5 * time.Second},
		{"files do not rest", []string{"2 stable", "3 fresh"}, nil, time.Second},
		{"a failed one may be tried again", []string{"2 stable", "3 failed-again"}, nil, 3 * time.Second},
		{"both", []string{"2 stable", "3 failed-again", "4 fresh"}, nil, time.Second},
		{"failed for good", []string{"2 stable", "3 failed"}, nil, 5 * time.Second},
		{"probation", []string{"1 loaded", "2 stable"}, func(s scene) { s.onProbation(1, time.Minute, true) }, judgeEvery},
		{"canary", []string{"1 stable chosen", "2 canary"}, nil, judgeEvery},
		{"what was loaded begins to serve", []string{"2 loaded"}, nil, 0},
		{"not known what was decided", []string{"2 stable", "3 fresh"}, scene.unknown, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sceneOf(t, test.versions...)
			if test.change != nil {
				test.change(s)
			}
			if got := plan(s.state, *s.decisions, planTime).again; got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// The desired version is the one that was chosen, or else the highest one, even if that has failed.
func TestPlanDesired(t *testing.T) {
	for _, test := range []struct {
		name     string
		versions []string
		use      *int64
		want     *int64
	}{
		{"nothing there", nil, nil, nil},
		{"the highest", []string{"1 stable", "2 failed"}, nil, new(int64(2))},
		{"chosen", []string{"1 new", "2 stable"}, new(int64(1)), new(int64(1))},
		{"chosen, and not there", []string{"2 stable"}, new(int64(7)), new(int64(7))},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sceneOf(t, test.versions...)
			s.Use = test.use
			got := plan(s.state, *s.decisions, planTime).desired
			if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
