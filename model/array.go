package model

import (
	"fmt"
	"math"
	"strings"

	"inceptor/savedmodel"
)

// ReasonOutputTooLarge says that the outputs which inceptor.yaml lists are too large
// for an answer.
const ReasonOutputTooLarge = "output-too-large"

// maxOutputSize is how many values the outputs in an answer have together. A string
// counts as one for each stringValue bytes that it begins.
const (
	maxOutputSize = 1 << 16
	stringValue   = 16
)

// An Array is what a model gives for one record in an output that inceptor.yaml lists.
type Array struct {
	Key string // of the output
	savedmodel.Array
}

// maxShown is how many of an array's values a person is shown.
const maxShown = 5

// String is the array for a person: key, shape and the first values.
func (a Array) String() string {
	var out strings.Builder
	out.WriteString(a.Key)
	if len(a.Shape) > 0 {
		fmt.Fprintf(&out, " %v", a.Shape)
	}
	for i := range min(a.Len(), maxShown) {
		switch {
		case a.DType == savedmodel.String:
			fmt.Fprintf(&out, " %.40q", a.Strings[i])
		case a.DType == savedmodel.Bool:
			fmt.Fprintf(&out, " %v", a.Integer(i) != 0)
		case a.DType == savedmodel.UInt64:
			fmt.Fprintf(&out, " %d", uint64(a.Integer(i)))
		case a.DType.IsInteger():
			fmt.Fprintf(&out, " %d", a.Integer(i))
		default:
			fmt.Fprintf(&out, " %.4g", a.Float(i))
		}
	}
	if a.Len() > maxShown {
		out.WriteString(" …")
	}
	return out.String()
}

// canBeArray tells whether an answer can have values of a type.
func canBeArray(d savedmodel.DataType) bool {
	return d.IsNumber() || d == savedmodel.Bool || d == savedmodel.String
}

// checkArrays makes sure that what one record got fits into an answer.
func checkArrays(arrays []Array) error {
	size := 0
	for _, a := range arrays {
		if a.DType == savedmodel.String {
			for _, s := range a.Strings {
				size += max(1, (len(s)+stringValue-1)/stringValue)
			}
		} else {
			size += a.Len()
		}
		if size > maxOutputSize {
			return &InputError{ReasonOutputTooLarge, fmt.Errorf("with the output %q, of shape %v, an answer has %d values, at most %d are taken: "+
				"let the graph pool or cut it, or leave it out of outputs", a.Key, a.Shape, size, maxOutputSize)}
		}
		if !a.DType.IsFloat() {
			continue
		}
		for i := range a.Len() {
			if v := a.Float(i); math.IsNaN(v) || math.IsInf(v, 0) {
				return &InputError{ReasonNotFinite, fmt.Errorf("output %q has %v at element %d of %v", a.Key, v, i, a.Shape)}
			}
		}
	}
	return nil
}

// perRecord hands each of n records its part of what a batch got, by the keys of the
// outputs.
func perRecord(keys []string, batch []savedmodel.Array, n int) ([][]Array, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	records := make([][]Array, n)
	all := make([]Array, n*len(keys))
	for i := range records {
		records[i] = all[i*len(keys):][:len(keys):len(keys)]
	}
	for k, a := range batch {
		if n == 0 || batchOf(a.Shape) != n {
			return nil, fmt.Errorf("the model gave the output %q of shape %v for %d records: "+
				"its first dimension must be the batch, or it must be left out of outputs", keys[k], a.Shape, n)
		}
		if !canBeArray(a.DType) {
			return nil, fmt.Errorf("the model gave the output %q as %v, and an answer has numbers, bools and strings", keys[k], a.DType)
		}
		for i := range records {
			records[i][k] = Array{keys[k], a.Row(i)}
		}
	}
	return records, nil
}
