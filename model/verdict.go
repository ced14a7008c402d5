package model

import (
	"fmt"
	"time"

	"inceptor/model/infer"
)

const (
	leastFailures = 5  // images on which a version fails before it is rolled back for them
	leastRuns     = 10 // runs that are compared before a version is rolled back as slow
	leastEach     = 5  // runs of the version before, of a size, before runs of that size are compared

	// On probation, or as a canary, a run counts as hanging before it is overdue: after
	// leastHanging, if it takes more than hangingFactor x probation.slowdown times as long as
	// usual.
	hangingFactor = 5
	leastHanging  = 5 * time.Second
)

// The causes of a rollback. The words are stable: metrics carry them.
const (
	CauseErrors = "errors"  // it fails on images
	CauseSlow   = "slow"    // its runs take longer than those of the version before
	CauseHangs  = "hangs"   // a run of it does not end
	CauseByHand = "by-hand" // "inceptor models rollback"
	CauseCrash  = "crash"   // native code crashed the process while it was new
)

// Causes lists the causes of a rollback.
var Causes = []string{CauseErrors, CauseSlow, CauseHangs, CauseByHand, CauseCrash}

// A verdict is why a version has to be rolled back.
type verdict struct{ cause, reason string }

// verdict says whether a version has to be rolled back: for runs that do not end, or because it
// fails more often or is slower than the version before. Nil: it does not.
func (p Probation) verdict(v, before *infer.RunStats, runs []infer.ActiveRun) *verdict {
	was, _ := before.Medians()
	for _, u := range runs {
		took := u.Took.Round(time.Millisecond)
		if u.Overdue != nil {
			return &verdict{CauseHangs, fmt.Sprintf("a run of %d images has not ended after %v; %v are allowed", u.Size, took, u.Overdue.After)}
		}
		usually := max(was[infer.RunKind{Size: u.Size, Shared: false}], was[infer.RunKind{Size: u.Size, Shared: true}])
		if p.Slowdown > 0 && u.Took > leastHanging && usually > 0 && u.Took > time.Duration(hangingFactor*p.Slowdown*float64(usually)) {
			return &verdict{CauseHangs, fmt.Sprintf("a run of %d images has not ended after %v; it took %v before", u.Size, took, usually.Round(time.Millisecond))}
		}
	}
	images, failed := v.Counts()
	imagesBefore, failedBefore := before.Counts()
	usual := float64(failedBefore) / float64(max(imagesBefore, 1))
	if failed >= leastFailures && float64(failed) > (p.Errors+usual)*float64(images) {
		return &verdict{CauseErrors, fmt.Sprintf("it failed on %d of %d images; the version before on %d of %d", failed, images, failedBefore, imagesBefore)}
	}
	if p.Slowdown == 0 {
		return nil
	}
	if ratio, compared := slowdown(v, before); ratio > p.Slowdown {
		return &verdict{CauseSlow, fmt.Sprintf("its runs take %.1f times as long as those of the version before, in the median over %.0f runs", ratio, compared)}
	}
	return nil
}

// slowdown returns how many times as long the runs of v take as those of the version before, and
// over how many runs. It is 0 while there are too few to compare. The medians of each kind of run
// are compared, weighted by the number of its runs.
func slowdown(v, before *infer.RunStats) (ratio, compared float64) {
	is, runs := v.Medians()
	was, wasRuns := before.Medians()
	for k, n := range runs {
		if n = min(n, infer.StatsWindow); wasRuns[k] >= leastEach {
			ratio += float64(n) * float64(is[k]) / float64(was[k])
			compared += float64(n)
		}
	}
	if compared < leastRuns {
		return 0, compared
	}
	return ratio / compared, compared
}
