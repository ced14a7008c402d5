package infer

import (
	"fmt"

	"inceptor/savedmodel"
)

// Bounds of a batch of fixed size. They are needed since a signature may come from a model server.
const (
	maxFixedBatch = 1024 // as many as model.batch.max may be
	maxBatchBytes = 256 << 20
)

// bindBatch sets the size of a batch, if the first dimension of an input fixes it.
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
func (bound signature) checkBatch() error {
	if bound.batch <= 1 {
		return nil
	}
	each := int64(0)
	for _, f := range bound.feeds {
		if n, _ := f.shape.Elements(); !f.perBatch {
			each += n * int64(f.dtype.Size())
		}
	}
	if each*int64(bound.batch) > maxBatchBytes {
		return fmt.Errorf("it takes batches of exactly %d, and %d records of %d bytes each are over %d MiB: export it with a batch of None, or a smaller one",
			bound.batch, bound.batch, each, maxBatchBytes>>20)
	}
	return nil
}

// checkRows makes sure that outputs have a row for each record of a batch of fixed size, as far as
// their shapes tell.
func (b *binder) checkRows() error {
	for _, key := range b.outputs() {
		if s := b.sig.Outputs[key].Shape; b.batch > 0 && len(s) > 0 && s[0] > 0 && s[0] != int64(b.batch) {
			return fmt.Errorf("output %q has the shape %v, but the inputs take batches of exactly %d, and each record needs a row of its own: "+
				"export it with a batch of None", key, s, b.batch)
		}
	}
	return nil
}

// batchConfig returns how records are batched for the signature. A run with a batch of fixed size
// takes as long with fewer records, so each run takes all that are ready.
func (bound signature) batchConfig(c Batch) Batch {
	if bound.batch > 0 {
		c.Max, c.LatencyBudget = bound.batch, 0
	}
	return c
}

// pad appends copies of the filler, an encoded image, until there are at least size items. Without
// a filler it copies the smallest item, which takes the least memory. The caller drops the results
// of the copies; see first.
func pad(items []item, size int, filler []byte) []item {
	if len(items) >= size {
		return items
	}
	copied := item{encoded: filler}
	if filler == nil {
		copied = smallest(items)
	}
	full := append(make([]item, 0, size), items...)
	for len(full) < size {
		full = append(full, copied)
	}
	return full
}

// smallest returns the item that takes the least memory, as far as that is known.
func smallest(items []item) item {
	found := items[len(items)-1]
	for _, it := range items {
		if len(it.encoded) < len(found.encoded) {
			found = it
		}
	}
	return found
}

// first returns the results of the first n items.
func (r batchResult) first(n int) batchResult {
	r.scores = r.scores[:min(n, len(r.scores))]
	r.classes = r.classes[:min(n, len(r.classes))]
	r.arrays = r.arrays[:min(n, len(r.arrays))]
	return r
}
