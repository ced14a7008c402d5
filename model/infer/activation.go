package infer

import (
	"fmt"
	"math"
	"slices"

	"inceptor/savedmodel"
)

// The activations that inceptor.yaml may name.
const (
	softmax = "softmax"
	sigmoid = "sigmoid"
)

// postprocess turns the scores of a batch into those of answers, and adds each record's part of the
// arrays.
func (bound signature) postprocess(result *batchResult, arrays []savedmodel.Array) error {
	for i, row := range result.scores {
		activate(bound.Activation, row)
		if bound.pair && len(row) == 1 {
			p := row[0]
			if p < 0 || p > 1 {
				return &InputError{ReasonModelRefused, fmt.Errorf("the score %v in the output %q is not between 0 and 1, and with two labels it must be a probability: %s",
					p, bound.Output.Scores, bound.pairHint)}
			}
			result.scores[i] = []float32{1 - p, p}
		}
	}
	n := len(result.scores)
	if n == 0 && len(arrays) > 0 {
		n = batchOf(arrays[0].Shape)
	}
	var err error
	result.arrays, err = splitArrays(bound.Outputs, arrays, n)
	return err
}

// batchOf returns the first dimension; 0: there is none.
func batchOf(shape savedmodel.Shape) int {
	if len(shape) == 0 {
		return 0
	}
	return int(shape[0])
}

// activate applies an activation to the scores of one record. Graphs mask classes with logits of
// -Inf, whose probability is 0. Scores without probabilities stay, for the check that they are
// finite.
func activate(activation string, row []float32) {
	bad := func(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 1) }
	if activation == "" || slices.ContainsFunc(row, bad) {
		return
	}
	if activation == sigmoid {
		for i, x := range row {
			row[i] = float32(1 / (1 + math.Exp(-float64(x))))
		}
		return
	}
	most := row[0]
	for _, x := range row {
		most = max(most, x)
	}
	if math.IsInf(float64(most), -1) {
		return // all classes are masked
	}
	sum := 0.0
	for _, x := range row {
		sum += math.Exp(float64(x) - float64(most))
	}
	for i, x := range row {
		row[i] = float32(math.Exp(float64(x)-float64(most)) / sum)
	}
}
