package infer

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
	// filler is a small encoded image that fills up batches of fixed size. Without it the
	// model would decode copies of a record. Nil: none is known.
	filler []byte
}

func newRunner(sig signature, run func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error)) runner {
	return runner{run: run, sig: sig, fetch: sig.fetch(sig.outputs())}
}

// batch is a batchFunc.
func (r runner) batch(items []item) (batchResult, error) {
	inputs := make([]*savedmodel.Tensor, 0, len(r.sig.feeds))
	defer func() {
		for _, t := range inputs {
			if t != items[0].pixels { // the item closes that
				t.Close()
			}
		}
	}()
	full := pad(items, r.sig.batch, r.filler)
	for _, f := range r.sig.feeds {
		t, err := f.join(full)
		if err != nil {
			return batchResult{}, err
		}
		inputs = append(inputs, t)
	}
	got, err := r.call(context.Background(), inputs)
	if err == nil && got.records() != len(full) {
		err = fmt.Errorf("the model answered %d records in a batch of %d", got.records(), len(full))
	}
	return got.first(len(items)), err
}

// call runs the model once, and reads the result of each record.
func (r runner) call(ctx context.Context, inputs []*savedmodel.Tensor) (batchResult, error) {
	out, err := r.run(ctx, inputs...)
	if err != nil {
		return batchResult{}, err
	}
	defer closeTensors(out)
	for i, back := range r.sig.returned {
		same, err := equalTensors(out[r.fetch.returned[i]], inputs[back.feed])
		if err != nil {
			return batchResult{}, err
		}
		if !same {
			return batchResult{}, fmt.Errorf("the output %q is not the input %q: the model does not answer records in their order",
				back.output, r.sig.feeds[back.feed].key)
		}
	}
	return r.sig.read(r.fetch, out)
}

// A fetch holds the indices of a signature's outputs among the fetched tensors.
type fetch struct {
	scores, classes  int // -1: none
	arrays, returned []int
}

// fetch returns the indices of the outputs among these keys.
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

// read reads the tensors that a model has returned for a batch.
func (bound signature) read(f fetch, out []*savedmodel.Tensor) (got batchResult, err error) {
	got.version = remote.NoVersion
	if f.scores >= 0 {
		if got.scores, err = rowsIn(out[f.scores]); err != nil {
			return batchResult{}, err
		}
	}
	if f.classes >= 0 {
		classes, shape := out[f.classes], out[f.scores].Shape()
		if !slices.Equal(classes.Shape(), shape) {
			return batchResult{}, fmt.Errorf("the model gave classes of shape %v for scores of shape %v", classes.Shape(), shape)
		}
		own, err := classesIn(classes)
		if err != nil {
			return batchResult{}, err
		}
		got.classes = split(own, len(got.scores))
	}
	arrays := make([]savedmodel.Array, len(f.arrays))
	for i, at := range f.arrays {
		if arrays[i], err = out[at].Array(); err != nil {
			return batchResult{}, fmt.Errorf("output %q: %w", bound.Outputs[i], err)
		}
	}
	return got, bound.postprocess(&got, arrays)
}

// rowsIn returns the scores of each record.
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

// split divides the values of n records into equal rows.
func split[T any](all []T, n int) [][]T {
	each := len(all) / n
	rows := make([][]T, n)
	for i := range rows {
		rows[i] = all[i*each : (i+1)*each : (i+1)*each]
	}
	return rows
}

// classesIn returns the classes of scores, which are words or indices.
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

// maxWordBytes is the most bytes of a class's word.
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
		if n < 0 { // not an index; -1 often stands for nothing
			classes[i] = Class{Index: NoIndex, Label: strconv.FormatInt(int64(n), 10)}
		}
	}
	return classes
}

// duplicateClass returns a class that one record has twice. Negative numbers and empty words
// do not count, since they may stand for nothing.
func duplicateClass(classes []Class) (twice Class, ok bool) {
	seen := make(map[Class]bool, len(classes))
	for _, c := range classes {
		if nothing := c.Index < 0 && (c.Label == "" || c.Label[0] == '-'); !nothing && seen[c] {
			return c, true
		}
		seen[c] = true
	}
	return Class{}, false
}

// checkClasses checks that the output which seems to have the classes of the scores has them.
// Two other outputs have the same form: one with 0 or 1 (or yes or no) for each class, and one
// with the ranking of all classes next to scores that are not ranked.
func (bound signature) checkClasses(got batchResult) error {
	if bound.classesHint == "" {
		return nil
	}
	for i, classes := range got.classes {
		if c, ok := duplicateClass(classes); ok {
			return fmt.Errorf("output %q has %s more than once for a record, so that it may not have the classes of the scores: %s",
				bound.Output.Classes, cmp.Or(c.Label, strconv.Itoa(c.Index)), bound.classesHint)
		}
		if ownOrder(classes) && !slices.IsSortedFunc(got.scores[i], func(a, b float32) int { return cmp.Compare(b, a) }) {
			return fmt.Errorf("output %q has numbers in another order than the scores, so that it may not have their classes: %s",
				bound.Output.Classes, bound.classesHint)
		}
	}
	return nil
}

// ownOrder reports whether the classes of one record are indices in another order than 0, 1, 2….
func ownOrder(classes []Class) bool {
	index := -1
	return slices.ContainsFunc(classes, func(c Class) bool {
		index++
		return c.Index >= 0 && c.Index != index
	})
}

// equalTensors reports whether two tensors are equal.
func equalTensors(a, b *savedmodel.Tensor) (bool, error) {
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

func closeTensors(tensors []*savedmodel.Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}
