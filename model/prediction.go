package model

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Where an image was answered.
const (
	BackendLocal  = "local"  // in this process
	BackendRemote = "remote" // by a model server
)

// A Prediction is the answer to one record, and where it came from.
type Prediction struct {
	Info
	Backend string    // BackendLocal or BackendRemote
	Server  string    // that answered remotely: host:port
	Reason  string    // why it did; empty where only a model server is asked
	Wanted  *int64    // the version that would serve here, where another one has answered; nil: none has, or there is none
	Label   string    // of the version here: LabelStable, LabelCanary or LabelShadow; empty: a model server answered
	Classes []Class   // the best first; of a row or tf.Example only where the version has labels
	Image   Header    // of an image
	Output  string    // key of what Scores are; empty where there are classes, or Outputs has it
	Scores  []float32 // of a row or tf.Example without classes, all of them
	Outputs []Array   // the outputs that the version's inceptor.yaml lists, in that order
	Timings Timings

	// Assumed tells what of the preprocessing nothing states, and how to state
	// it; empty: all is known.
	Assumed string

	// Precision is the one that the version here runs in, float32 or bfloat16;
	// empty: a model server does not tell.
	Precision string
}

// A Class is one line of an answer.
type Class struct {
	Label string // empty if the version has no labels
	Index int    // NoIndex: the label is the model's own word, whose place among its classes it does not tell
	Score float32
}

// NoIndex is the index of a class that a model names by a word of its own.
const NoIndex = -1

func (c Class) String() string {
	name := c.Label
	if name == "" && c.Index >= 0 {
		name = fmt.Sprintf("class %d", c.Index)
	}
	return fmt.Sprintf("%s %.4f", name, c.Score)
}

// Timings say where the time of one image went. Infer is that of the whole
// batch that it was part of; Wait is what was neither decoding nor running.
type Timings struct {
	Wait, Decode, Infer time.Duration
}

// best is the class with the highest score; false: there are no scores, but arrays.
func (p Prediction) best() (Class, bool) {
	if len(p.Classes) > 0 {
		return p.Classes[0], true
	}
	if len(p.Scores) == 0 {
		return Class{}, false
	}
	return topK(p.Scores, nil, 1, nil)[0], true
}

// topK ranks scores, the best first; equal ones in their order. own are the
// classes that the model gives with them; nil: a score's place is its class.
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
		// After those that score as much: the first one stays in front.
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
