package service

// maxDeathsAlone is how often the process may die, by nobody knows what, while
// one record is worked on alone. Somebody may have killed it, for reasons of
// their own, but hardly each time in the same moment.
const maxDeathsAlone = 3

// A death is how a process ended that did not close its journal.
type death struct {
	crashed     bool // by a signal that native code brought upon it
	outOfMemory bool // by the kernel, which has killed for memory since the last record alone was begun
	version     bool // crashed, by a version that was new: no record is to blame
}

// verdict says what a record is to the next process. That makes the most starts
// that a record may cost: one death among others, and then one alone, if the
// cause of that is known, or maxDeathsAlone. Records that were under way
// together share the first.
func (d death) verdict(s slot) slot {
	switch {
	case s.state == slotSuspect || s.state == slotGuilty:
	case s.state == slotAmong && !d.version:
		s.state, s.deaths = slotSuspect, 0
	case s.state == slotAlone && d.version:
		s.state = slotSuspect
	case s.state == slotAlone && s.deaths < maxDeathsAlone-1 && !d.crashed && !d.outOfMemory:
		s.state, s.deaths = slotSuspect, s.deaths+1
	case s.state == slotAlone:
		s.state = slotGuilty
	default:
		s.state = slotFree
	}
	return s
}
