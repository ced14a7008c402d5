package infer

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

	"inceptor/model/internal/graphdef"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// warmUpRequests runs the requests for the signature in assets.extra/tf_serving_warmup_requests,
// a TFRecord file of PredictionLogs, as TensorFlow Serving does. It returns how many of them
// the model has answered.
func (v *Version) warmUpRequests(ctx context.Context, dir string) (answered int, err error) {
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
			ran, err = v.warmUpRequest(ctx, b)
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

// warmUpRequest runs one request with all outputs of the signature. It skips a request for
// another signature.
func (v *Version) warmUpRequest(ctx context.Context, record []byte) (ran bool, err error) {
	keys, feeds, err := requestTensors(v, record)
	if err != nil || keys == nil {
		return false, err
	}
	defer closeTensors(feeds)
	sig := v.sig
	outputs := slices.Sorted(maps.Keys(v.model.Signatures[sig.Signature].Outputs))
	run, err := v.model.SignatureFunction(sig.Signature, keys, outputs)
	if err != nil {
		return false, err
	}
	start := time.Now()
	out, err := run.Run(ctx, feeds...)
	v.longest = max(v.longest, time.Since(start))
	if err != nil {
		return false, err
	}
	defer closeTensors(out)
	got, err := sig.read(sig.fetch(outputs), out)
	if err == nil {
		err = v.checkResult(got)
	}
	return err == nil, err
}

// requestTensors returns the inputs of a logged request, by their sorted keys. The caller closes
// the tensors. There are no keys if the request is for another signature than the version's.
func requestTensors(v *Version, record []byte) (keys []string, tensors []*savedmodel.Tensor, err error) {
	var log tfpb.PredictionLog
	if err := proto.Unmarshal(record, &log); err != nil {
		return nil, nil, err
	}
	spec, inputs := requestInputs(&log, v.model.Signatures[v.sig.Signature].Inputs)
	if cmp.Or(spec.GetSignatureName(), "serving_default") != v.sig.Signature || len(inputs) == 0 {
		return nil, nil, nil
	}
	keys = slices.Sorted(maps.Keys(inputs))
	for _, key := range keys {
		t, err := savedmodel.TensorOf(inputs[key])
		if err != nil {
			closeTensors(tensors)
			return nil, nil, fmt.Errorf("input %q: %w", key, err)
		}
		tensors = append(tensors, t)
	}
	return keys, tensors, nil
}

// requestInputs returns the values of a logged request for a signature with these inputs, by
// key. Requests to classify and to regress hold tf.Examples for a signature's only input.
func requestInputs(log *tfpb.PredictionLog, inputs map[string]savedmodel.TensorInfo) (*tfpb.ModelSpec, map[string]*tfpb.TensorProto) {
	if request := log.GetPredictLog().GetRequest(); request != nil {
		return request.GetModelSpec(), request.GetInputs()
	}
	spec, input := log.GetClassifyLog().GetRequest().GetModelSpec(), log.GetClassifyLog().GetRequest().GetInput()
	if log.GetRegressLog() != nil {
		spec, input = log.GetRegressLog().GetRequest().GetModelSpec(), log.GetRegressLog().GetRequest().GetInput()
	}
	examples := examplesOf(input)
	if len(examples) == 0 || len(inputs) != 1 {
		return spec, nil
	}
	values := map[string]*tfpb.TensorProto{}
	for key := range inputs {
		values[key] = &tfpb.TensorProto{
			Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(int64(len(examples))), StringVal: examples,
		}
	}
	return spec, values
}

// examplesOf returns the serialized tf.Examples of an input. The features that they share are
// in a context: two serialized messages in a row are one message with the fields of both.
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
