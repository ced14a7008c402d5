package remote

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// outputs are the keys of what is asked for; nil: of all.
func (b Batch) outputs() []string {
	if b.AllOutputs {
		return nil
	}
	keys := []string{b.Output}
	if b.ClassOutput != "" {
		keys = append(keys, b.ClassOutput)
	}
	return append(keys, slices.Sorted(maps.Keys(b.Returned))...)
}

// maxAnswerBytes bounds the answer for n records.
func (b Batch) maxAnswerBytes(n int) int {
	most := baseAnswerBytes + n*rowAnswerBytes
	if b.ClassOutput != "" || b.AllOutputs {
		most += n * rowWordBytes
	}
	for _, input := range b.Returned {
		most += proto.Size(b.Inputs[input])
	}
	return most
}

// read reads the answer for n records.
func (b Batch) read(outputs map[string]*tfpb.TensorProto, n int) (a Answer, err error) {
	read := rowsOf
	if b.AllOutputs {
		read = scoresOf
	}
	if a.Scores, err = read(outputs, b.Output, n, b.Classes); err != nil {
		return Answer{}, err
	}
	if b.ClassOutput != "" {
		if err := a.readClasses(outputs, b); err != nil {
			return Answer{}, err
		}
	}
	for output, input := range b.Returned {
		if !same(outputs[output], b.Inputs[input]) {
			return Answer{}, fmt.Errorf("output %q is not the input %q: it does not answer records in their order", output, input)
		}
	}
	return a, nil
}

// readClasses reads the classes of the scores.
func (a *Answer) readClasses(outputs map[string]*tfpb.TensorProto, b Batch) error {
	t, ok := outputs[b.ClassOutput]
	if !ok {
		return fmt.Errorf("it has no output %q, only %q", b.ClassOutput, slices.Sorted(maps.Keys(outputs)))
	}
	if scores := outputs[b.Output]; !slices.Equal(sizes(t.GetTensorShape().GetDim()), sizes(scores.GetTensorShape().GetDim())) {
		return fmt.Errorf("output %q has the shape %v, and its scores %v", b.ClassOutput, sizes(t.GetTensorShape().GetDim()), sizes(scores.GetTensorShape().GetDim()))
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

// integers are the elements of a tensor of int64 or int32.
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

// same tells whether two tensors of strings or int64 hold the same.
func same(a, b *tfpb.TensorProto) bool {
	return a.GetDtype() == b.GetDtype() && slices.Equal(sizes(a.GetTensorShape().GetDim()), sizes(b.GetTensorShape().GetDim())) &&
		slices.EqualFunc(a.GetStringVal(), b.GetStringVal(), func(x, y []byte) bool { return string(x) == string(y) }) &&
		slices.Equal(integers(a), integers(b))
}

// scoresOf reads the output's rows, or those of the only output that fits where
// none has that name.
func scoresOf(outputs map[string]*tfpb.TensorProto, key string, n, classes int) ([][]float32, error) {
	if _, ok := outputs[key]; ok {
		return rowsOf(outputs, key, n, classes)
	}
	var found [][]float32
	fit := 0
	for other := range outputs {
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

// rowsOf reads an output's rows: float32 of shape [n, classes] or [n], complete.
func rowsOf(outputs map[string]*tfpb.TensorProto, key string, n, classes int) ([][]float32, error) {
	t, ok := outputs[key]
	if !ok {
		return nil, fmt.Errorf("it has no output %q, only %q", key, slices.Sorted(maps.Keys(outputs)))
	}
	dims := t.GetTensorShape().GetDim()
	if t.GetDtype() != tfpb.DataType_DT_FLOAT {
		return nil, fmt.Errorf("output %q is %v, want float32", key, savedmodel.DataType(t.GetDtype()))
	}
	width := int64(1)
	if len(dims) == 2 {
		width = dims[1].GetSize()
	}
	if len(dims) < 1 || len(dims) > 2 || t.GetTensorShape().GetUnknownRank() || dims[0].GetSize() != int64(n) || width < 1 {
		return nil, fmt.Errorf("output %q has the shape %v, want [%d, classes]", key, sizes(dims), n)
	}
	if width > math.MaxInt32 { // the product below shall not overflow
		return nil, fmt.Errorf("output %q has %d classes", key, width)
	}
	if classes > 0 && width != int64(classes) {
		return nil, fmt.Errorf("output %q has %d classes, want %d", key, width, classes)
	}
	total := int64(n) * width
	values := t.GetFloatVal()
	if content := t.GetTensorContent(); len(content) > 0 {
		if int64(len(content)) != 4*total {
			return nil, fmt.Errorf("output %q of shape (%d, %d) has %d bytes, want %d", key, n, width, len(content), 4*total)
		}
		values = make([]float32, total)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(content[4*i:]))
		}
	} else if int64(len(values)) != total {
		return nil, fmt.Errorf("output %q of shape (%d, %d) has %d values, want %d", key, n, width, len(values), total)
	}
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = values[i*int(width) : (i+1)*int(width) : (i+1)*int(width)]
	}
	return rows, nil
}

func sizes(dims []*tfpb.TensorShapeProto_Dim) savedmodel.Shape {
	s := savedmodel.Shape{}
	for _, d := range dims[:min(len(dims), 8)] {
		s = append(s, d.GetSize())
	}
	return s
}
