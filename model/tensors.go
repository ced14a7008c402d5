package model

import (
	"bytes"
	"cmp"
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
	run   func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) // of a savedmodel.Function
	sig   signature
	fetch fetch // of sig
	// filler is an encoded image that the model takes, to fill batches up with: an image
	// that comes alone would be decoded as often as the batch has places. nil: none is known.
	filler []byte
}

func newRunner(sig signature, run func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error)) runner {
	return runner{run: run, sig: sig, fetch: sig.fetch(sig.outputs())}
}

// batch is a batchFunc.
func (r runner) batch(items []item) (scored, error) {
	inputs := make([]*savedmodel.Tensor, 0, len(r.sig.feeds))
	defer func() {
		for _, t := range inputs {
			if t != items[0].pixels { // which the item closes
				t.Close()
			}
		}
	}()
	full := padded(items, r.sig.batch, r.filler)
	for _, f := range r.sig.feeds {
		t, err := f.join(full)
		if err != nil {
			return scored{}, err
		}
		inputs = append(inputs, t)
	}
	got, err := r.call(context.Background(), inputs)
	if err == nil && got.records() != len(full) {
		err = fmt.Errorf("the model answered %d records in a batch of %d", got.records(), len(full))
	}
	return got.first(len(items)), err
}

// call runs the model once, and reads what each record got.
func (r runner) call(ctx context.Context, inputs []*savedmodel.Tensor) (scored, error) {
	out, err := r.run(ctx, inputs...)
	if err != nil {
		return scored{}, err
	}
	defer closeAll(out)
	for i, back := range r.sig.returned {
		same, err := alike(out[r.fetch.returned[i]], inputs[back.feed])
		if err != nil {
			return scored{}, err
		}
		if !same {
			return scored{}, fmt.Errorf("the output %q is not the input %q: the model does not answer records in their order",
				back.output, r.sig.feeds[back.feed].key)
		}
	}
	return r.sig.read(r.fetch, out)
}

// A fetch says where the outputs of a signature are among those that were fetched.
type fetch struct {
	scores, classes  int // -1: there is none
	arrays, returned []int
}

// fetch finds the outputs among these keys.
func (bound signature) fetch(keys []string) fetch {
	at := func(key string) int { return slices.Index(keys, key) }
	f := fetch{scores: at(bound.Output.Scores), classes: at(bound.Output.Classes)}
	for _, key := range bound.Outputs {
		f.arrays = append(f.arrays, at(key))
	}
	for _, r := range bound.returned {
		f.returned = append(f.returned, at(r.output))
	}
	return f
}

// read reads what a model gave for a batch.
func (bound signature) read(f fetch, out []*savedmodel.Tensor) (got scored, err error) {
	got.version = remote.NoVersion
	if f.scores >= 0 {
		if got.rows, err = rowsIn(out[f.scores]); err != nil {
			return scored{}, err
		}
	}
	if f.classes >= 0 {
		classes, shape := out[f.classes], out[f.scores].Shape()
		if !slices.Equal(classes.Shape(), shape) {
			return scored{}, fmt.Errorf("the model gave classes of shape %v for scores of shape %v", classes.Shape(), shape)
		}
		own, err := classesIn(classes)
		if err != nil {
			return scored{}, err
		}
		got.classes = split(own, len(got.rows))
	}
	arrays := make([]savedmodel.Array, len(f.arrays))
	for i, at := range f.arrays {
		if arrays[i], err = out[at].Array(); err != nil {
			return scored{}, fmt.Errorf("output %q: %w", bound.Outputs[i], err)
		}
	}
	return got, bound.finish(&got, arrays)
}

// rowsIn reads the scores of each record.
func rowsIn(scores *savedmodel.Tensor) ([][]float32, error) {
	shape := scores.Shape()
	if slices.Contains(shape, 0) || !isRow(shape) {
		return nil, fmt.Errorf("the model gave scores of shape %v, want [N, classes]", shape)
	}
	all, err := savedmodel.Float32s(scores.DType(), scores.Bytes())
	if err != nil {
		return nil, err
	}
	return split(all, int(shape[0])), nil
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
		if err != nil {
			return nil, err
		}
		return classesOfWords(words)
	}
	if t.DType() == savedmodel.Int32 {
		numbers, err := savedmodel.Data[int32](t)
		return classesOfNumbers(numbers), err
	}
	numbers, err := savedmodel.Data[int64](t)
	return classesOfNumbers(numbers), err
}

// maxWordBytes bounds a word that a model has for a class.
const maxWordBytes = 4 << 10

func classesOfWords(words [][]byte) ([]Class, error) {
	classes := make([]Class, len(words))
	for i, word := range words {
		if len(word) > maxWordBytes {
			return nil, &InputError{ReasonModelRefused, fmt.Errorf("the model gives a class a word of %d bytes, at most %d are taken", len(word), maxWordBytes)}
		}
		classes[i] = Class{Index: NoIndex, Label: strings.ToValidUTF8(string(word), "\ufffd")}
	}
	return classes, nil
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

// repeated is a class that one record has twice. Numbers below zero, and empty
// words, may stand for nothing.
func repeated(classes []Class) (twice Class, ok bool) {
	seen := make(map[Class]bool, len(classes))
	for _, c := range classes {
		if nothing := c.Index < 0 && (c.Label == "" || c.Label[0] == '-'); !nothing && seen[c] {
			return c, true
		}
		seen[c] = true
	}
	return Class{}, false
}

// checkClasses makes sure that what seems to be the classes of the scores is that.
// What is 0 or 1, or yes or no, for each class has the same form; so has the order
// of all classes beside scores that are not in it.
func (bound signature) checkClasses(got scored) error {
	if bound.doubt == "" {
		return nil
	}
	for i, classes := range got.classes {
		if c, ok := repeated(classes); ok {
			return fmt.Errorf("output %q has %s more than once for a record, so that it may not have the classes of the scores: %s",
				bound.Output.Classes, cmp.Or(c.Label, strconv.Itoa(c.Index)), bound.doubt)
		}
		if ownOrder(classes) && !slices.IsSortedFunc(got.rows[i], func(a, b float32) int { return cmp.Compare(b, a) }) {
			return fmt.Errorf("output %q has numbers in another order than the scores, so that it may not have their classes: %s",
				bound.Output.Classes, bound.doubt)
		}
	}
	return nil
}

// ownOrder tells whether the classes of one record are indices, and not each that
// of its place.
func ownOrder(classes []Class) bool {
	place := -1
	return slices.ContainsFunc(classes, func(c Class) bool {
		place++
		return c.Index >= 0 && c.Index != place
	})
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
