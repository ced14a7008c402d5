package service

import (
	"math"
	"strconv"

	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// appendOutputs appends the value of "outputs": the scores of a model without classes, and
// the arrays that inceptor.yaml lists; null if there are neither.
func appendOutputs(b []byte, p *infer.Prediction) []byte {
	scores := len(p.Classes) == 0 && p.Output != ""
	if !scores && len(p.Outputs) == 0 {
		return append(b, null...)
	}
	b = append(b, '{')
	if scores {
		b = append(appendString(b, p.Output), ":["...)
		for i, score := range p.Scores {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendScore(b, score)
		}
		b = append(b, ']')
	}
	for i, a := range p.Outputs {
		if i > 0 || scores {
			b = append(b, ',')
		}
		b, _ = appendArray(append(appendString(b, a.Key), ':'), a.Array, a.Shape, 0)
	}
	return append(b, '}')
}

// appendArray appends the elements of a shape, starting with element at: as nested lists,
// or as one value if the shape has no dimensions. It also returns the index of the element
// that follows.
func appendArray(b []byte, a savedmodel.Array, shape savedmodel.Shape, at int) ([]byte, int) {
	if len(shape) == 0 {
		return appendElement(b, a, at), at + 1
	}
	b = append(b, '[')
	for i := range shape[0] {
		if i > 0 {
			b = append(b, ',')
		}
		b, at = appendArray(b, a, shape[1:], at)
	}
	return append(b, ']'), at
}

// doubleDigits is how many digits a float64 has after the point, at most.
const doubleDigits = 16

func appendElement(b []byte, a savedmodel.Array, i int) []byte {
	switch d := a.DType; {
	case d == savedmodel.String:
		return appendString(b, string(a.Strings[i]))
	case d == savedmodel.Bool:
		return strconv.AppendBool(b, a.Integer(i) != 0)
	case d == savedmodel.UInt64:
		return strconv.AppendUint(b, uint64(a.Integer(i)), 10)
	case d.IsInteger():
		return strconv.AppendInt(b, a.Integer(i), 10)
	case d != savedmodel.Float64:
		return appendScore(b, float32(a.Float(i)))
	}
	v, digits := a.Float(i), -1
	if math.Abs(v) < 1 {
		digits = doubleDigits
	}
	return appendDecimal(b, v, digits, 64)
}
