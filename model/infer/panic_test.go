package infer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
)

// A panic in a batch fails only the record that causes it.
func TestPanicInBatch(t *testing.T) {
	run := func(batch []item) (batchResult, error) {
		got := batchResult{}
		for _, it := range batch {
			if len(it.encoded) > 1 {
				panic("index out of range")
			}
			got.scores = append(got.scores, []float32{float32(it.encoded[0])})
		}
		return got, nil
	}
	b := newBatcher(plain(run), 2, true, Batch{Max: 4}, unobservedRuns{})
	defer b.close()
	var callers sync.WaitGroup
	for i := range byte(40) {
		callers.Go(func() {
			content := []byte{i}
			if i%10 == 7 {
				content = append(content, 0)
			}
			r, err := b.submit(t.Context(), item{encoded: content})
			var guilty *InputError
			switch bad := errors.As(err, &guilty); {
			case bad != (i%10 == 7), bad && guilty.Reason != ReasonPanicked:
				t.Errorf("record %d: %v", i, err)
			case !bad && !slices.Equal(r.scores, []float32{float32(i)}):
				t.Errorf("record %d got %v", i, r.scores)
			}
		})
	}
	callers.Wait()
}

// A panic in a decoder fails its record.
func TestPanicInDecoder(t *testing.T) {
	run := func(batch []item) (batchResult, error) {
		return batchResult{scores: make([][]float32, len(batch))}, nil
	}
	b := newBatcher(plain(run), 1, true, Batch{Max: 1}, unobservedRuns{})
	defer b.close()
	a := &pipeline{
		sig: signature{content: Rows}, decodeLimits: NewDecodeLimits(1), batcher: b,
		decode: func(_ context.Context, content []byte, _ Header) (item, error) {
			return item{encoded: content[:9]}, nil
		},
	}
	for range 3 {
		var guilty *InputError
		if _, err := a.Classify(t.Context(), []byte("short")); !errors.As(err, &guilty) || guilty.Reason != ReasonPanicked {
			t.Errorf("got %v", err)
		}
		if _, err := a.Classify(t.Context(), []byte("long enough")); err != nil {
			t.Error(err)
		}
	}
}
