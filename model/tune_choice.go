package model

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// alikeSpread is how far apart the times of settings may be that count as equally fast.
const alikeSpread = 1.05

// A spread is how long something took in several rounds. Other work on the machine only makes
// rounds longer, and may disturb a few of them. So the spread leaves out the longest quarter.
type spread struct{ least, most time.Duration }

func newSpread(rounds []time.Duration) spread {
	if len(rounds) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(rounds))
	return spread{sorted[0], sorted[(3*len(sorted)+3)/4-1]}
}

// below tells whether the spreads are separate, and a took less time.
func (a spread) below(b spread) bool { return a.most < b.least }

// alike tells whether the difference between two spreads is too small to matter.
func (a spread) alike(b spread) bool {
	return float64(max(a.most, b.most)) <= alikeSpread*float64(min(a.least, b.least))
}

// spread is that of an image in the best batch of each round.
func (m Measurement) spread() spread {
	var each []time.Duration
	for _, round := range m.Rounds {
		best := time.Duration(math.MaxInt64)
		for n, took := range round {
			best = min(best, took/time.Duration(n))
		}
		each = append(each, best)
	}
	return newSpread(each)
}

// spreadOf is that of an image in batches of n.
func (m Measurement) spreadOf(n int) spread {
	var each []time.Duration
	for _, round := range m.Rounds {
		each = append(each, round[n]/time.Duration(n))
	}
	return newSpread(each)
}

// String returns the settings in short.
func (m Measurement) String() string {
	words := []string{m.Optimize}
	if m.Kernels != "" {
		words = append(words, m.Kernels)
	}
	words = append(words, cmp.Or(m.Precision, precisionFloat32))
	switch {
	case m.Threads == 1:
		words = append(words, "1 thread")
	case m.Threads > 1:
		words = append(words, fmt.Sprint(m.Threads, " threads"))
	}
	return strings.Join(words, " ")
}

// A choice says which of several measurements to use.
type choice struct {
	best      int
	leading   []int // the best and those that may be as fast, in order
	open      bool  // some of them may be the fastest: their spreads overlap, and are wide
	batch     int   // the size of a batch to use
	openBatch int   // a size that may be better than batch; 0: none
}

// clear tells whether more rounds would change nothing.
func (c choice) clear() bool { return !c.open && c.openBatch == 0 }

// choose chooses the fastest measurement among those that c allows. The settings that c has are
// kept if others are equally fast, or if the spreads do not tell.
func choose(all []Measurement, c Config) choice {
	allowed := allowedIn(all, c.Precision)
	fastest := slices.MinFunc(allowed, func(a, b int) int { return cmp.Compare(all[a].spread().most, all[b].spread().most) })
	given := givenSettings(all, allowed, c)
	made := choice{best: fastest}
	for _, i := range allowed {
		a, b := all[fastest].spread(), all[i].spread()
		if i != fastest && !a.alike(b) && a.below(b) {
			continue
		}
		made.leading = append(made.leading, i)
		made.open = made.open || !a.alike(b)
		if i == given {
			made.best = given
		}
	}
	if len(made.leading) == 1 {
		made.open = false // a wide spread of its own does not matter
	}
	made.batch, made.openBatch = chooseBatch(all[made.best], c.MaxBatch())
	return made
}

// allowedIn returns which measurements may be chosen with this model.precision. auto allows all,
// since the service itself then tries what agrees. Where the precision cannot be had, a version
// runs in float32. Others than float32 change scores, so they are not chosen otherwise.
func allowedIn(all []Measurement, precision string) (allowed []int) {
	precision = cmp.Or(precision, precisionFloat32)
	for i, m := range all {
		if m.WhyNot == "" && (precision == precisionAuto || cmp.Or(m.Precision, precisionFloat32) == precision) {
			allowed = append(allowed, i)
		}
	}
	if allowed == nil && precision != precisionFloat32 {
		return allowedIn(all, precisionFloat32)
	}
	return allowed
}

// givenSettings returns which of the allowed measurements is the most like the settings of c.
func givenSettings(all []Measurement, allowed []int, c Config) int {
	precision, kernels := cmp.Or(c.Precision, precisionFloat32), c.Kernels
	if precision == precisionAuto {
		precision = precisionFloat32 // in which a version begins
	}
	if kernels != kernelsTensorFlow {
		kernels = kernelsOneDNN
	}
	like := func(m Measurement) (weight int) {
		for i, same := range []bool{
			m.Threads == c.Session.IntraOpThreads, m.Kernels == kernels, cmp.Or(m.Precision, precisionFloat32) == precision, m.Optimize == c.Optimize,
		} {
			if same {
				weight += 1 << i
			}
		}
		return weight
	}
	return slices.MaxFunc(allowed, func(a, b int) int { return cmp.Compare(like(all[a]), like(all[b])) })
}

// chooseBatch returns the smallest size at which an image takes at most 3 % longer than at the
// fastest one: larger batches only make images wait. If the spreads do not tell whether that is as
// good as the given size, it returns the given one, and the other one as open.
func chooseBatch(m Measurement, given int) (size, open int) {
	each := func(n int) float64 { return float64(m.Run(n)) / float64(n) }
	sizes := slices.Sorted(maps.Keys(m.Rounds[0]))
	least := math.Inf(1)
	for _, n := range sizes {
		least = min(least, each(n))
	}
	size = sizes[slices.IndexFunc(sizes, func(n int) bool { return each(n) <= 1.03*least })]
	if !slices.Contains(sizes, given) {
		return size, 0
	}
	a, b := m.spreadOf(size), m.spreadOf(given)
	if size == given || a.below(b) || b.below(a) || a.alike(b) {
		return size, 0
	}
	return given, size
}
