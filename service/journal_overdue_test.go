package service

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"inceptor/model/infer"
)

// A record whose run does not end is found out like one that ends the process,
// within a process or over several. What ran with it is not.
func TestJournalRunsOverdue(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	together := []entry{mustBegin(t, j, 1), mustBegin(t, j, 2)}
	for _, work := range together {
		work.end(runOverdue)
	}
	j.check(t, 2, 0)
	mustBegin(t, j, 1).end(handled)
	mustBegin(t, j, 2).end(runOverdue)
	if err := j.close(); err != nil { // kafka.on-error stop
		t.Fatal(err)
	}
	j = open4test(t, dir, "in")
	j.check(t, 1, 0)
	mustBegin(t, j, 2).end(notHandled) // every lane hangs
	for range maxDeathsAlone - 1 {
		mustBegin(t, j, 2).end(runOverdue)
	}
	j.check(t, 0, 1)
	if _, err := j.begin(recordAt(2)); !errors.Is(err, errCrashed) {
		t.Errorf("got %v", err)
	}
	j.committed(of(1), 3)
	j.check(t, 0, 0)

	j.setUnproven(7, true)
	if !j.isUnproven(7) || j.isUnproven(6) {
		t.Error("7 is unproven, and 6 is not")
	}
}

// A run that does not end is held against the record, unless it is a run of an
// unproven version.
func TestResultOf(t *testing.T) {
	h := &handler{journal: open4test(t, t.TempDir(), "in")}
	overdue := func(version int64) error {
		return fmt.Errorf("no local version can answer (%w): %w", &infer.OverdueError{Version: version}, errors.New("no server"))
	}
	for _, test := range []struct {
		err  error
		want result
	}{
		{overdue(1), runOverdue},
		{overdue(2), notHandled},
		{infer.ErrHangs, notHandled},
		{&infer.InputError{Reason: infer.ReasonUndecodable, Err: errors.New("x")}, handled},
	} {
		h.journal.setUnproven(2, true)
		if got := h.resultOf(test.err); got != test.want {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
	}
}

// While a run that was given up goes on, a suspect is not alone: the process may
// die of that run. A run of its own that does not end still counts.
func TestJournalBesideOverdueRun(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	for _, work := range []entry{mustBegin(t, j, 1), mustBegin(t, j, 2)} {
		work.end(runOverdue)
	}
	j.overdue = func() bool { return true }
	mustBegin(t, j, 1)
	j.die(t, true) // of the run of 2
	j = open4test(t, dir, "in")
	j.check(t, 2, 0)
	mustBegin(t, j, 1).end(handled)

	j.overdue = func() bool { return true }
	for range maxDeathsAlone {
		mustBegin(t, j, 2).end(runOverdue)
	}
	j.check(t, 0, 1)
}

// A record that is found guilty while another handler of it waits to work on it
// alone is not worked on again.
func TestJournalGuiltyWhileWaiting(t *testing.T) {
	j := open4test(t, t.TempDir(), "in")
	for range maxDeathsAlone {
		mustBegin(t, j, 1).end(runOverdue)
	}
	last := mustBegin(t, j, 1)
	got := make(chan error)
	go func() {
		_, err := j.begin(recordAt(1))
		got <- err
	}()
	time.Sleep(10 * time.Millisecond) // it waits by now, or finds out before
	last.end(runOverdue)
	if err := <-got; !errors.Is(err, errCrashed) {
		t.Errorf("got %v", err)
	}
}
