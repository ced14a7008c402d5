package model

import (
	"fmt"

	"inceptor/savedmodel"
)

// Bounds of a batch of fixed size. A model server's signature is bounded too, like
// everything from outside.
const (
	maxFixedBatch = 1024 // as many as model.batch.max may be
	maxBatchBytes = 256 << 20
)

// bindBatch notes the size of a batch, if the first dimension of an input fixes it.
func (b *binder) bindBatch(key string, shape savedmodel.Shape) error {
	if len(shape) == 0 || shape[0] <= 0 {
		return nil
	}
	n := shape[0]
	switch {
	case n > maxFixedBatch:
		return fmt.Errorf("input %q takes batches of exactly %d, which is over %d: export it with a batch of None", key, n, maxFixedBatch)
	case b.batch > 0 && int64(b.batch) != n:
		return fmt.Errorf("input %q takes batches of exactly %d, and another input batches of %d: export both with a batch of None", key, n, b.batch)
	}
	b.batch = int(n)
	return nil
}

// checkBatch bounds the memory of a batch of fixed size.
func (b *binder) checkBatch() error {
	if b.batch <= 1 {
		return nil
	}
	each := int64(0)
	for _, f := range b.feeds {
		if n, _ := f.shape.Elements(); !f.once {
			each += n * int64(f.dtype.Size())
		}
	}
	if each*int64(b.batch) > maxBatchBytes {
		return fmt.Errorf("it takes batches of exactly %d, and %d records of %d bytes each are over %d MiB: export it with a batch of None, or a smaller one",
			b.batch, b.batch, each, maxBatchBytes>>20)
	}
	return nil
}

// checkRows makes sure that outputs have a row for each record of a batch of fixed
// size, as far as their shapes tell.
func (b *binder) checkRows() error {
	for _, key := range b.outputs() {
		if s := b.sig.Outputs[key].Shape; b.batch > 0 && len(s) > 0 && s[0] > 0 && s[0] != int64(b.batch) {
			return fmt.Errorf("output %q has the shape %v, but the inputs take batches of exactly %d, and each record must have a row of its own: "+
				"export it with a batch of None", key, s, b.batch)
		}
	}
	return nil
}

// batching is how records are joined for the signature. A run of a fixed batch takes as
// long with fewer records, so each run takes as many as are ready.
func (bound signature) batching(c Batch) Batch {
	if bound.batch > 0 {
		c.Max, c.LatencyBudget = bound.batch, 0
	}
	return c
}

// padded is the items, with copies of one of them after them if they are fewer than size.
// It is the smallest: no copy is worth more memory than that. What the model gives for
// copies is nobody's answer: see first.
func padded(items []item, size int) []item {
	if len(items) >= size {
		return items
	}
	copied := items[len(items)-1]
	for _, it := range items {
		if len(it.encoded) < len(copied.encoded) {
			copied = it
		}
	}
	full := append(make([]item, 0, size), items...)
	for len(full) < size {
		full = append(full, copied)
	}
	return full
}

// first is what the first n items got.
func (got scored) first(n int) scored {
	got.rows = got.rows[:min(n, len(got.rows))]
	got.classes = got.classes[:min(n, len(got.classes))]
	got.arrays = got.arrays[:min(n, len(got.arrays))]
	return got
}
