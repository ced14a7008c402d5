package infer

import (
	"fmt"
	"math"
	"strings"

	"inceptor/savedmodel"
)

// ReasonOutputTooLarge says that the outputs that inceptor.yaml lists are too large for an answer.
const ReasonOutputTooLarge = "output-too-large"

// maxOutputSize bounds the values of all arrays of an answer together, and the lists that are
// nested in each of them. A string counts as one value for each stringValue bytes that it begins.
const (
	maxOutputSize = 1 << 16
	stringValue   = 16
)

// An Array is the part of an output for one record. inceptor.yaml lists the outputs.
type Array struct {
	Key string // of the output
	savedmodel.Array
}

// maxShown is how many values of an array a person is shown.
const maxShown = 5

// String returns key, shape and first values, for a person.
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

// checkArrays makes sure that the arrays of one record fit into an answer.
func checkArrays(arrays []Array) error {
	size := 0
	for _, a := range arrays {
		if countLists(a.Shape) > maxOutputSize {
			return &InputError{ReasonOutputTooLarge, fmt.Errorf("the output %q, of shape %.99s, has over %d nested lists: "+
				"let the graph reshape or cut it, or leave it out of outputs", a.Key, fmt.Sprint(a.Shape), maxOutputSize)}
		}
		if a.DType == savedmodel.String {
			for _, s := range a.Strings {
				size += max(1, (len(s)+stringValue-1)/stringValue)
			}
		} else {
			size += a.Len()
		}
		if size > maxOutputSize {
			return &InputError{ReasonOutputTooLarge, fmt.Errorf("with the output %q, of shape %v, an answer has %d values, over the limit of %d: "+
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

// countLists returns how many lists are nested in an array of a shape, or some number over
// maxOutputSize. An array without values may have many: [1000000, 0] is a million empty lists.
func countLists(shape savedmodel.Shape) int64 {
	total, n := int64(0), int64(1)
	for _, d := range shape[:max(len(shape)-1, 0)] {
		n *= min(d, maxOutputSize+1)
		if total += n; total > maxOutputSize {
			break
		}
	}
	return total
}

// splitArrays returns the part of a batch's arrays for each of n records, with the keys of the
// outputs.
func splitArrays(keys []string, batch []savedmodel.Array, n int) ([][]Array, error) {
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
			return nil, fmt.Errorf("the model returned the output %q of shape %v for %d records: "+
				"export it with the batch as its first dimension, or leave it out of outputs", keys[k], a.Shape, n)
		}
		if !canBeArray(a.DType) {
			return nil, fmt.Errorf("the model returned the output %q as %v, and an answer has only numbers, bools and strings", keys[k], a.DType)
		}
		for i := range records {
			records[i][k] = Array{keys[k], a.Row(i)}
		}
	}
	return records, nil
}
