package model

import (
	"fmt"
	"math"
	"slices"

	"inceptor/savedmodel"
)

// What inceptor.yaml may have as the activation of the scores.
const (
	softmax = "softmax"
	sigmoid = "sigmoid"
)

// finish makes of a batch's scores what answers have, and hands each record its part of
// the arrays.
func (bound signature) finish(got *scored, arrays []savedmodel.Array) error {
	for i, row := range got.rows {
		activate(bound.Activation, row)
		if bound.pair && len(row) == 1 {
			p := row[0]
			if p < 0 || p > 1 {
				return &InputError{ReasonModelRefused, fmt.Errorf("the score %v in the output %q is not from 0 to 1, as that of one of two labels is: %s",
					p, bound.Output.Scores, bound.unlikely)}
			}
			got.rows[i] = []float32{1 - p, p}
		}
	}
	n := len(got.rows)
	if n == 0 && len(arrays) > 0 {
		n = batchOf(arrays[0].Shape)
	}
	var err error
	got.arrays, err = perRecord(bound.Outputs, arrays, n)
	return err
}

// batchOf is the first dimension, 0 where there is none.
func batchOf(shape savedmodel.Shape) int {
	if len(shape) == 0 {
		return 0
	}
	return int(shape[0])
}

// activate applies an activation to the scores of one record. Graphs mask classes out with
// logits of -Inf, whose probability is 0. What has no probability stays, to be found out.
func activate(activation string, row []float32) {
	unfit := func(x float32) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 1) }
	if activation == "" || slices.ContainsFunc(row, unfit) {
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
		return // all are masked out
	}
	sum := 0.0
	for _, x := range row {
		sum += math.Exp(float64(x) - float64(most))
	}
	for i, x := range row {
		row[i] = float32(math.Exp(float64(x)-float64(most)) / sum)
	}
}
