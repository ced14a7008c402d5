package history

import (
	"slices"
	"strings"
	"sync"
	"time"

	"inceptor/model"
	"inceptor/service/page"
)

// A Timeline is the changes of the versions, the last page.MaxEvents. Safe for concurrent use.
type Timeline struct {
	mu     sync.Mutex // guards the rest
	before map[int64]model.Status
	events []page.Event // the latest last
}

// Update takes the versions as they are now, and adds what has changed since the last time.
func (t *Timeline) Update(now []model.Status, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range changes(t.before, now, at) {
		if !t.repeats(e) {
			t.events = append(t.events, e)
		}
	}
	t.events = t.events[max(0, len(t.events)-page.MaxEvents):]
	t.before = make(map[int64]model.Status, len(now))
	for _, v := range now {
		t.before[v.Version] = v
	}
}

// repeats tells whether a version has failed again as it did before: it may be tried again and
// again.
func (t *Timeline) repeats(e page.Event) bool {
	if e.Kind != page.EventFailed {
		return false
	}
	for _, last := range slices.Backward(t.events) {
		if last.Version == e.Version {
			return last.Kind == e.Kind && last.Text == e.Text
		}
	}
	return false
}

// Events returns them, the latest first.
func (t *Timeline) Events() []page.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	events := slices.Clone(t.events)
	slices.Reverse(events)
	return events
}

// changes returns an event for each change of a version's state, label or precision.
func changes(before map[int64]model.Status, now []model.Status, at time.Time) (events []page.Event) {
	for _, v := range slices.Backward(now) { // the lowest first
		was := before[v.Version]
		add := func(kind, text string) {
			events = append(events, page.Event{At: at, Version: v.Version, Kind: kind, Text: text})
		}
		if v.Label != was.Label {
			switch v.Label {
			case model.LabelStable:
				add(page.EventServing, began(v, was))
			case model.LabelCanary:
				add(page.EventCanary, "answers a part of the records, as a canary")
			case model.LabelShadow:
				add(page.EventShadow, "gets the records too, as a shadow: its answers are only compared")
			}
		} else if v.Label == model.LabelStable && v.Precision != was.Precision {
			add(page.EventPrecision, because("runs in "+precision(v.Precision), v.WhyPrecision))
		}
		if v.State != was.State || v.Reason != was.Reason {
			switch v.State {
			case model.StateFailed:
				add(page.EventFailed, because("failed at the gate "+v.Gate, v.Reason))
			case model.StateRolledBack:
				add(page.EventRolledBack, because("was rolled back", v.Reason))
			}
		}
	}
	return events
}

// began describes how a version began to serve.
func began(v, was model.Status) string {
	text := "answers the records"
	if was.Label != "" {
		text += ", after it was the " + was.Label
	}
	if v.Chosen {
		text += ", chosen by hand"
	}
	return text
}

func because(what, why string) string { return strings.TrimSuffix(what+": "+why, ": ") }

func precision(name string) string {
	if name == "" {
		return "the precision in which it was exported"
	}
	return name
}
