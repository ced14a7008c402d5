package model

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// A runner runs batches with a signature of a model in this process.
type runner struct {
	run      func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) // of a savedmodel.Function
	feeds    []feed
	classes  bool // the second output has the classes of the scores, which are the first
	returned []returned
}

func newRunner(sig signature, run func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error)) runner {
	return runner{run, sig.feeds, sig.Output.Classes != "", sig.returned}
}

// batch is a batchFunc.
func (r runner) batch(items []item) (scored, error) {
	inputs := make([]*savedmodel.Tensor, 0, len(r.feeds))
	defer func() {
		for _, t := range inputs {
			if t != items[0].pixels { // which the item closes
				t.Close()
			}
		}
	}()
	for _, f := range r.feeds {
		t, err := f.join(items)
		if err != nil {
			return scored{}, err
		}
		inputs = append(inputs, t)
	}
	got, err := r.call(context.Background(), inputs)
	if err == nil && len(got.rows) != len(items) {
		err = fmt.Errorf("the model gave scores for %d records in a batch of %d", len(got.rows), len(items))
	}
	return got, err
}

// call runs the model once, and reads a row of scores for each record.
func (r runner) call(ctx context.Context, inputs []*savedmodel.Tensor) (scored, error) {
	out, err := r.run(ctx, inputs...)
	if err != nil {
		return scored{}, err
	}
	defer closeAll(out)
	got := scored{version: remote.NoVersion}
	shape := out[0].Shape()
	if len(shape) < 1 || len(shape) > 2 || slices.Contains(shape, 0) {
		return scored{}, fmt.Errorf("the model gave scores of shape %v, want [N, classes]", shape)
	}
	all, err := savedmodel.Data[float32](out[0])
	if err != nil {
		return scored{}, err
	}
	got.rows = split(slices.Clone(all), int(shape[0])) // all dies with the tensor
	out = out[1:]
	if r.classes {
		if !slices.Equal(out[0].Shape(), shape) {
			return scored{}, fmt.Errorf("the model gave classes of shape %v for scores of shape %v", out[0].Shape(), shape)
		}
		classes, err := classesIn(out[0])
		if err != nil {
			return scored{}, err
		}
		got.classes = split(classes, int(shape[0]))
		out = out[1:]
	}
	for i, back := range r.returned {
		same, err := alike(out[i], inputs[back.feed])
		if err != nil {
			return scored{}, err
		}
		if !same {
			return scored{}, fmt.Errorf("the output %q is not the input %q: the model does not answer records in their order",
				back.output, r.feeds[back.feed].key)
		}
	}
	return got, nil
}

// split cuts what is for n records into equal rows.
func split[T any](all []T, n int) [][]T {
	each := len(all) / n
	rows := make([][]T, n)
	for i := range rows {
		rows[i] = all[i*each : (i+1)*each : (i+1)*each]
	}
	return rows
}

// classesIn reads the classes of scores: words, or indices.
func classesIn(t *savedmodel.Tensor) ([]Class, error) {
	if t.DType() == savedmodel.String {
		words, err := t.Strings()
		return classesOfWords(words), err
	}
	if t.DType() == savedmodel.Int32 {
		numbers, err := savedmodel.Data[int32](t)
		return classesOfNumbers(numbers), err
	}
	numbers, err := savedmodel.Data[int64](t)
	return classesOfNumbers(numbers), err
}

func classesOfWords(words [][]byte) []Class {
	classes := make([]Class, len(words))
	for i, word := range words {
		classes[i] = Class{Index: NoIndex, Label: strings.ToValidUTF8(string(word), "\ufffd")}
	}
	return classes
}

func classesOfNumbers[T int32 | int64](numbers []T) []Class {
	classes := make([]Class, len(numbers))
	for i, n := range numbers {
		classes[i].Index = int(n)
		if n < 0 { // no index, such as -1 for nothing
			classes[i] = Class{Index: NoIndex, Label: strconv.FormatInt(int64(n), 10)}
		}
	}
	return classes
}

// alike tells whether two tensors hold the same.
func alike(a, b *savedmodel.Tensor) (bool, error) {
	if a.DType() != b.DType() || !slices.Equal(a.Shape(), b.Shape()) {
		return false, nil
	}
	if a.DType() != savedmodel.String {
		return bytes.Equal(a.Bytes(), b.Bytes()), nil
	}
	x, err := a.Strings()
	if err != nil {
		return false, err
	}
	y, err := b.Strings()
	return slices.EqualFunc(x, y, bytes.Equal), err
}

func closeAll(tensors []*savedmodel.Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}
