package model

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// warmUp runs the version's own warm-up requests and every batch size that is
// a power of two, and the largest: kernels are set up for each shape they see,
// and the first record should not pay for it. A model that cannot run, or
// gives scores that are no numbers, is found out. each is what an image takes
// in the largest batch, alone.
func (v *version) warmUp(ctx context.Context, dir string, sig signature) (each time.Duration, err error) {
	if err := v.warmUpRequests(ctx, dir, sig); err != nil {
		return 0, err
	}
	for _, n := range batchSizes(v.batcher.Max) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		items, err := warmUpItems(sig, n)
		start := time.Now()
		if err == nil {
			err = v.tryBatch(items)
		}
		if !sig.content.image() && errors.As(blame(err, ReasonModelRefused), new(*InputError)) {
			v.log.Info("warmed up by its own requests only: the model does not take a blank record", "version", v.info.Version, "err", err)
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("batch of %d: %w", n, err)
		}
		took := time.Since(start)
		each, v.longest = took/time.Duration(n), max(v.longest, took)
	}
	start := time.Now()
	err = v.fillLanes(sig)
	v.longest = max(v.longest, time.Since(start))
	return each, err
}

// fillLanes runs as many of the largest batches at once as will be run: that
// is what takes the most memory.
func (v *version) fillLanes(sig signature) error {
	var g errgroup.Group
	for range Lanes {
		g.Go(func() error {
			items, err := warmUpItems(sig, v.batcher.Max)
			if err != nil {
				return err
			}
			return v.tryBatch(items)
		})
	}
	return g.Wait()
}

// batchSizes are the powers of two up to most, and most.
func batchSizes(most int) (sizes []int) {
	for n := 1; n < most; n *= 2 {
		sizes = append(sizes, n)
	}
	return append(sizes, most)
}

// tryBatch runs a batch outside the queue, and closes its items.
func (v *version) tryBatch(items []item) error {
	var rows [][]float32
	err := caught(func() (err error) { // it may be on a goroutine of its own
		rows, err = v.run.scores(items)
		return err
	})
	for _, it := range items {
		it.close()
	}
	if err != nil {
		return err
	}
	for _, row := range rows {
		if at := notFinite(row); at >= 0 {
			return &InputError{ReasonNotFinite, fmt.Errorf("score of class %d is %v", at, row[at])}
		}
		if v.classes == 0 { // the signature did not say
			v.classes = len(row)
		}
		if len(row) != v.classes {
			return fmt.Errorf("%d scores for %d classes", len(row), v.classes)
		}
		if v.labels != nil && len(row) != len(v.labels) {
			return fmt.Errorf("%d labels for %d classes", len(v.labels), len(row))
		}
	}
	return nil
}

func warmUpItems(sig signature, n int) ([]item, error) {
	items := make([]item, n)
	for i := range items {
		switch {
		case sig.content == Rows:
			items[i].row = blankRow(sig.feeds, nil)
			continue
		case sig.content == Examples:
			items[i].encoded = []byte{}
			continue
		case sig.dtype == savedmodel.String:
			items[i].encoded = blackPixel
			continue
		}
		t, err := savedmodel.NewTensor(sig.dtype, 1, int64(sig.Input.Size[0]), int64(sig.Input.Size[1]), 3)
		if err != nil {
			for _, it := range items {
				it.close()
			}
			return nil, err
		}
		clear(t.Bytes())
		items[i].pixels = t
	}
	return items, nil
}

// blackPixel is a 1×1 image as small as they get, a 24-bit BMP.
var blackPixel = []byte("BM\x3a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00" +
	"\x28\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\x04\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00")

// warmUpRequests runs what assets.extra/tf_serving_warmup_requests holds for
// the signature, as TensorFlow Serving does: a TFRecord file of PredictionLogs.
func (v *version) warmUpRequests(ctx context.Context, dir string, sig signature) error {
	f, err := os.Open(filepath.Join(dir, savedmodel.WarmupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	records := savedmodel.NewTFRecordReader(bufio.NewReader(f), savedmodel.MaxWarmupRecord)
	for i := range savedmodel.MaxWarmupRecords {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := records.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = v.warmUpRequest(ctx, b, sig)
		}
		if err != nil {
			return fmt.Errorf("%s: record %d: %w", savedmodel.WarmupFile, i, err)
		}
	}
	return nil
}

func (v *version) warmUpRequest(ctx context.Context, record []byte, sig signature) error {
	var log tfpb.PredictionLog
	if err := proto.Unmarshal(record, &log); err != nil {
		return err
	}
	request := log.GetPredictLog().GetRequest()
	if request.GetModelSpec().GetSignatureName() != sig.Signature {
		return nil
	}
	var inputs []*savedmodel.Tensor
	defer func() { closeAll(inputs) }()
	for _, key := range sig.inputs() {
		value := request.GetInputs()[key]
		if value == nil {
			return nil // for another signature
		}
		t, err := savedmodel.TensorOf(value)
		if err != nil {
			return err
		}
		inputs = append(inputs, t)
	}
	start := time.Now()
	out, err := v.run.run(ctx, inputs...)
	v.longest = max(v.longest, time.Since(start))
	if err != nil {
		return err
	}
	defer out[0].Close()
	scores, err := savedmodel.Data[float32](out[0])
	if err != nil {
		return err
	}
	if at := notFinite(scores); at >= 0 {
		return fmt.Errorf("score %d is %v", at, scores[at])
	}
	return nil
}
