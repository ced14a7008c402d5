package model

import "fmt"

// tryPrecision decides what to do next to run the version that serves in another precision. That
// goes on only while nothing else does. A version to load waits until the candidate has ended, and
// its memory is free.
func (p *planner) tryPrecision() {
	c := p.s.candidate
	if !p.calm() || c != nil && c.serving != p.s.routes.stable {
		if c != nil {
			p.drop = !c.dropped
			p.load, p.replaces, p.noRoom = nil, nil, nil
			if c.step == stepNone {
				p.again = 0
			}
		}
		return
	}
	if c != nil && (c.dropped || c.step != stepNone) {
		return
	}
	e := p.s.entry(p.s.routes.stable)
	step, precision := stepNone, ""
	if e.precision == precisionFloat32 {
		step, precision = e.precisions.next(p.s.config.candidates(), c.loadedAs())
	}
	if step == stepNone {
		p.drop = c != nil
		return
	}
	lacking := p.noRoomFor(e, step)
	p.problems = append(p.problems, problem{"version stays in float32 for now", lacking})
	switch {
	case lacking != "":
		p.drop = c != nil
		return
	case p.now.Before(p.s.retryPrecision):
		p.again = min(p.again, p.s.retryPrecision.Sub(p.now))
		return
	}
	p.step, p.precision = step, precision
	if step != stepAdopt {
		return
	}
	p.routes = &routes{stable: c.v}
	if period := p.s.config.Probation.Period; period > 0 {
		p.probation = &probation{before: c.serving, until: p.now.Add(period), judged: true}
	}
	p.again = 0
}

// calm tells whether a version serves alone, and nothing else is to be done.
func (p *planner) calm() bool {
	s := p.s
	stable := s.routes.stable
	return s.scanned && len(s.config.candidates()) > 0 &&
		stable != nil && p.routes == s.routes && p.stable == s.entry(stable) && !s.hangs(p.stable) && !p.d.forbids(p.stable) &&
		s.routes.secondary == nil && p.secondary == nil && s.probation == nil && p.probation == nil &&
		s.loading == nil && p.load == nil && s.waits() == ""
}

// noRoomFor returns why there is no memory for a step; empty: there is. To calibrate takes about as
// much as another version.
func (p *planner) noRoomFor(e *versionEntry, step candidateStep) string {
	if step != stepCalibrate && step != stepLoad {
		return ""
	}
	if p.s.config.Copies == copiesOne {
		return "model.copies one leaves no memory to try another precision"
	}
	if err := p.s.lacksRoom(e); err != nil {
		return fmt.Sprintf("no memory to try another precision: %v", err)
	}
	return ""
}
