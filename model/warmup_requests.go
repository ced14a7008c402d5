package model

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// warmUpRequests runs what assets.extra/tf_serving_warmup_requests holds for
// the signature, as TensorFlow Serving does: a TFRecord file of PredictionLogs.
// It returns how many of them the model has answered.
func (v *version) warmUpRequests(ctx context.Context, dir string, sig signature) (answered int, err error) {
	f, err := os.Open(filepath.Join(dir, savedmodel.WarmupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	records := savedmodel.NewTFRecordReader(bufio.NewReader(f), savedmodel.MaxWarmupRecord)
	for i := range savedmodel.MaxWarmupRecords {
		if err := ctx.Err(); err != nil {
			return answered, err
		}
		b, err := records.Next()
		if errors.Is(err, io.EOF) {
			return answered, nil
		}
		var ran bool
		if err == nil {
			ran, err = v.warmUpRequest(ctx, b, sig)
		}
		if err != nil {
			return answered, fmt.Errorf("%s: record %d: %w", savedmodel.WarmupFile, i, err)
		}
		if ran {
			answered++
		}
	}
	return answered, nil
}

// warmUpRequest runs one request with all outputs of the signature, if it is for
// that: another one may have been logged as well.
func (v *version) warmUpRequest(ctx context.Context, record []byte, sig signature) (ran bool, err error) {
	var log tfpb.PredictionLog
	if err := proto.Unmarshal(record, &log); err != nil {
		return false, err
	}
	spec, inputs := v.requested(&log, sig)
	if cmp.Or(spec.GetSignatureName(), "serving_default") != sig.Signature || len(inputs) == 0 {
		return false, nil
	}
	keys := slices.Sorted(maps.Keys(inputs))
	outputs := slices.Sorted(maps.Keys(v.model.Signatures[sig.Signature].Outputs))
	run, err := v.model.SignatureFunction(sig.Signature, keys, outputs)
	if err != nil {
		return false, err
	}
	feeds := make([]*savedmodel.Tensor, 0, len(keys))
	defer func() { closeAll(feeds) }()
	for _, key := range keys {
		t, err := savedmodel.TensorOf(inputs[key])
		if err != nil {
			return false, fmt.Errorf("input %q: %w", key, err)
		}
		feeds = append(feeds, t)
	}
	start := time.Now()
	out, err := run.Run(ctx, feeds...)
	v.longest = max(v.longest, time.Since(start))
	if err != nil {
		return false, err
	}
	defer closeAll(out)
	got, err := sig.read(sig.fetch(outputs), out)
	if err == nil {
		err = v.checkScored(got)
	}
	return err == nil, err
}

// requested is what a logged request feeds, by the signature's keys. Requests to
// classify and to regress hold tf.Examples for a signature's only input.
func (v *version) requested(log *tfpb.PredictionLog, sig signature) (*tfpb.ModelSpec, map[string]*tfpb.TensorProto) {
	if request := log.GetPredictLog().GetRequest(); request != nil {
		return request.GetModelSpec(), request.GetInputs()
	}
	spec, input := log.GetClassifyLog().GetRequest().GetModelSpec(), log.GetClassifyLog().GetRequest().GetInput()
	if log.GetRegressLog() != nil {
		spec, input = log.GetRegressLog().GetRequest().GetModelSpec(), log.GetRegressLog().GetRequest().GetInput()
	}
	examples := examplesOf(input)
	inputs := v.model.Signatures[sig.Signature].Inputs
	if len(examples) == 0 || len(inputs) != 1 {
		return spec, nil
	}
	fed := map[string]*tfpb.TensorProto{}
	for key := range inputs {
		fed[key] = &tfpb.TensorProto{
			Dtype: tfpb.DataType_DT_STRING, TensorShape: shapeOf(int64(len(examples))), StringVal: examples,
		}
	}
	return spec, fed
}

// examplesOf is the serialized tf.Examples of an input. What they share stands in
// a context; two messages one after the other are one with the fields of both.
func examplesOf(input *tfpb.Input) [][]byte {
	if list := input.GetExampleList(); list != nil {
		return list.GetExamples()
	}
	shared := input.GetExampleListWithContext()
	var examples [][]byte
	for _, e := range shared.GetExamples() {
		examples = append(examples, slices.Concat(shared.GetContext(), e))
	}
	return examples
}
