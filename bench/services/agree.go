package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"inceptor/bench/measure"
)

// errPrecision says that a service would be measured under a wrong name.
var errPrecision = errors.New("it does not run in this precision here")

// A prediction is the best of an answer.
type prediction struct {
	Index int     `json:"index"`
	Score float64 `json:"score"`
}

// agree holds the answers to the backlog of a start against those of the
// service that started first.
func (b *bench) agree(s *service, answers []measure.Answer) error {
	slices.SortFunc(answers, func(a, b measure.Answer) int { return cmp.Compare(a.Key, b.Key) })
	var all []prediction
	for _, a := range answers {
		var said struct {
			Predictions []prediction
			Precision   string
			Outputs     map[string][]float64 // inceptor's, of rows: one
		}
		if err := json.Unmarshal(a.Value, &said); err != nil {
			return fmt.Errorf("answer %q: %w", a.Value, err)
		}
		if s.precision != "" && said.Precision != s.precision {
			return fmt.Errorf("%w, but in %s", errPrecision, said.Precision)
		}
		for _, scores := range said.Outputs {
			best := slices.Max(scores)
			said.Predictions = []prediction{{slices.Index(scores, best), best}}
		}
		if len(said.Predictions) == 0 {
			return fmt.Errorf("answer %q has no predictions", a.Value)
		}
		all = append(all, said.Predictions[0])
	}
	if b.expected == nil {
		b.expected = all
	}
	for i, want := range b.expected {
		if got := all[i]; got.Index != want.Index || math.Abs(got.Score-want.Score) > s.tolerance {
			return fmt.Errorf("its answer to record %d is class %d with %v, where %s says class %d with %v",
				i, got.Index, got.Score, b.services[0].name, want.Index, want.Score)
		}
	}
	return nil
}
