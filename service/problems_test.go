package service

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/model"
	"inceptor/service/page"
	"inceptor/service/stream"
)

// What is wrong is told worst first, with what to do about it.
func TestProblems(t *testing.T) {
	ready := Readiness{Ready: true, Partitions: []stream.Partition{of(0), of(2)}}
	stable := model.Status{Version: 3, State: model.StateServing, Label: model.LabelStable}
	failed := func(version int64) model.Status {
		return model.Status{Version: version, State: model.StateFailed, Gate: "golden", Reason: "cat.jpg is a dog"}
	}
	back := func(version int64) model.Status {
		return model.Status{Version: version, State: model.StateRolledBack, Reason: "slow: it is slow"}
	}
	for _, test := range []struct {
		name string
		s    situation
		want []string // severity: what | mend
	}{
		{"all is well", situation{ready: ready, versions: []model.Status{stable}}, nil},
		{"no broker", situation{ready: Readiness{Reasons: []string{notAMember}}, brokers: []string{"a:1", "b:2"}},
			[]string{"error: The process is no member of the consumer group yet, so it reads no record. | Check that a broker answers at a:1, b:2; the log has the reason."}},
		{"the login is refused", situation{ready: Readiness{Reasons: []string{notAMember, "no"}, Authentication: "no"}},
			[]string{"error: The brokers refuse the login, so no record is read: no. | Check kafka.sasl and kafka.tls."}},
		{"the login is refused later", situation{ready: Readiness{Authentication: "no"}},
			[]string{"warning: The brokers refuse the login: no; open connections go on. | Check kafka.sasl and kafka.tls."}},
		{"no version, so it does not join", situation{ready: Readiness{Reasons: []string{notAMember, "none"}}, notServing: errors.New("none"), dir: "models/cats"},
			[]string{"error: No version of the model can answer: none. | The reason of each version is below; publish one that passes its gates in models/cats."}},
		{"a stuck partition and a failed version", situation{ready: ready, versions: []model.Status{failed(4), stable, failed(2)},
			stuck: []stuckPartition{{of(2), "refused", "too large"}}},
			[]string{"error: Partition in-2 is stuck: too large. | Raise max.message.bytes of the topics, or change the rule that refuses the record.",
				"warning: Version 4 failed at the gate golden: cat.jpg is a dog. | Correct its files, or publish a new version."}},
		{"partitions stuck for one reason", situation{ready: ready, stuck: []stuckPartition{{of(0), "publish", "refused"}, {of(1), "model", "no"}, {of(2), "publish", "refused"}}},
			[]string{"error: 2 partitions are stuck, such as in-0: refused. | Check that the brokers run and have enough replicas in sync; it is tried again by itself.",
				"error: Partition in-1 is stuck: no. | It is tried again until the model answers; kafka.on-error=dead-letter gives such records up."}},
		{"a version that is tried again", situation{ready: ready, versions: []model.Status{func() model.Status { v := failed(4); v.Retry = time.Unix(9, 0); return v }(), stable}},
			[]string{"warning: Version 4 failed at the gate golden: cat.jpg is a dog. | It is tried again by itself."}},
		{"rolled back", situation{ready: ready, versions: []model.Status{back(4), stable, back(1)}},
			[]string{"warning: Version 4 was rolled back: slow: it is slow. | Publish a better one; to try this one again: inceptor models use 4."}},
		{"fallback", situation{ready: ready, fallback: true, versions: []model.Status{failed(4)}},
			[]string{"warning: The model server answers, because no version here can. | The reason of each version is below.",
				"warning: Version 4 failed at the gate golden: cat.jpg is a dog. | Correct its files, or publish a new version."}},
		{"fetching waits", situation{ready: ready, fetching: "2 partitions wait"},
			[]string{"warning: Fetching waits: 2 partitions wait. | It goes on when records are published; raise kafka.window.total-bytes if there is memory for it."}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, p := range test.s.problems() {
				got = append(got, p.Severity+": "+p.What+" | "+p.Mend)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// However many partitions are stuck, a few are told, and each reason has advice.
func TestManyStuck(t *testing.T) {
	versions := situation{ready: Readiness{Ready: true}}
	for i := range int64(1000) {
		versions.versions = append(versions.versions, model.Status{Version: 1000 - i, State: model.StateFailed})
	}
	if list := versions.problems(); len(list) != maxUnserved+1 {
		t.Errorf("%d problems of versions", len(list))
	}
	var s situation
	for reason := range stuckMends {
		for i := range 20 {
			s.stuck = append(s.stuck, stuckPartition{of(i), reason, strconv.Itoa(i)})
		}
	}
	list := s.problems()
	if len(list) != maxStuck+1 {
		t.Errorf("%d problems: %v", len(list), list)
	}
	for _, stage := range []stream.Stage{stream.Reading, stream.Handling, stream.Publishing, stream.Committing} {
		for _, err := range []error{errors.New("x"), stream.ErrOpenTransaction, stream.ErrKeyless} {
			if reason := stuckReason(stage, err); stuckMends[reason] == "" {
				t.Errorf("no advice for %s", reason)
			}
		}
	}
}

// While partitions are stuck for a reason, it keeps its key, whichever they are.
func TestStuckKey(t *testing.T) {
	keys := map[string]bool{}
	for _, stuck := range [][]stuckPartition{
		{{of(0), "publish", "refused"}, {of(1), "publish", "refused"}}, {{of(1), "publish", "refused"}}, {{of(1), "publish", "too large"}},
	} {
		keys[situation{stuck: stuck}.problems()[0].key] = true
	}
	if len(keys) != 2 {
		t.Errorf("keys: %v", keys)
	}
}

// A problem keeps its time while its words change, and begins anew after it was gone.
func TestProblemTimes(t *testing.T) {
	at := func(i int) time.Time { return time.Unix(int64(i), 0) }
	a := func(what string) problem { return problem{"a", page.Problem{What: what}} }
	b := problem{"b", page.Problem{What: "b"}}
	var l problemLog
	for i, step := range []struct {
		now  []problem
		want []time.Time
	}{
		{[]problem{a("1 of 3")}, []time.Time{at(0)}},
		{[]problem{b, a("2 of 3")}, []time.Time{at(1), at(0)}},
		{[]problem{b}, []time.Time{at(1)}},
		{[]problem{a("again"), b}, []time.Time{at(3), at(1)}},
		{nil, nil},
		{[]problem{b}, []time.Time{at(5)}},
	} {
		var got []time.Time
		for _, p := range l.update(step.now, at(i)) {
			got = append(got, p.Since)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}
