package model

import (
	"context"
	"fmt"

	"inceptor/savedmodel"
)

// A runFunc is savedmodel.Function.Run.
type runFunc func(context.Context, ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error)

// inProcess runs batches with a model in this process.
func inProcess(run runFunc) batchFunc {
	return func(batch []item) (scored, error) {
		rows, err := run.scores(batch)
		return scored{rows: rows}, err
	}
}

// scores runs the batch; the result has a row of scores for each item.
func (run runFunc) scores(batch []item) ([][]float32, error) {
	input, err := join(batch)
	if err != nil {
		return nil, err
	}
	if input != batch[0].pixels {
		defer input.Close()
	}
	out, err := run(context.Background(), input)
	if err != nil {
		return nil, err
	}
	defer out[0].Close()
	shape := out[0].Shape()
	all, err := savedmodel.Data[float32](out[0])
	if err != nil {
		return nil, err
	}
	if len(shape) != 2 || shape[0] != int64(len(batch)) || shape[1] < 1 {
		return nil, fmt.Errorf("model gave scores of shape %v for a batch of %d", shape, len(batch))
	}
	classes := int(shape[1])
	rows := make([][]float32, len(batch))
	owned := append([]float32(nil), all...) // all dies with the tensor
	for i := range rows {
		rows[i] = owned[i*classes : (i+1)*classes]
	}
	return rows, nil
}

// join makes one tensor of a batch. A single image's pixels are that already.
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
