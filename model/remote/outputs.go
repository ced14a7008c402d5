package remote

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// outputs returns the keys of the outputs to request; nil: all.
func (b Batch) outputs() []string {
	if b.AllOutputs {
		return nil
	}
	keys := slices.Clone(b.Arrays)
	for _, key := range append([]string{b.Output, b.ClassOutput}, slices.Sorted(maps.Keys(b.Returned))...) {
		if key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// maxAnswerBytes is the most bytes that a response for n records may have.
func (b Batch) maxAnswerBytes(n int) int {
	most := baseAnswerBytes + n*rowAnswerBytes
	if b.ClassOutput != "" || b.AllOutputs {
		most += n * rowWordBytes
	}
	if len(b.Arrays) > 0 {
		most += n * rowArrayBytes
	}
	for _, input := range b.Returned {
		most += proto.Size(b.Inputs[input])
	}
	return most
}

// read reads the response for n records.
func (b Batch) read(outputs map[string]*tfpb.TensorProto, n int) (a Answer, err error) {
	read := rowsOf
	if b.AllOutputs {
		read = scoresOf
	}
	if b.Output != "" {
		if a.Scores, err = read(outputs, b.Output, n, b.Classes); err != nil {
			return Answer{}, err
		}
	}
	for _, key := range b.Arrays {
		array, err := arrayOf(outputs, key, n)
		if err != nil {
			return Answer{}, err
		}
		a.Arrays = append(a.Arrays, array)
	}
	if b.ClassOutput != "" {
		if err := a.readClasses(outputs, b); err != nil {
			return Answer{}, err
		}
	}
	for output, input := range b.Returned {
		if !same(outputs[output], b.Inputs[input]) {
			return Answer{}, fmt.Errorf("output %q is not the input %q: the server does not answer records in their order", output, input)
		}
	}
	return a, nil
}

// readClasses reads the class of each score.
func (a *Answer) readClasses(outputs map[string]*tfpb.TensorProto, b Batch) error {
	t, ok := outputs[b.ClassOutput]
	if !ok {
		return fmt.Errorf("it has no output %q, only %q", b.ClassOutput, slices.Sorted(maps.Keys(outputs)))
	}
	if shape, want := shapeIn(t), shapeIn(outputs[b.Output]); !slices.Equal(shape, want) {
		return fmt.Errorf("output %q has the shape %v, and its scores %v", b.ClassOutput, shape, want)
	}
	switch t.GetDtype() {
	case tfpb.DataType_DT_STRING:
		a.Words = t.GetStringVal()
	case tfpb.DataType_DT_INT64, tfpb.DataType_DT_INT32:
		a.Numbers = integers(t)
	default:
		return fmt.Errorf("output %q is %v, want string, int64 or int32", b.ClassOutput, savedmodel.DataType(t.GetDtype()))
	}
	if n := len(a.Scores) * len(a.Scores[0]); len(a.Words) != n && len(a.Numbers) != n {
		return fmt.Errorf("output %q has %d values, want %d", b.ClassOutput, max(len(a.Words), len(a.Numbers)), n)
	}
	return nil
}

// integers returns the elements of a tensor of int64 or int32.
func integers(t *tfpb.TensorProto) (values []int64) {
	content, wide := t.GetTensorContent(), t.GetDtype() == tfpb.DataType_DT_INT64
	switch {
	case wide && len(content) > 0:
		for ; len(content) >= 8; content = content[8:] {
			values = append(values, int64(binary.LittleEndian.Uint64(content)))
		}
	case wide:
		return t.GetInt64Val()
	case len(content) > 0:
		for ; len(content) >= 4; content = content[4:] {
			values = append(values, int64(int32(binary.LittleEndian.Uint32(content))))
		}
	default:
		for _, v := range t.GetIntVal() {
			values = append(values, int64(v))
		}
	}
	return values
}

// same reports whether two tensors of strings or int64 are equal.
func same(a, b *tfpb.TensorProto) bool {
	return a.GetDtype() == b.GetDtype() && slices.Equal(shapeIn(a), shapeIn(b)) &&
		slices.EqualFunc(a.GetStringVal(), b.GetStringVal(), bytes.Equal) &&
		slices.Equal(integers(a), integers(b))
}

// scoresOf reads the rows of the output with this key. If there is none, it reads the
// only output that fits.
func scoresOf(outputs map[string]*tfpb.TensorProto, key string, n, classes int) ([][]float32, error) {
	if _, ok := outputs[key]; ok {
		return rowsOf(outputs, key, n, classes)
	}
	var found [][]float32
	fit := 0
	for other, t := range outputs {
		if !savedmodel.DataType(t.GetDtype()).IsFloat() {
			continue // integers are mostly classes
		}
		if rows, err := rowsOf(outputs, other, n, classes); err == nil {
			found = rows
			fit++
		}
	}
	if fit == 1 {
		return found, nil
	}
	return nil, fmt.Errorf("it has no output %q, only %q, of which %d fit", key, slices.Sorted(maps.Keys(outputs)), fit)
}

// arrayOf reads a whole output. Its first dimension is the batch.
func arrayOf(outputs map[string]*tfpb.TensorProto, key string, n int) (savedmodel.Array, error) {
	t, ok := outputs[key]
	if !ok {
		return savedmodel.Array{}, fmt.Errorf("it has no output %q, only %q", key, slices.Sorted(maps.Keys(outputs)))
	}
	shape := shapeIn(t)
	if len(shape) < 1 || t.GetTensorShape().GetUnknownRank() || shape[0] != int64(n) {
		return savedmodel.Array{}, fmt.Errorf("output %q has the shape %v, want [%d, …]", key, shape, n)
	}
	a, err := savedmodel.ArrayOf(t)
	if err != nil {
		return savedmodel.Array{}, fmt.Errorf("output %q of shape %v: %w", key, shape, err)
	}
	return a, nil
}

// rowsOf reads an output of numbers as n rows of equal length. Its shape is [n, classes],
// [n] or [n, 1, 1, classes].
func rowsOf(outputs map[string]*tfpb.TensorProto, key string, n, classes int) ([][]float32, error) {
	t, ok := outputs[key]
	if !ok {
		return nil, fmt.Errorf("it has no output %q, only %q", key, slices.Sorted(maps.Keys(outputs)))
	}
	if d := savedmodel.DataType(t.GetDtype()); !d.IsNumber() {
		return nil, fmt.Errorf("output %q is %v, want numbers", key, d)
	}
	width := int64(1)
	shape := shapeIn(t)
	for _, d := range shape[min(1, len(shape)):] {
		if d < 1 || d > 1 && width > 1 {
			return nil, fmt.Errorf("output %q has the shape %v, want [%d, classes]", key, shape, n)
		}
		width = max(width, d)
	}
	if classes > 0 && len(shape) > 0 && width != int64(classes) {
		return nil, fmt.Errorf("output %q has %d classes, want %d", key, width, classes)
	}
	a, err := arrayOf(outputs, key, n)
	if err != nil {
		return nil, err
	}
	values, err := a.Float32s()
	if err != nil {
		return nil, err
	}
	if len(values) != n*int(width) { // in dimensions that shapeIn leaves out
		return nil, fmt.Errorf("output %q has %d dimensions and %d values, want [%d, classes]", key, len(a.Shape), len(values), n)
	}
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = values[i*int(width) : (i+1)*int(width) : (i+1)*int(width)]
	}
	return rows, nil
}

// shapeIn returns the first dimensions of a tensor, at most maxDims.
func shapeIn(t *tfpb.TensorProto) savedmodel.Shape {
	const maxDims = 8
	s, dims := savedmodel.Shape{}, t.GetTensorShape().GetDim()
	for _, d := range dims[:min(len(dims), maxDims)] {
		s = append(s, d.GetSize())
	}
	return s
}
