package service

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"inceptor/savedmodel"
	"inceptor/service/stream"
)

// ReasonCrashed is the reason of a dead letter for a record that has ended the
// process, or hung the model, while it was worked on alone.
const ReasonCrashed = "crashed"

// errCrashed is the error of such a dead letter.
var errCrashed = errors.New("the process died, or a run of the model did not end, while this record was worked on, " +
	"first among others, then alone")

// A journal notes which records are being worked on in a file that outlives
// the process. If the process dies, the next one finds its suspects there: it
// works on each of them alone, and finds the guilty that way, as death.verdict
// says. A suspect stays one until it is answered, a guilty record until its
// offset is committed, over any number of processes. That costs two stores into
// mapped memory for a record; the system writes the file when it likes, for the
// process ends, not the machine.
//
// A nil journal does nothing. Safe for concurrent use.
type journal struct {
	// Set once.
	file  *os.File         // locked: one process, one file
	kills func() killCount // now
	// overdue tells whether runs that were given up go on: they may end the
	// process too. Nil: there are none.
	overdue func() bool

	// alone is held by who works on a suspect, and shared by all others.
	alone sync.RWMutex

	// Guarded by mu.
	mu       sync.Mutex
	mem      journalFile // not to be read or written once closed is set
	closed   bool        // the file is another process's now
	free     []int       // slots
	marks    map[suspect]mark
	assigned map[sourceOf]bool // partitions
}

// A mark is on a record that is suspected or guilty.
type mark struct {
	slot   int
	guilty bool
	deaths uint8 // alone
	busy   bool  // it is being worked on
}

// journalOff is the value of Crash.Journal for no journal.
const journalOff = "off"

// openJournal takes the first file in the folder that no other process has,
// and reads what the one before it has left. blame takes a version back that
// was new when native code crashed the process, and tells whether it did. The
// journal is nil if there can be none, which is logged.
func openJournal(c Crash, k Kafka, blame func(version int64) bool, log *slog.Logger) *journal {
	if c.Journal == journalOff {
		return nil
	}
	dir := c.Journal
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("inceptor-%d", os.Getuid()))
	}
	j, err := newJournal(dir, k.Group, strings.Join(slices.Sorted(slices.Values(k.Input)), ","), blame)
	if err != nil {
		log.Warn("no journal: a record that crashes the process will do so again", "err", err)
		return nil
	}
	if suspects, guilty := j.count(); suspects+guilty > 0 {
		log.Warn("a process died at work: the records under way then are worked on one by one, and the guilty become dead letters",
			"records", suspects, "guilty", guilty)
	}
	return j
}

func newJournal(dir, group, topics string, blame func(version int64) bool) (*journal, error) {
	file, mem, err := mapJournal(dir, journalName(group, topics))
	if err != nil || mem == nil {
		return nil, err
	}
	j := resume(mem, topics, newKillCounter("/").read, blame)
	j.file = file
	savedmodel.CountCrashes(j.mem.crashes())
	return j, nil
}

// resume makes a journal of the file that the process before has left.
func resume(mem journalFile, topics string, kills func() killCount, blame func(version int64) bool) *journal {
	j := &journal{mem: mem, kills: kills, marks: map[suspect]mark{}}
	mem.begin(topics)
	var d death
	version, tried := mem.version()
	if *mem.crashes() > 0 {
		d.crashed = true
		d.version = tried && blame(version)
	}
	d.outOfMemory = !tried && kills().risenSince(mem.kills())
	for i := range slots {
		s := d.verdict(mem.slot(i))
		if _, twice := j.marks[s.suspect]; s.state == slotFree || twice {
			j.release(i)
			continue
		}
		mem.setState(i, s.state, s.deaths)
		j.marks[s.suspect] = mark{slot: i, guilty: s.state == slotGuilty, deaths: s.deaths}
	}
	// Last, for a process that is killed in the middle has not judged.
	mem.setVersion(0, false)
	*mem.crashes() = 0
	return j
}

// count counts the suspects and the guilty.
func (j *journal) count() (suspects, guilty int) {
	if j == nil {
		return 0, 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, m := range j.marks {
		if m.guilty {
			guilty++
		}
	}
	return len(j.marks) - guilty, guilty
}

// try notes the version of the model that is new; not ok: none is.
func (j *journal) try(version int64, ok bool) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed {
		j.mem.setVersion(version, ok)
	}
}

// tries tells whether a version is the one that is new.
func (j *journal) tries(version int64) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	tried, ok := j.mem.version()
	return ok && tried == version
}

// assign notes the partitions that are this process's.
func (j *journal) assign(partitions []stream.Partition) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.assigned = map[sourceOf]bool{}
	for _, p := range partitions {
		j.assigned[sourceOf{topicSum(p.Topic), int32(p.ID)}] = true
	}
}

// committed forgets the records of a partition below the offset that the group
// has committed: they are answered, here or by another process.
func (j *journal) committed(partition stream.Partition, next int64) {
	if j == nil {
		return
	}
	source := sourceOf{topicSum(partition.Topic), int32(partition.ID)}
	j.forget(func(s suspect) bool { return s.source() == source && s.offset < next })
}

// forget takes the marks off records that are not worked on now.
func (j *journal) forget(which func(suspect) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	for s, m := range j.marks {
		if !m.busy && which(s) {
			delete(j.marks, s)
			j.release(m.slot)
		}
	}
}

// A journalObserver tells the journal, too, what it must know of the driver.
type journalObserver struct {
	stream.Observer
	journal *journal
}

// Assigned implements stream.Observer.
func (o journalObserver) Assigned(partitions []stream.Partition) {
	o.journal.assign(partitions)
	o.Observer.Assigned(partitions)
}

// Committed implements stream.Observer.
func (o journalObserver) Committed(partition stream.Partition, next, lag int64) {
	o.journal.committed(partition, next)
	o.Observer.Committed(partition, next, lag)
}

// An entry is a record that is being worked on.
type entry struct {
	journal *journal
	suspect suspect
	slot    int // negative: none
	alone   bool
}

// begin notes that a record is worked on, until end is called. It waits while a
// suspect is worked on, and before one until nothing else is. A record that is
// guilty is not to be worked on: errCrashed.
func (j *journal) begin(r stream.Record) (entry, error) {
	if j == nil {
		return entry{}, nil
	}
	s := suspectOf(r)
	j.mu.Lock()
	m, marked := j.marks[s]
	j.mu.Unlock()
	if m.guilty {
		return entry{}, errCrashed
	}
	e := entry{journal: j, suspect: s, alone: marked}
	if marked {
		j.alone.Lock()
	} else {
		j.alone.RLock()
	}
	var guilty bool
	if e.slot, guilty = j.take(s, marked); guilty { // found so while it waited
		e.unlock()
		return entry{}, errCrashed
	}
	return e, nil
}

// An outcome is what came of the work on a record.
type outcome int

const (
	workedOn    outcome = iota // it is answered, or a dead letter
	notWorkedOn                // it comes again, and is as suspect as before
	runOverdue                 // the model's run of it does not end, which counts like a death
)

// end notes what came of a record.
func (e entry) end(came outcome) {
	j := e.journal
	if j == nil {
		return
	}
	j.give(e, came)
	e.unlock()
}

func (e entry) unlock() {
	if e.alone {
		e.journal.alone.Unlock()
	} else {
		e.journal.alone.RUnlock()
	}
}

// take notes a record in its own slot, or in a free one; -1: there is none. A
// guilty record is not to be worked on.
func (j *journal) take(s suspect, alone bool) (at int, guilty bool) {
	var kills killCount
	if alone {
		kills = j.kills()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return -1, false
	}
	if !alone {
		return j.note(slot{suspect: s, state: slotAmong}), false
	}
	j.mem.setKills(kills)
	state := slotAlone
	if j.overdue != nil && j.overdue() {
		state = slotAmong
	}
	m, marked := j.marks[s]
	switch {
	case !marked: // it was answered while it waited, and comes again
		return j.note(slot{suspect: s, state: state}), false
	case m.guilty:
		return -1, true
	}
	m.busy = true
	j.marks[s] = m
	j.mem.setState(m.slot, state, m.deaths)
	return m.slot, false
}

// give is the opposite of take.
func (j *journal) give(e entry, came outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || e.slot < 0 {
		return
	}
	m, marked := j.marks[e.suspect]
	own := marked && m.slot == e.slot
	switch {
	case !own && (marked || came != runOverdue):
		j.release(e.slot)
	case came == workedOn:
		delete(j.marks, e.suspect)
		j.release(e.slot)
	default:
		s := j.mem.slot(e.slot)
		if came == runOverdue {
			if e.alone {
				s.state = slotAlone // whatever other runs go on
			}
			s = death{}.verdict(s)
		} else {
			s.state = slotSuspect
		}
		j.mem.setState(e.slot, s.state, s.deaths)
		j.marks[e.suspect] = mark{slot: e.slot, guilty: s.state == slotGuilty, deaths: s.deaths}
	}
}

// note writes a record into a free slot; -1: there is none. It takes those of
// other processes' partitions if need be, for nobody else would ever free them.
// The caller holds mu.
func (j *journal) note(s slot) int {
	if len(j.free) == 0 {
		for s, m := range j.marks {
			if !m.busy && !j.assigned[s.source()] {
				delete(j.marks, s)
				j.release(m.slot)
			}
		}
	}
	if len(j.free) == 0 {
		return -1
	}
	i := j.free[len(j.free)-1]
	j.free = j.free[:len(j.free)-1]
	j.mem.set(i, s)
	return i
}

// release frees a slot. The caller holds mu.
func (j *journal) release(i int) {
	j.mem.setState(i, slotFree, 0)
	j.free = append(j.free, i)
}

// close gives the file up to the next process, for which nothing is under way.
// Handlers may be late: what they begin and end after it is not noted. The
// memory stays mapped, for a signal handler may be about to write there.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	savedmodel.CountCrashes(nil)
	j.settle()
	return errors.Join(unlockJournal(j.file), j.file.Close())
}

// settle ends the noting, with nothing under way.
func (j *journal) settle() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, m := range j.marks { // first: a process may be killed between any two stores
		if m.busy {
			j.mem.setState(m.slot, slotSuspect, m.deaths)
		}
	}
	for i := range slots {
		if s := j.mem.slot(i); s.state == slotAmong || s.state == slotAlone {
			j.mem.setState(i, slotFree, 0)
		}
	}
}
