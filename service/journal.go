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

// errCrashed is the error of such a dead letter.
var errCrashed = errors.New("the process died, or a run of the model did not end, while this record was in the model, " +
	"first among others, then alone")

// A journal writes which records are in the model to a file that outlives the
// process. If the process dies, the next process reads its suspects there: it
// handles each of them alone, and so finds the guilty record; death.judge has
// the rules. A suspect remains one until it is answered, a guilty record until
// its offset is committed, over any number of processes. The cost is two stores
// into mapped memory for each record. The system writes the file in its own time:
// the journal is for the end of a process, not of the machine.
//
// A nil journal does nothing. Safe for concurrent use.
type journal struct {
	// Set once.
	file    *os.File         // locked: each process has its own
	kills   func() killCount // reads the present count
	overdue func() bool      // an abandoned run still goes on, and may end the process; nil: never

	// alone is locked by a handler of a suspect, and read-locked by all others.
	alone sync.RWMutex

	mu       sync.Mutex  // guards what follows
	mem      journalFile // not to be read or written once closed is set
	closed   bool        // another process may have the file now
	free     []int       // slots
	marks    map[suspect]mark
	assigned map[sourceOf]bool // the process's partitions
}

// A mark is what the journal knows of a suspect or guilty record.
type mark struct {
	slot   int
	guilty bool
	deaths uint8 // of the process while the record was alone in the model
	busy   bool  // the record is in the model
}

// journalOff is the value of Crash.Journal for no journal.
const journalOff = "off"

// folder returns the folder of the journal; empty: there is none.
func (c Crash) folder() string {
	switch c.Journal {
	case journalOff:
		return ""
	case "":
		return filepath.Join(os.TempDir(), ownFolderName())
	}
	return c.Journal
}

// ownFolderName is the name of this user's own folder among those of others.
func ownFolderName() string { return fmt.Sprintf("inceptor-%d", os.Getuid()) }

// openJournal opens the first file in the folder that no other process has, and
// reads what the process before has left there. blame rolls a version back that
// was unproven when native code crashed the process, and tells whether it did. If no
// file can be opened, openJournal logs that and returns nil.
func openJournal(c Crash, k Kafka, blame func(version int64) bool, log *slog.Logger) *journal {
	dir := c.folder()
	if dir == "" {
		return nil
	}
	j, err := newJournal(dir, k.Group, strings.Join(slices.Sorted(slices.Values(k.Input)), ","), blame)
	if err != nil {
		log.Warn("no journal; a record that crashes the process will crash it again", "err", err)
		return nil
	}
	if suspects, guilty := j.count(); suspects+guilty > 0 {
		log.Warn("a process died with records in the model; they are now handled one by one, and guilty ones become dead letters",
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

// resume makes a journal of the file that the process before has left, and judges
// its records.
func resume(mem journalFile, topics string, kills func() killCount, blame func(version int64) bool) *journal {
	j := &journal{mem: mem, kills: kills, marks: map[suspect]mark{}}
	mem.initialize(topics)
	var d death
	version, unproven := mem.unproven()
	if *mem.crashes() > 0 {
		d.crashed = true
		d.newVersionCrashed = unproven && blame(version)
	}
	d.outOfMemory = !unproven && kills().risenSince(mem.kills())
	for i := range slots {
		s := d.judge(mem.slot(i))
		if _, twice := j.marks[s.suspect]; s.state == slotFree || twice {
			j.release(i)
			continue
		}
		mem.setState(i, s.state, s.deaths)
		j.marks[s.suspect] = mark{slot: i, guilty: s.state == slotGuilty, deaths: s.deaths}
	}
	// Only now, so that a process that is killed before judges them anew.
	mem.setUnproven(0, false)
	*mem.crashes() = 0
	return j
}

// count returns how many records are suspect, and how many guilty.
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

// setUnproven writes which version of the model is unproven, see model.Observer; with ok unset none
// is.
func (j *journal) setUnproven(version int64, ok bool) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed {
		j.mem.setUnproven(version, ok)
	}
}

// isUnproven tells whether a version is unproven, see model.Observer.
func (j *journal) isUnproven(version int64) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	unproven, ok := j.mem.unproven()
	return ok && unproven == version
}

// assign sets the partitions that this process has.
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

// committed forgets the records of a partition before the committed offset: they
// are answered, here or by another process.
func (j *journal) committed(partition stream.Partition, next int64) {
	if j == nil {
		return
	}
	source := sourceOf{topicSum(partition.Topic), int32(partition.ID)}
	j.forget(func(s suspect) bool { return s.source() == source && s.offset < next })
}

// forget removes the marks of records that are not in the model now.
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

// An entry is a record in the model.
type entry struct {
	journal *journal
	suspect suspect
	slot    int // negative: none
	alone   bool
}

// begin writes that a record goes into the model; call end when it leaves. begin
// waits while a suspect is in the model, and before a suspect until the model is
// empty. A guilty record must not go into the model: errCrashed.
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
	if e.slot, guilty = j.claim(s, marked); guilty { // since it began to wait
		e.unlock()
		return entry{}, errCrashed
	}
	return e, nil
}

// A result says how handling a record has ended.
type result int

const (
	handled    result = iota // it has an answer or a dead letter
	notHandled               // it is tried again, and is as suspect as before
	runOverdue               // its run of the model does not end, which counts as a death
)

// end writes that a record has left the model.
func (e entry) end(r result) {
	j := e.journal
	if j == nil {
		return
	}
	j.unclaim(e, r)
	e.unlock()
}

func (e entry) unlock() {
	if e.alone {
		e.journal.alone.Unlock()
	} else {
		e.journal.alone.RUnlock()
	}
}

// claim writes a record to its own slot, or to a free one, and returns which; -1:
// there is none. A guilty record must not go into the model.
func (j *journal) claim(s suspect, alone bool) (at int, guilty bool) {
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
		return j.occupy(slot{suspect: s, state: slotConcurrent}), false
	}
	j.mem.setKills(kills)
	state := slotAlone
	if j.overdue != nil && j.overdue() {
		state = slotConcurrent
	}
	m, marked := j.marks[s]
	switch {
	case !marked: // it was answered while it waited, and is here a second time
		return j.occupy(slot{suspect: s, state: state}), false
	case m.guilty:
		return -1, true
	}
	m.busy = true
	j.marks[s] = m
	j.mem.setState(m.slot, state, m.deaths)
	return m.slot, false
}

// unclaim frees the slot of a record, or marks the record in it.
func (j *journal) unclaim(e entry, r result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || e.slot < 0 {
		return
	}
	m, marked := j.marks[e.suspect]
	own := marked && m.slot == e.slot
	switch {
	case !own && (marked || r != runOverdue):
		j.release(e.slot)
	case r == handled:
		delete(j.marks, e.suspect)
		j.release(e.slot)
	default:
		s := j.mem.slot(e.slot)
		if r == runOverdue {
			if e.alone {
				s.state = slotAlone // even if an abandoned run goes on
			}
			s = death{}.judge(s)
		} else {
			s.state = slotSuspect
		}
		j.mem.setState(e.slot, s.state, s.deaths)
		j.marks[e.suspect] = mark{slot: e.slot, guilty: s.state == slotGuilty, deaths: s.deaths}
	}
}

// occupy writes a record to a free slot, and returns which; -1: there is none. If
// need be it frees slots of partitions that are other processes' now, since
// nothing else would ever free them. The caller holds mu.
func (j *journal) occupy(s slot) int {
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

// close leaves the file to the next process, with no record in the model. What
// late handlers begin and end after it is not written. The memory stays mapped,
// because a signal handler may be about to write there.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	savedmodel.CountCrashes(nil)
	j.freeze()
	return errors.Join(unlockJournal(j.file), j.file.Close())
}

// freeze ends writing, with no record in the model.
func (j *journal) freeze() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, m := range j.marks { // suspects first: the process may be killed between any two stores
		if m.busy {
			j.mem.setState(m.slot, slotSuspect, m.deaths)
		}
	}
	for i := range slots {
		if s := j.mem.slot(i); s.state == slotConcurrent || s.state == slotAlone {
			j.mem.setState(i, slotFree, 0)
		}
	}
}
