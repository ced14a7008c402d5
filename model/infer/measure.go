package infer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// A TestBatch is a batch of records to measure a version with, without its queue. Not for
// concurrent use.
type TestBatch struct {
	v      *Version
	items  []item
	madeUp bool
	got    batchResult // of the last run
}

// NewTestBatch returns a batch of n of these records, in turn, or of n random ones where
// records is empty. The caller closes it. The error is ErrMadeUp if the model accepts no random
// ones.
func (v *Version) NewTestBatch(ctx context.Context, n int, records [][]byte) (*TestBatch, error) {
	b := &TestBatch{v: v, madeUp: len(records) == 0}
	for i := range n {
		var it item
		var err error
		switch {
		case b.madeUp:
			it, err = b.noise(ctx, uint64(i))
		case v.decode == nil:
			it.encoded = records[i%len(records)]
		default:
			it, err = v.decode(ctx, records[i%len(records)], Header{})
		}
		if err != nil {
			b.Close()
			return nil, err
		}
		b.items = append(b.items, it)
	}
	return b, nil
}

// Run runs the batch. The error wraps ErrMadeUp if the model refuses random records.
func (b *TestBatch) Run() (err error) {
	b.got, err = b.v.run.batch(b.items)
	refused := errors.As(blameInput(err, ReasonModelRefused), new(*InputError))
	if refused && b.madeUp && !b.v.sig.content.Image() {
		return fmt.Errorf("%w: %w", ErrMadeUp, err)
	}
	return err
}

// Floats returns the scores and the floats of the arrays of each record, of the last run.
func (b *TestBatch) Floats() [][]float32 { return b.got.floats() }

// Close frees the records.
func (b *TestBatch) Close() {
	for _, it := range b.items {
		it.close()
	}
}

// ErrMadeUp says that a model needs real records to be measured.
var ErrMadeUp = errors.New("the model does not take a made-up record, and has no golden ones")

// noise returns a random item, the same one for the same seed.
func (b *TestBatch) noise(ctx context.Context, seed uint64) (item, error) {
	switch b.v.sig.content {
	case Rows:
		return b.noisyRow(seed), nil
	case Examples:
		return item{encoded: []byte{}}, nil
	}
	random := rand.New(rand.NewPCG(seed, 0))
	if b.v.decode == nil {
		return b.noisyPicture(random)
	}
	height, width := b.v.preprocessing.Size[0], b.v.preprocessing.Size[1]
	image := drawing{width, height, func(int, int, int) byte { return byte(random.Uint32()) }}.bitmap()
	h, err := ParseHeader(image)
	if err != nil {
		return item{}, err
	}
	return b.v.decode(ctx, image, h)
}

// noisyPicture returns noise in a format that the model accepts.
func (b *TestBatch) noisyPicture(random *rand.Rand) (item, error) {
	if len(b.v.samples) == 0 {
		return item{}, ErrMadeUp
	}
	d := drawing{sampleWidth, sampleHeight, func(int, int, int) byte { return byte(random.Uint32()) }}
	return item{encoded: d.encode(b.v.samples[0].format)}, nil
}

// noisyRow returns numbers from 0 to 1, and empty strings.
func (b *TestBatch) noisyRow(seed uint64) item {
	r, random := blankRow(b.v.sig.feeds, nil), rand.New(rand.NewPCG(seed, 0))
	for _, f := range rowFeeds(b.v.sig.feeds) {
		size := f.dtype.Size()
		for i := range f.count * size / max(size, 1) {
			number := strconv.AppendFloat(nil, random.Float64(), 'f', 6, 64)
			putElement(r.numbers[f.offset+i*size:][:size], f.dtype, number)
		}
	}
	return item{row: r}
}
