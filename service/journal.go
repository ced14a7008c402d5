package service

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"inceptor/savedmodel"
	"inceptor/service/stream"
)

// ReasonCrashed is the reason of a dead letter for a record that has crashed
// the process, alone.
const ReasonCrashed = "crashed"

// errCrashed is the error of such a dead letter.
var errCrashed = errors.New("native code crashed while this record was worked on, first among others, then alone")

// A journal notes which records are being worked on in a file that outlives
// the process. If native code crashes it, the next process finds its suspects
// there: it works on each of them alone, and one that crashes it again is
// guilty. That costs two stores into mapped memory for a record; the system
// writes the file when it likes, for the process ends, not the machine.
//
// Only a crash makes suspects (a signal such as SIGABRT, which a handler notes
// in the file), not a process that was killed or ran out of memory.
//
// A nil journal does nothing. Safe for concurrent use.
type journal struct {
	file *os.File // locked: one process, one file
	mem  []byte

	// alone is held by who works on a suspect, and shared by all others.
	alone sync.RWMutex

	mu       sync.Mutex
	closed   bool             // the file is another process's now
	free     []int            // slots
	suspects map[suspect]bool // true: guilty
	guilty   map[suspect]int  // their slots
	version  int64            // that was new when native code crashed; 0: none
}

// A suspect is one record. Its content counts: a topic may be made anew.
type suspect struct {
	partition int32
	offset    int64
	sum       uint32
}

func suspectOf(r stream.Record) suspect {
	sum := crc32.Update(crc32.Checksum(r.Key, castagnoli), castagnoli, r.Value)
	return suspect{int32(r.Partition), r.Offset, sum}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The file: a head of headBytes, magic, count of crashes, the digest of the topic's
// name and the number of the version that is new in it; then slots, each 8 bytes offset, 4 partition, 4 sum, 4
// state, 4 nothing; in the byte order of the machine.
const (
	journalMagic = "INCJ0001"
	crashesAt    = 8 // above zero: native code has crashed the process
	topicAt      = 16
	versionAt    = topicAt + sha256.Size
	headBytes    = 64
	slotBytes    = 24
	slots        = 4096 // records beyond these are not noted
	journalBytes = headBytes + slots*slotBytes
)

// The states of a slot.
const (
	slotFree   = iota
	slotAmong  // worked on, with others
	slotAlone  // worked on, alone
	slotGuilty // it has crashed the process alone, and is no dead letter yet
)

// journalOff is the value of Crash.Journal for no journal.
const journalOff = "off"

// openJournal takes the first file in the folder that no other process has,
// and reads what the one before it has left. It returns nil if there can be
// no journal, which it logs.
func openJournal(c Crash, k Kafka, log *slog.Logger) *journal {
	if c.Journal == journalOff {
		return nil
	}
	dir := c.Journal
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("inceptor-%d", os.Getuid()))
	}
	j, err := newJournal(dir, k.Group, k.Input)
	if err != nil {
		log.Warn("no journal: a record that crashes the process will do so again", "err", err)
		return nil
	}
	if j != nil && len(j.suspects) > 0 {
		log.Warn("the process before crashed in native code: what it was working on is worked on alone", "records", len(j.suspects), "guilty", len(j.guilty))
	}
	return j
}

func newJournal(dir, group, topic string) (*journal, error) {
	file, mem, err := mapJournal(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(group+"\x00"+topic)))[:16])
	if err != nil || mem == nil {
		return nil, err
	}
	j := &journal{file: file, mem: mem, suspects: map[suspect]bool{}, guilty: map[suspect]int{}}
	digest := sha256.Sum256([]byte(topic))
	head := append([]byte(journalMagic), make([]byte, headBytes-len(journalMagic))...)
	copy(head[topicAt:], digest[:])
	before := string(mem[:crashesAt])+string(mem[topicAt:versionAt]) == string(head[:crashesAt])+string(head[topicAt:versionAt])
	crashed := binary.NativeEndian.Uint32(mem[crashesAt:]) != 0
	if before && crashed {
		j.version = int64(binary.NativeEndian.Uint64(mem[versionAt:]))
	}
	j.read(before, crashed)
	copy(mem, head)
	savedmodel.CountCrashes((*uint32)(unsafe.Pointer(&mem[crashesAt])))
	return j, nil
}

// read finds the suspects, and frees all slots but those of the guilty.
func (j *journal) read(valid, crashed bool) {
	alone := false
	for i := range slots {
		alone = alone || valid && crashed && j.state(i) == slotAlone
	}
	for i := range slots {
		s, state := j.slot(i), j.state(i)
		switch {
		case valid && (state == slotGuilty || crashed && state == slotAlone):
			j.suspects[s], j.guilty[s] = true, i
			j.set(i, slotGuilty)
			continue
		case valid && crashed && state == slotAmong && !alone:
			j.suspects[s] = false
		}
		j.set(i, slotFree)
		j.free = append(j.free, i)
	}
}

// try notes the version of the model that is new; 0: none is.
func (j *journal) try(version int64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed {
		binary.NativeEndian.PutUint64(j.mem[versionAt:], uint64(version))
	}
}

// blamed is the version that was new when native code crashed; 0: none was.
func (j *journal) blamed() int64 {
	if j == nil {
		return 0
	}
	return j.version
}

// acquit clears those who were not alone when it happened: a version is to
// blame.
func (j *journal) acquit() {
	for s, guilty := range j.suspects {
		if !guilty {
			delete(j.suspects, s)
		}
	}
}

func (j *journal) at(i int) []byte { return j.mem[headBytes+i*slotBytes:][:slotBytes] }

func (j *journal) slot(i int) suspect {
	b := j.at(i)
	return suspect{
		offset:    int64(binary.NativeEndian.Uint64(b)),
		partition: int32(binary.NativeEndian.Uint32(b[8:])),
		sum:       binary.NativeEndian.Uint32(b[12:]),
	}
}

func (j *journal) state(i int) int { return int(binary.NativeEndian.Uint32(j.at(i)[16:])) }

func (j *journal) set(i, state int) { binary.NativeEndian.PutUint32(j.at(i)[16:], uint32(state)) }

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
	guilty, suspected := j.suspects[s]
	if guilty && !j.closed {
		delete(j.suspects, s)
		j.release(j.guilty[s])
		delete(j.guilty, s)
	}
	j.mu.Unlock()
	if guilty {
		return entry{}, errCrashed
	}
	state := slotAmong
	if suspected {
		j.alone.Lock()
		state = slotAlone
	} else {
		j.alone.RLock()
	}
	return entry{j, s, j.take(s, state), suspected}, nil
}

// end tells whether the record was worked on: else it comes again, and is as
// suspect as before.
func (e entry) end(worked bool) {
	j := e.journal
	if j == nil {
		return
	}
	j.mu.Lock()
	if e.slot >= 0 && !j.closed {
		j.release(e.slot)
	}
	if worked {
		delete(j.suspects, e.suspect)
	}
	j.mu.Unlock()
	if e.alone {
		j.alone.Unlock()
	} else {
		j.alone.RUnlock()
	}
}

// take notes a record in a free slot; -1: there is none.
func (j *journal) take(s suspect, state int) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || len(j.free) == 0 {
		return -1
	}
	i := j.free[len(j.free)-1]
	j.free = j.free[:len(j.free)-1]
	b := j.at(i)
	binary.NativeEndian.PutUint64(b, uint64(s.offset))
	binary.NativeEndian.PutUint32(b[8:], uint32(s.partition))
	binary.NativeEndian.PutUint32(b[12:], s.sum)
	j.set(i, state)
	return i
}

func (j *journal) release(i int) {
	j.set(i, slotFree)
	j.free = append(j.free, i)
}

// close gives the file up to the next process. Handlers may be late: what they
// begin and end after it is not noted. The memory stays mapped, for a signal
// handler may be about to write there.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	savedmodel.CountCrashes(nil)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	return errors.Join(unlockJournal(j.file), j.file.Close())
}
