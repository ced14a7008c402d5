package service

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"inceptor/service/stream"
)

// A cause is what ends a process, or a run of the model in it never ends.
type cause int

const (
	nothing     cause = iota // for a record: it ends no process
	crash                    // native code crashes
	kill                     // somebody kills it, or nobody knows
	outOfMemory              // the kernel kills it
	closing                  // it is stopped in order
	hang                     // for a record: its run does not end, but the process goes on
)

// alone is how many deaths alone a record that causes them is tried for.
func (c cause) alone() int {
	if c == kill || c == hang {
		return maxDeathsAlone
	}
	return 1
}

// A simulation is processes, one after the other, that work on two partitions
// with one journal.
type simulation struct {
	*rapid.T
	mem   journalFile
	kills killCount
	does  map[suspect]cause // what working on a record does

	log       [2][]stream.Record
	committed [2]int
	answered  map[suspect]bool // or a dead letter, in this process
	condemned map[suspect]bool
	died      map[suspect]int // by the record's own doing
	killed    map[suspect]int // or hung, while it was worked on alone, by others

	journal *journal // of this process
	works   []work   // under way in it
}

type work struct {
	record stream.Record
	entry  entry
}

func (s *simulation) start() {
	s.journal = resume(s.mem, "in", func() killCount { return s.kills }, blameless)
	s.journal.assign([]stream.Partition{of(0), of(1)})
	s.works, s.answered = nil, map[suspect]bool{}
	for p, next := range s.committed { // as a driver does, soon
		if rapid.Bool().Draw(s.T, "told of what is committed") {
			s.journal.committed(of(p), int64(next))
		}
	}
}

// end ends the process and starts the next one.
func (s *simulation) end(c cause) {
	switch c {
	case crash:
		*s.mem.crashes()++
	case outOfMemory:
		s.kills.kills++
	case closing:
		s.journal.freeze()
		for _, w := range s.works { // late
			w.entry.end(notHandled)
		}
	}
	if c == kill && len(s.works) == 1 && s.works[0].entry.alone {
		s.killed[s.works[0].entry.suspect]++
	}
	s.start()
}

// begin works on a record, unless the journal would make it wait.
func (s *simulation) begin(r stream.Record) {
	m, marked := s.journal.marks[suspectOf(r)]
	if len(s.works) > 0 && (s.works[0].entry.alone || marked && !m.guilty) {
		return
	}
	entry, err := s.journal.begin(r)
	switch {
	case errors.Is(err, errCrashed):
		s.answered[suspectOf(r)], s.condemned[suspectOf(r)] = true, true
	case s.condemned[suspectOf(r)]:
		s.Fatalf("%d-%d is guilty, and worked on again", r.Partition, r.Offset)
	default:
		s.works = append(s.works, work{r, entry})
	}
}

// finish ends the work on a record, or the process with it.
func (s *simulation) finish(i int) {
	w := s.works[i]
	if does := s.does[w.entry.suspect]; does == hang {
		s.died[w.entry.suspect]++
		s.overdue(i)
		return
	} else if does != nothing {
		s.died[w.entry.suspect]++
		if does == kill && w.entry.alone {
			s.killed[w.entry.suspect]-- // end counts it
		}
		s.end(does)
		return
	}
	r := rapid.SampledFrom([]result{handled, handled, handled, handled, notHandled, runOverdue}).Draw(s.T, "result")
	if r == runOverdue {
		if w.entry.alone {
			s.killed[w.entry.suspect]++
		}
		s.overdue(i)
		return
	}
	s.works = slices.Delete(s.works, i, i+1)
	w.entry.end(r)
	s.answered[w.entry.suspect] = r == handled
}

// overdue gives up the run of a record, which comes again.
func (s *simulation) overdue(i int) {
	w := s.works[i]
	s.works = slices.Delete(s.works, i, i+1)
	w.entry.end(runOverdue)
	s.answered[w.entry.suspect] = false
}

// commit commits what is answered, up to the first that is not.
func (s *simulation) commit(p int) {
	next := s.committed[p]
	for next < len(s.log[p]) && s.answered[suspectOf(s.log[p][next])] {
		next++
	}
	s.committed[p] = next
	s.journal.committed(of(p), int64(next))
}

// waiting lists what is in the windows and neither answered nor under way.
func (s *simulation) waiting(window int) (rs []stream.Record) {
	for p, log := range s.log {
		for _, r := range log[s.committed[p]:min(s.committed[p]+window, len(log))] {
			under := slices.ContainsFunc(s.works, func(w work) bool { return w.entry.suspect == suspectOf(r) })
			if !under && !s.answered[suspectOf(r)] {
				rs = append(rs, r)
			}
		}
	}
	return rs
}

func (s *simulation) done() bool {
	return s.committed[0] == len(s.log[0]) && s.committed[1] == len(s.log[1])
}

// Whatever records end their process, and whatever else does: all are answered,
// each deadly one is found within the starts that docs/delivery.md names, and no
// other one is condemned that was not killed alone maxDeathsAlone times.
func TestJournalProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &simulation{
			T: t, mem: make(journalFile, journalBytes), kills: killCount{1, 5}, does: map[suspect]cause{},
			condemned: map[suspect]bool{}, died: map[suspect]int{}, killed: map[suspect]int{},
		}
		for p := range s.log {
			for offset := range rapid.Int64Range(1, 12).Draw(t, "records") {
				r := recordAt(offset)
				r.Partition = p
				s.log[p] = append(s.log[p], r)
				if rapid.IntRange(0, 3).Draw(t, "is deadly") == 0 {
					s.does[suspectOf(r)] = rapid.SampledFrom([]cause{crash, kill, outOfMemory, hang}).Draw(t, "does")
				}
			}
		}
		window := rapid.IntRange(1, 8).Draw(t, "window")
		others := rapid.IntRange(0, 20).Draw(t, "ends by others")
		s.start()
		for steps := 0; !s.done(); steps++ {
			if steps == 10_000 {
				t.Fatalf("not done: %v are committed", s.committed)
			}
			waiting := s.waiting(window)
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
			case what == 0 && others > 0:
				others--
				s.end(rapid.SampledFrom([]cause{kill, kill, closing}).Draw(t, "how"))
			case what <= 2:
				s.commit(rapid.IntRange(0, 1).Draw(t, "partition"))
			case what <= 6 && len(waiting) > 0:
				s.begin(rapid.SampledFrom(waiting).Draw(t, "begin"))
			case len(s.works) > 0:
				s.finish(rapid.IntRange(0, len(s.works)-1).Draw(t, "finish"))
			}
		}
		for r, does := range s.does {
			if n, most := s.died[r], 1+does.alone(); n > most {
				t.Errorf("%+v has ended %d processes, want at most %d", r, n, most)
			}
			if !s.condemned[r] {
				t.Errorf("%+v is deadly, and answered", r)
			}
		}
		for r := range s.condemned {
			if s.does[r] == nothing && s.killed[r] < maxDeathsAlone {
				t.Errorf("%+v is condemned after %d kills while it was alone", r, s.killed[r])
			}
		}
		for p := range s.committed {
			s.commit(p)
		}
		if len(s.journal.marks) != 0 || len(s.journal.free) != slots {
			t.Errorf("in the end: %v; %d of %d slots are free", s.journal.marks, len(s.journal.free), slots)
		}
	})
}
