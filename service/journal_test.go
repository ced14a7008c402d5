package service

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/service/stream"
)

func open4test(t testing.TB, dir, topic string) *journal {
	t.Helper()
	j, err := newJournal(dir, "group", topic, blameless)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if j.file != nil {
			_ = j.close()
		}
	})
	return j
}

// blameless is for when there is no other version.
func blameless(int64) bool { return false }

// die ends the journal as the end of its process would.
func (j *journal) die(t testing.TB, crashed bool) {
	t.Helper()
	if crashed {
		*j.mem.crashes()++
	}
	j.closed = true
	if err := errors.Join(unlockJournal(j.file), j.file.Close()); err != nil {
		t.Fatal(err)
	}
	j.file = nil
}

func (j *journal) check(t testing.TB, suspects, guilty int) {
	t.Helper()
	if s, g := j.count(); s != suspects || g != guilty {
		t.Errorf("%d suspects, %d guilty, want %d and %d", s, g, suspects, guilty)
	}
}

func recordAt(offset int64) stream.Record {
	return stream.Record{Topic: "in", Partition: 1, Offset: offset, Value: fmt.Append(nil, "image ", offset)}
}

// mustBegin begins a record that must not be guilty.
func mustBegin(t testing.TB, j *journal, offset int64) entry {
	t.Helper()
	work, err := j.begin(recordAt(offset))
	if err != nil {
		t.Fatalf("record %d: %v", offset, err)
	}
	return work
}

// The record that crashes the process is found out, and costs nobody else
// anything.
func TestJournalFindsTheGuilty(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	var works []entry
	for offset := range int64(5) {
		works = append(works, mustBegin(t, j, offset))
	}
	works[0].end(handled) // done
	j.die(t, true)

	j = open4test(t, dir, "in")
	j.check(t, 4, 0)
	mustBegin(t, j, 1).end(handled) // innocent
	mustBegin(t, j, 3)              // and dies
	j.die(t, true)

	j = open4test(t, dir, "in")
	j.check(t, 2, 1)
	for _, offset := range []int64{2, 4} {
		mustBegin(t, j, offset).end(handled)
	}
	other := recordAt(3)
	other.Value = []byte("of another topic with this name")
	if work, err := j.begin(other); err != nil {
		t.Errorf("another record with the same offset: %v", err)
	} else {
		work.end(handled)
	}
	if _, err := j.begin(recordAt(3)); !errors.Is(err, errCrashed) {
		t.Errorf("the guilty record: got %v", err)
	}
	j.check(t, 0, 1)
}

// A guilty record is not worked on before its offset is committed, however
// often it comes and whatever happens.
// The same place in another topic is another record, and its commit says nothing
// of this one.
func TestJournalSeveralTopics(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in,other")
	mustBegin(t, j, 3)
	j.die(t, true)
	j = open4test(t, dir, "in,other")
	j.committed(stream.Partition{Topic: "other", ID: 1}, 9)
	j.check(t, 1, 0)
	namesake := recordAt(3)
	namesake.Topic = "other"
	work, err := j.begin(namesake)
	if err != nil || work.alone {
		t.Errorf("another topic's record: alone %v, %v", work.alone, err)
	}
	work.end(handled)
	j.check(t, 1, 0)
	j.committed(of(1), 9)
	j.check(t, 0, 0)
}

func TestJournalGuiltyUntilCommitted(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 3)
	j.die(t, true)
	j = open4test(t, dir, "in")
	mustBegin(t, j, 3)
	j.die(t, true)
	for _, end := range []func(){
		func() { j.die(t, true) },
		func() { j.die(t, false) },
		func() { _ = j.close() },
	} {
		j = open4test(t, dir, "in")
		for range 2 { // the second time as after a rebalance
			if _, err := j.begin(recordAt(3)); !errors.Is(err, errCrashed) {
				t.Fatalf("got %v", err)
			}
		}
		j.committed(of(1), 3) // what is before it
		j.committed(of(0), 9)
		j.check(t, 0, 1)
		end()
	}
	j = open4test(t, dir, "in")
	j.committed(of(1), 4)
	j.check(t, 0, 0)
	_ = j.close()
	open4test(t, dir, "in").check(t, 0, 0)
}

// What is suspected, and not tried yet, stays suspected when the next process
// dies; among others it would crash that once more.
func TestJournalTwoGuilty(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	for offset := range int64(5) {
		mustBegin(t, j, offset)
	}
	j.die(t, true)
	for _, guilty := range []int64{0, 1} {
		j = open4test(t, dir, "in")
		mustBegin(t, j, guilty)
		j.die(t, true)
	}
	j = open4test(t, dir, "in")
	j.check(t, 3, 2)
	j.committed(of(1), 4)
	j.check(t, 1, 0)
}

// A process that was killed leaves suspects, too; one is guilty after three
// deaths alone.
func TestJournalOfTheKilled(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 1)
	mustBegin(t, j, 2)
	j.die(t, false)
	for range maxDeathsAlone {
		j = open4test(t, dir, "in")
		j.check(t, 2, 0)
		mustBegin(t, j, 1)
		j.die(t, false)
	}
	j = open4test(t, dir, "in")
	j.check(t, 1, 1)
	mustBegin(t, j, 2).end(handled)
	j.check(t, 0, 1)
}

// A process that has closed its journal was not ended by what it was working
// on; what it has not tried is as suspect as before.
func TestJournalClosed(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 1)
	mustBegin(t, j, 2)
	j.die(t, false)
	j = open4test(t, dir, "in")
	mustBegin(t, j, 1)
	j.die(t, false)
	for range maxDeathsAlone + 1 {
		j = open4test(t, dir, "in")
		j.check(t, 2, 0)
		mustBegin(t, j, 1)
		if m := j.marks[suspectOf(recordAt(1))]; m.deaths != 1 {
			t.Errorf("%d deaths alone, want 1", m.deaths)
		}
		_ = j.close()
	}
	j = open4test(t, dir, "in")
	for _, offset := range []int64{1, 2, 3} {
		mustBegin(t, j, offset).end(handled)
	}
	mustBegin(t, j, 4)
	_ = j.close()
	open4test(t, dir, "in").check(t, 0, 0)
}

// A suspect is alone: it waits for all others, and they for it.
func TestJournalAlone(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 7)
	j.die(t, true)
	j = open4test(t, dir, "in")
	var now, most atomic.Int64
	alone := make(chan struct{})
	work := func(r stream.Record, d time.Duration) {
		work, err := j.begin(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer work.end(handled)
		n := now.Add(1)
		defer now.Add(-1)
		most.Store(max(most.Load(), n))
		if r.Offset == 7 && n != 1 {
			t.Errorf("the suspect is one of %d", n)
		}
		time.Sleep(d)
	}
	go func() {
		defer close(alone)
		time.Sleep(5 * time.Millisecond)
		work(recordAt(7), 20*time.Millisecond)
	}()
	done := make(chan struct{})
	for offset := range int64(50) {
		go func() {
			work(recordAt(100+offset), 2*time.Millisecond)
			done <- struct{}{}
		}()
		time.Sleep(time.Millisecond)
	}
	for range 50 {
		<-done
	}
	<-alone
	if most.Load() < 2 {
		t.Error("the others were alone as well")
	}
}

// A suspect that comes twice at once, as after a rebalance that did not wait
// for it, is alone both times, and needs no slot for ever.
func TestJournalSuspectTwice(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 1)
	mustBegin(t, j, 1) // among others, too
	j.die(t, true)
	j = open4test(t, dir, "in")
	j.check(t, 1, 0)
	first, second := mustBegin(t, j, 1), make(chan entry)
	go func() {
		work, _ := j.begin(recordAt(1))
		second <- work
	}()
	select {
	case <-second:
		t.Fatal("the second is not alone")
	case <-time.After(10 * time.Millisecond):
	}
	j.committed(of(1), 2) // while it is worked on: the other one was answered
	first.end(handled)
	work := <-second
	work.end(handled)
	if !work.alone || len(j.free) != slots {
		t.Errorf("alone: %v, %d of %d slots are free", work.alone, len(j.free), slots)
	}
}

// A record that was not worked on after all stays as suspect as it was.
func TestJournalNotWorkedOn(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 1)
	j.die(t, true)
	j = open4test(t, dir, "in")
	mustBegin(t, j, 1).end(notHandled) // no version serves
	j.check(t, 1, 0)
	j.die(t, true)
	open4test(t, dir, "in").check(t, 1, 0)
}

// The version that was unproven at a crash is blamed, and then no record is, alone
// or among others.
func TestJournalBlamesVersion(t *testing.T) {
	for _, test := range []struct {
		name             string
		unproven         []int64
		crashed, other   bool
		blamed           int64
		suspects, guilty int
	}{
		{"unproven", []int64{7}, true, true, 7, 2, 0},
		{"unproven, version 0", []int64{0}, true, true, 0, 2, 0},
		{"no other version", []int64{7}, true, false, 7, 1, 1},
		{"killed", []int64{7}, false, true, -1, 2, 0},
		{"it has proved itself", []int64{8, -1}, true, true, -1, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			mem := make(journalFile, journalBytes)
			start := func(blame func(int64) bool) *journal {
				return resume(mem, "in", func() killCount { return killCount{} }, blame)
			}
			j := start(nil)
			mustBegin(t, j, 1)
			mustBegin(t, j, 2)
			j = start(nil)
			mustBegin(t, j, 1).end(notHandled)
			for _, version := range test.unproven {
				j.setUnproven(version, version >= 0)
			}
			mustBegin(t, j, 1)
			if test.crashed {
				*mem.crashes()++
			}
			blamed := int64(-1)
			j = start(func(version int64) bool { blamed = version; return test.other })
			if blamed != test.blamed {
				t.Errorf("version %d is blamed, want %d", blamed, test.blamed)
			}
			j.check(t, test.suspects, test.guilty)
		})
	}
	mem := make(journalFile, journalBytes) // among others
	j := resume(mem, "in", func() killCount { return killCount{} }, nil)
	j.setUnproven(7, true)
	mustBegin(t, j, 1)
	*mem.crashes()++
	resume(mem, "in", j.kills, func(int64) bool { return true }).check(t, 0, 0)
}

func BenchmarkJournal(b *testing.B) {
	j := open4test(b, b.TempDir(), "in")
	r := recordAt(1)
	r.Value = make([]byte, 200<<10)
	b.SetBytes(int64(len(r.Value)))
	b.ReportAllocs()
	for b.Loop() {
		work, err := j.begin(r)
		if err != nil {
			b.Fatal(err)
		}
		work.end(handled)
	}
}
