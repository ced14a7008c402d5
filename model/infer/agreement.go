package infer

import (
	"fmt"
	"math"
)

// The bounds that a precision must keep to, compared with float32.
const (
	// LeastAgreement is the least part of records with the same best class.
	LeastAgreement = 0.99
	// MaxScoreDifference is the largest mean difference of scores; see Agreement.Add.
	MaxScoreDifference = 0.01
)

// An Agreement compares the predictions of two versions for the same records. Its zero value has
// seen none. Not for concurrent use.
type Agreement struct {
	Records int     // that were compared
	Same    int     // of them, those with the same best class
	Largest float64 // difference of scores of a record

	differences float64 // sum over the records
}

// Add counts a record. It returns the difference of the scores that both predictions give to the
// best class of reference, as a part of that score if that is more than 1. Where other does not
// list the class, the lowest score that it lists stands for it: the class has at most that. It
// returns false, and counts nothing, if a prediction has no scores.
func (a *Agreement) Add(reference, other Prediction) (difference float64, ok bool) {
	want, ok := reference.Best()
	if _, both := other.Best(); !ok || !both {
		return 0, false
	}
	difference = math.Abs(float64(want.Score-other.scoreOf(want))) / max(1, math.Abs(float64(want.Score)))
	same, _ := reference.Agrees(other)
	a.Records++
	if same {
		a.Same++
	}
	a.differences += difference
	a.Largest = max(a.Largest, difference)
	return difference, true
}

// scoreOf returns the score of a class, or the lowest score of p if p does not list the class.
func (p Prediction) scoreOf(c Class) float32 {
	if len(p.Classes) == 0 {
		if c.Index >= 0 && c.Index < len(p.Scores) {
			return p.Scores[c.Index]
		}
		return 0
	}
	for _, own := range p.Classes {
		if SameClass(own, c) {
			return own.Score
		}
	}
	return p.Classes[len(p.Classes)-1].Score
}

// Part returns the part of records with the same best class, 0 to 1; 0 without records.
func (a Agreement) Part() float64 {
	if a.Records == 0 {
		return 0
	}
	return float64(a.Same) / float64(a.Records)
}

// MeanDifference returns the mean difference of scores; 0 without records.
func (a Agreement) MeanDifference() float64 {
	if a.Records == 0 {
		return 0
	}
	return a.differences / float64(a.Records)
}

// Bounds returns the interval that has the true part of records with the same best class, with a
// confidence of 95 %: Wilson's score interval. It is 0 to 1 without records.
func (a Agreement) Bounds() (lower, upper float64) { return wilson(a.Same, a.Records) }

// LowerBound returns the lower one of Bounds.
func (a Agreement) LowerBound() float64 {
	lower, _ := a.Bounds()
	return lower
}

// wilson returns Wilson's score interval of a part: k of n, with a confidence of 95 %.
func wilson(k, n int) (lower, upper float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.959964 // of the normal distribution, for 95 % on both sides
	p, total := float64(k)/float64(n), float64(n)
	center := p + z*z/(2*total)
	spread := z * math.Sqrt(p*(1-p)/total+z*z/(4*total*total))
	scale := 1 + z*z/total
	return max(0, (center-spread)/scale), min(1, (center+spread)/scale)
}

// A Verdict says whether two versions agree.
type Verdict int

// The values of Verdict.
const (
	Open      Verdict = iota // more records are needed
	Agrees                   // they agree
	Disagrees                // they do not, or that cannot be shown within the records
)

// String returns "open", "agrees" or "disagrees".
func (v Verdict) String() string {
	switch v {
	case Agrees:
		return "agrees"
	case Disagrees:
		return "disagrees"
	}
	return "open"
}

// Decided returns whether versions agree: whether the lower bound of the part of records with the
// same best class is at least least, and the mean difference of scores at most
// MaxScoreDifference. It is open until that shows, or until it can no longer show within most
// records.
func (a Agreement) Decided(least float64, most int) Verdict {
	left := max(0, most-a.Records)
	if possible, _ := wilson(a.Same+left, a.Records+left); possible < least {
		return Disagrees
	}
	switch {
	case a.LowerBound() >= least && a.MeanDifference() <= MaxScoreDifference:
		return Agrees
	case left == 0:
		return Disagrees
	}
	return Open
}

// RecordsNeeded returns how many records show an agreement of least if they all agree. least is
// below 1.
func RecordsNeeded(least float64) int {
	n := 1
	for lower, _ := wilson(n, n); lower < least; lower, _ = wilson(n, n) {
		n++
	}
	return n
}

// String says how many records agree, and how far scores are apart.
func (a Agreement) String() string {
	if a.Records == 0 {
		return "no records were compared"
	}
	return fmt.Sprintf("%d of %d records have the same best class (with 95 %% confidence at least %.2f %%), scores differ by %.2g in the mean and %.2g at most",
		a.Same, a.Records, 100*a.LowerBound(), a.MeanDifference(), a.Largest)
}
