package model

import (
	"context"
	"fmt"

	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// A runner runs batches with a signature of a model in this process.
type runner struct {
	run   func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) // of a savedmodel.Function
	feeds []feed                                                                     // of rows; nil: there is one input
}

// batch is a batchFunc.
func (r runner) batch(items []item) (scored, error) {
	rows, err := r.scores(items)
	return scored{rows: rows, version: remote.NoVersion}, err
}

// scores runs the batch; the result has a row of scores for each item.
func (r runner) scores(batch []item) ([][]float32, error) {
	inputs, err := r.join(batch)
	if err != nil {
		return nil, err
	}
	out, err := r.run(context.Background(), inputs...)
	if batch[0].pixels == nil || inputs[0] != batch[0].pixels {
		closeAll(inputs)
	}
	if err != nil {
		return nil, err
	}
	defer out[0].Close()
	shape := out[0].Shape()
	all, err := savedmodel.Data[float32](out[0])
	if err != nil {
		return nil, err
	}
	classes := 1 // of shape [N]
	if len(shape) == 2 {
		classes = int(shape[1])
	}
	if len(shape) < 1 || len(shape) > 2 || shape[0] != int64(len(batch)) || classes < 1 {
		return nil, fmt.Errorf("model gave scores of shape %v for a batch of %d", shape, len(batch))
	}
	rows := make([][]float32, len(batch))
	owned := append([]float32(nil), all...) // all dies with the tensor
	for i := range rows {
		rows[i] = owned[i*classes : (i+1)*classes]
	}
	return rows, nil
}

// join makes the tensors to feed of a batch.
func (r runner) join(batch []item) ([]*savedmodel.Tensor, error) {
	if r.feeds == nil {
		t, err := join(batch)
		return []*savedmodel.Tensor{t}, err
	}
	inputs := make([]*savedmodel.Tensor, 0, len(r.feeds))
	for _, f := range r.feeds {
		t, err := f.join(batch)
		if err != nil {
			closeAll(inputs)
			return nil, err
		}
		inputs = append(inputs, t)
	}
	return inputs, nil
}

func closeAll(tensors []*savedmodel.Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}

// join makes one tensor of what the rows of a batch feed.
func (f feed) join(batch []item) (*savedmodel.Tensor, error) {
	shape := append(savedmodel.Shape{int64(len(batch))}, f.shape...)
	if f.dtype == savedmodel.String {
		var all [][]byte
		for _, it := range batch {
			all = append(all, f.values(it.row)...)
		}
		return savedmodel.NewStringTensor(all, shape...)
	}
	t, err := savedmodel.NewTensor(f.dtype, shape...)
	if err != nil {
		return nil, err
	}
	to := t.Bytes()
	for _, it := range batch {
		to = to[copy(to, f.values(it.row)[0]):]
	}
	return t, nil
}

// join makes one tensor of a batch of images or strings. A single image's
// pixels are that already.
func join(batch []item) (*savedmodel.Tensor, error) {
	n := int64(len(batch))
	if batch[0].pixels == nil {
		images := make([][]byte, n)
		for i, it := range batch {
			images[i] = it.encoded
		}
		return savedmodel.NewStringTensor(images, n)
	}
	if n == 1 {
		return batch[0].pixels, nil
	}
	one := batch[0].pixels
	shape := append(savedmodel.Shape{n}, one.Shape()[1:]...)
	t, err := savedmodel.NewTensor(one.DType(), shape...)
	if err != nil {
		return nil, err
	}
	to := t.Bytes()
	for _, it := range batch {
		to = to[copy(to, it.pixels.Bytes()):]
	}
	return t, nil
}
