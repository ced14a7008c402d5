package service

// maxDeathsAlone is how often the process may die of an unknown cause while one
// record is alone in the model. Somebody else may have killed the process, but
// hardly at the same moment each time.
const maxDeathsAlone = 3

// A death says how a process ended that did not close its journal.
type death struct {
	crashed           bool // native code raised a signal
	outOfMemory       bool // the kernel has killed for memory since the last lone record went into the model
	newVersionCrashed bool // an unproven version was rolled back for the crash: no record is to blame
}

// judge returns what a record is to the next process. It bounds how many deaths
// a record can cost: one with other records in the model, and then one alone if
// its cause is known, else maxDeathsAlone. Records that were in the model together
// share the first.
func (d death) judge(s slot) slot {
	switch {
	case s.state == slotSuspect || s.state == slotGuilty:
	case s.state == slotConcurrent && !d.newVersionCrashed:
		s.state, s.deaths = slotSuspect, 0
	case s.state == slotAlone && d.newVersionCrashed:
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
