package infer

import (
	"context"
	"slices"

	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// batchFunc returns the function that sends batches to the server.
func (d *RemoteModel) batchFunc(sig signature, want int64, classes int, assumed bool) batchFunc {
	request := remote.Batch{
		Signature: sig.Signature, Output: sig.Output.Scores, ClassOutput: sig.Output.Classes, Arrays: sig.Outputs, AllOutputs: assumed,
		Returned: map[string]string{},
		Version:  want, Classes: classes,
	}
	if sig.Output.Classes != "" || sig.pair {
		request.Classes = 0 // labels are not looked up by the index of a score
	}
	for _, r := range sig.returned {
		request.Returned[r.output] = sig.feeds[r.feed].key
	}
	if sig.content.Image() {
		request.Blank = func() (map[string]*tfpb.TensorProto, error) {
			return message(sig.feeds, pad([]item{blankItem(sig)}, sig.batch, nil), false)
		}
	}
	return func(ctx context.Context, items []item) (batchResult, error) {
		batch := request
		batch.Records = len(items)
		full := pad(items, sig.batch, nil)
		var err error
		if batch.Inputs, err = message(sig.feeds, full, false); err != nil {
			return batchResult{}, err
		}
		if batch.Fixed, err = message(sig.feeds, full, true); err != nil {
			return batchResult{}, err
		}
		answer, err := d.client.Predict(ctx, batch)
		switch remote.KindOf(err) {
		case remote.KindInput:
			err = &InputError{ReasonModelRefused, err}
		case remote.KindTooLarge:
			err = &InputError{ReasonServerTooLarge, err}
		}
		got := batchResult{scores: answer.Scores, version: answer.Version, server: answer.Server}
		if err != nil {
			return got, err
		}
		words, err := classesOfWords(answer.Words)
		if err != nil {
			return got, err
		}
		if classes := slices.Concat(words, classesOfNumbers(answer.Numbers)); len(classes) > 0 {
			got.classes = split(classes, len(answer.Scores))
		}
		if err := sig.postprocess(&got, answer.Arrays); err != nil {
			return got, err
		}
		got = got.first(len(items))
		return got, sig.checkClasses(got)
	}
}

// blankItem returns an image that every model of images accepts.
func blankItem(sig signature) item {
	if sig.dtype == savedmodel.String {
		return item{encoded: usualSamples()[0].bytes}
	}
	return item{plain: make([]byte, sig.Input.Size[0]*sig.Input.Size[1]*sig.channels.Count()*sig.dtype.Size())}
}

// message returns the inputs of a batch as they are sent: either those with one value for the
// whole batch, or the others.
func message(feeds []feed, items []item, perBatch bool) (map[string]*tfpb.TensorProto, error) {
	inputs := map[string]*tfpb.TensorProto{}
	for _, f := range feeds {
		if f.perBatch != perBatch {
			continue
		}
		parts := f.parts(items)
		t := remote.Strings(f.shape, parts...)
		if f.dtype != savedmodel.String {
			var err error
			if t, err = remote.Numbers(f.dtype, f.shape, parts...); err != nil {
				return nil, err
			}
		}
		if perBatch { // its shape has no dimension for the records
			t.TensorShape.Dim = t.TensorShape.Dim[1:]
		}
		inputs[f.key] = t
	}
	return inputs, nil
}
