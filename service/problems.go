package service

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"inceptor/model"
	"inceptor/service/page"
	"inceptor/service/stream"
)

// A situation is what problems are found in.
type situation struct {
	ready      Readiness
	notServing error // why no version can answer; nil: one can
	stuck      []stuckPartition
	versions   []model.Status
	fallback   bool   // the model server answers, because no version here can
	fetching   string // why fetching waits; empty: it does not
	brokers    []string
	dir        string // of the model
}

// A problem is one of the page's, with what names it while its words change.
type problem struct {
	key string
	page.Problem
}

// maxStuck is for how many reasons it is told that partitions are stuck.
const maxStuck = 5

// maxUnserved is of how many versions it is told why they do not serve.
const maxUnserved = 10

// problems returns what is wrong, worst first.
func (s situation) problems() []problem {
	var list []problem
	add := func(severity, key, what, mend string) {
		list = append(list, problem{key, page.Problem{Severity: severity, What: sentence(what), Mend: sentence(mend)}})
	}
	if s.notServing != nil {
		add(page.SeverityError, "model", "No version of the model can answer: "+s.notServing.Error(),
			"The reason of each version is below; publish one that passes its gates in "+s.dir)
	}
	joined := !slices.Contains(s.ready.Reasons, notAMember)
	switch denied := s.ready.Authentication; {
	case denied != "" && joined:
		add(page.SeverityWarning, "login", "The brokers refuse the login: "+denied+"; open connections go on", "Check kafka.sasl and kafka.tls")
	case denied != "":
		add(page.SeverityError, "login", "The brokers refuse the login, so no record is read: "+denied, "Check kafka.sasl and kafka.tls")
	case !joined && s.notServing == nil: // it joins only once a version can answer
		add(page.SeverityError, "group", "The process is no member of the consumer group yet, so it reads no record",
			"Check that a broker answers at "+strings.Join(s.brokers, ", ")+"; the log has the reason")
	}
	for i, group := range s.stuckTogether() {
		if i == maxStuck {
			add(page.SeverityError, "more stuck", "Other partitions are stuck too, for other reasons", "/readyz has the reason of each")
			break
		}
		first := group[0]
		what := "Partition " + first.String() + " is stuck: " + first.text
		if n := len(group); n > 1 {
			what = fmt.Sprintf("%d partitions are stuck, such as %v: %s", n, first, first.text)
		}
		severity := page.SeverityError
		if first.reason == "commit" { // its records are answered
			severity = page.SeverityWarning
		}
		add(severity, "stuck "+first.reason+" "+first.text, what, stuckMends[first.reason])
	}
	if s.fallback {
		add(page.SeverityWarning, "fallback", "The model server answers, because no version here can", "The reason of each version is below")
	}
	if s.fetching != "" {
		add(page.SeverityWarning, "fetching", "Fetching waits: "+s.fetching, "It goes on when records are published; raise kafka.window.total-bytes if there is memory for it")
	}
	for i, v := range s.unserved() {
		if i == maxUnserved {
			add(page.SeverityWarning, "more versions", "Other versions failed or were rolled back too", "/models has the reason of each")
			break
		}
		key := fmt.Sprintf("version %d %s", v.Version, v.State)
		if v.State == model.StateFailed {
			mend := "Correct its files, or publish a new version"
			if !v.Retry.IsZero() {
				mend = "It is tried again by itself"
			}
			add(page.SeverityWarning, key, fmt.Sprintf("Version %d failed at the gate %s: %s", v.Version, v.Gate, v.Reason), mend)
		} else {
			add(page.SeverityWarning, key, fmt.Sprintf("Version %d was rolled back: %s", v.Version, v.Reason), "Publish a better one; to try this one again: inceptor models use "+fmt.Sprint(v.Version))
		}
	}
	slices.SortStableFunc(list, func(a, b problem) int { return strings.Compare(a.Severity, b.Severity) }) // error, warning
	return list
}

// stuckTogether returns the stuck partitions, those together that are stuck for the same reason.
func (s situation) stuckTogether() (groups [][]stuckPartition) {
	at := map[stuckPartition]int{} // index of a group, by a stuckPartition without its partition
	for _, p := range s.stuck {
		why := stuckPartition{reason: p.reason, text: p.text}
		i, known := at[why]
		if !known {
			i = len(groups)
			at[why], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], p)
	}
	return groups
}

// unserved returns the versions that should have served: those that failed or were rolled back,
// down to the one that serves.
func (s situation) unserved() (list []model.Status) {
	for _, v := range s.versions { // the highest first
		switch {
		case v.Label == model.LabelStable:
			return list
		case v.State == model.StateFailed, v.State == model.StateRolledBack:
			list = append(list, v)
		}
	}
	return list
}

// stuckMends say what to do about a stuck partition, by the reason that its metric has.
var stuckMends = map[string]string{
	"open-transaction": "Let the producer end its transaction, or abort that: kafka-transactions.sh --find-hanging",
	"read":             "Check that the partition has a leader, and its log no damage",
	"model":            "It is tried again until the model answers; kafka.on-error=dead-letter gives such records up",
	"refused":          "Raise max.message.bytes of the topics, or change the rule that refuses the record",
	"publish":          "Check that the brokers run and have enough replicas in sync; it is tried again by itself",
	"commit":           "Check that the group's coordinator runs and __consumer_offsets has enough replicas in sync; answers are published, and would be again after a restart",
}

// A stuckPartition is a partition without progress, or whose progress is not committed.
type stuckPartition struct {
	stream.Partition
	reason string // of stuckReason, of its first stage
	text   string // the errors
}

// sentence ends a text with a full stop.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}

// A problemLog knows since when each problem is there. The zero value is ready to use.
type problemLog struct{ since map[string]time.Time }

// update takes the problems that there are now, and returns them with their times.
func (l *problemLog) update(list []problem, now time.Time) []page.Problem {
	since := map[string]time.Time{}
	out := make([]page.Problem, len(list))
	for i, p := range list {
		at, known := l.since[p.key]
		if !known {
			at = now
		}
		since[p.key] = at
		out[i] = p.Problem
		out[i].Since = at
	}
	l.since = since
	return out
}
