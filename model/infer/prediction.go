package infer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The values of Prediction.Backend.
const (
	BackendLocal  = "local"  // in this process
	BackendRemote = "remote" // by a model server
)

// A Prediction is the answer to one record, and says where it comes from.
type Prediction struct {
	Info
	Backend string    // BackendLocal or BackendRemote
	Server  string    // that has answered, host:port; empty: a local version has
	Reason  string    // why the server has answered; empty if no local version could be asked
	Wanted  *int64    // the version that should serve, if the server has answered with another one
	Label   string    // of a local version: stable, canary or shadow, see package model
	Classes []Class   // the best first; of a row or tf.Example only if the version has labels
	Image   Header    // of an image
	Output  string    // key of Scores; empty if there are classes, or Outputs has them
	Scores  []float32 // all scores of a row or tf.Example without classes
	Outputs []Array   // the outputs that the version's inceptor.yaml lists, in its order
	Timings Timings

	// Assumed says what of the preprocessing is assumed, and how to state it; empty:
	// nothing is.
	Assumed string

	// Precision is that of a local version, float32, bfloat16 or int8; empty: a model server
	// does not report it.
	Precision string
}

// A Class is one line of an answer.
type Class struct {
	Label string // empty if the version has no labels
	Index int    // NoIndex: the model gives a word in place of an index
	Score float32
}

// NoIndex is the index of a class that a model gives as a word.
const NoIndex = -1

func (c Class) String() string { return fmt.Sprintf("%s %.4f", c.Name(), c.Score) }

// Name returns the class' label, or "class 285" if it has none.
func (c Class) Name() string {
	if c.Label == "" && c.Index >= 0 {
		return fmt.Sprintf("class %d", c.Index)
	}
	return c.Label
}

// Timings say where the time of one record went. Infer is the run of its whole batch. Wait is
// all time besides Decode and Infer.
type Timings struct {
	Wait, Decode, Infer time.Duration
}

// Best returns the class with the highest score; false: there are no scores, but arrays.
func (p Prediction) Best() (Class, bool) {
	if len(p.Classes) > 0 {
		return p.Classes[0], true
	}
	if len(p.Scores) == 0 {
		return Class{}, false
	}
	return topK(p.Scores, nil, 1, nil)[0], true
}

// topK returns the k best scores, the best first, and equal ones in their order. own are the
// classes that the model gives with the scores; nil: the index of a score is its class.
func topK(scores []float32, own []Class, k int, labels []string) []Class {
	best := make([]Class, 0, min(k, len(scores))+1)
	for i, score := range scores {
		if len(best) == k && score <= best[k-1].Score {
			continue
		}
		c := Class{Index: i}
		if own != nil {
			c = own[i]
		}
		c.Score = score
		if c.Label == "" && c.Index >= 0 && c.Index < len(labels) {
			c.Label = labels[c.Index]
		}
		// Insert after equal scores, so that the first one stays in front.
		at, _ := slices.BinarySearchFunc(best, score, func(b Class, score float32) int {
			if b.Score == score {
				return -1
			}
			return cmp.Compare(score, b.Score)
		})
		best = slices.Insert(best, at, c)
		best = best[:min(k, len(best))]
	}
	return best
}

// SameClass tells whether two classes are the same: by label if both have labels, else by index.
func SameClass(a, b Class) bool {
	if a.Label != "" && b.Label != "" {
		return a.Label == b.Label
	}
	return a.Index == b.Index && a.Index != NoIndex
}

// Agrees tells whether two predictions have the same best class, see SameClass. That is unknown if
// one of them has no scores, but only arrays.
func (p Prediction) Agrees(q Prediction) (same, known bool) {
	a, oka := p.Best()
	b, okb := q.Best()
	return oka && okb && SameClass(a, b), oka || okb
}
