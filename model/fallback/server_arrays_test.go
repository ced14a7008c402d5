package fallback

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/graphdef"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// severalHeads is a model server with a model of several outputs of different types, each in the
// field for its type.
type severalHeads struct {
	*remotetest.Fake
	short bool // the embedding is of one record less
}

func (s severalHeads) GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
		MethodName: "tensorflow/serving/predict",
		Inputs:     map[string]*tfpb.TensorInfo{"images": modeltest.TensorInfo("a:0", tfpb.DataType_DT_STRING, -1)},
		Outputs: map[string]*tfpb.TensorInfo{
			"logit": modeltest.TensorInfo("b:0", tfpb.DataType_DT_DOUBLE, -1, 1, 1, 1), "embedding": modeltest.TensorInfo("c:0", tfpb.DataType_DT_BFLOAT16, -1, 2),
			"count": modeltest.TensorInfo("d:0", tfpb.DataType_DT_INT64, -1), "words": modeltest.TensorInfo("e:0", tfpb.DataType_DT_STRING, -1, 1, 1),
		},
	}}})
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: &tfpb.ModelSpec{Name: s.Model, VersionChoice: version1()}, Metadata: map[string]*anypb.Any{"signature_def": signatures},
	}, err
}

func (s severalHeads) Predict(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	n := len(r.GetInputs()["images"].GetStringVal())
	logit := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_DOUBLE, TensorShape: graphdef.ShapeProto(int64(n), 1, 1, 1)}
	embedding := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_BFLOAT16, TensorShape: graphdef.ShapeProto(int64(n), 2)}
	count := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT64, TensorShape: graphdef.ShapeProto(int64(n))}
	words := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(int64(n), 1, 1)}
	for i := range n {
		logit.TensorContent = binary.NativeEndian.AppendUint64(logit.TensorContent, math.Float64bits(math.Log(3))) // of 0.75
		embedding.HalfVal = append(embedding.HalfVal, 0x3f00, 0xc040)                                              // 0.5, -3
		count.Int64Val = append(count.Int64Val, math.MaxInt64)
		words.StringVal = append(words.StringVal, fmt.Appendf(nil, "record %d", i))
	}
	if s.short {
		embedding.TensorShape.Dim[0].Size--
		embedding.HalfVal = embedding.HalfVal[2:]
	}
	outputs := map[string]*tfpb.TensorProto{}
	for key, t := range map[string]*tfpb.TensorProto{"logit": logit, "embedding": embedding, "count": count, "words": words} {
		if slices.Contains(r.GetOutputFilter(), key) {
			outputs[key] = t
		}
	}
	return &tfpb.PredictResponse{ModelSpec: &tfpb.ModelSpec{Name: s.Model, VersionChoice: version1()}, Outputs: outputs}, nil
}

// The outputs of inceptor.yaml work with a model server too: their types, arrays with and without
// classes, one sigmoid for two labels.
func TestServerArrays(t *testing.T) {
	for _, test := range []struct {
		name    string
		yaml    string
		short   bool
		classes []infer.Class
		arrays  []string
		failure string
	}{
		{name: "arrays alone", yaml: "outputs: [words, embedding, count]\n",
			arrays: []string{`words [1, 1] "record 0"`, "embedding [2] 0.5 -3", "count 9223372036854775807"}},
		{name: "classes as well", yaml: "output: logit\nactivation: sigmoid\noutputs: [embedding]\nlabels: labels.txt\n",
			classes: []infer.Class{{Label: "label 1", Index: 1, Score: 0.75}, {Label: "label 0", Index: 0, Score: 0.25}}, arrays: []string{"embedding [2] 0.5 -3"}},
		{name: "the scores too", yaml: "output: logit\nactivation: sigmoid\noutputs: [logit]\n",
			classes: []infer.Class{{Label: "label 1", Index: 1, Score: 0.75}, {Label: "label 0", Index: 0, Score: 0.25}}, arrays: []string{"logit [1, 1, 1] 1.099"}},
		{name: "a logit", yaml: "output: logit\n", failure: `the score 1.0986123 in the output "logit" is not between 0 and 1, and with two labels it must be a probability: write "activation: sigmoid" into `},
		{name: "another output", yaml: "outputs: [boxes]\n", failure: `outputs: the signature has no output "boxes"`},
		{name: "a record less", yaml: "outputs: [count, embedding]\n", short: true, failure: `output "embedding" has the shape [0, 2], want [1, …]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := severalHeads{remotetest.NewFake("tiny"), test.short}
			c := localConfig(t.TempDir())
			c.Backend = model.OnlyRemote
			modeltest.Tiny{Class: 1}.Write(t, filepath.Join(c.Dir, "1"))
			modeltest.Write(t, filepath.Join(c.Dir, "1", infer.SpecFile), []byte("input: {key: images}\n"+test.yaml))
			r := remoteConfig(remotetest.Serve(t, fake))
			r.Breaker.Failures = 1000
			s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			p, err := s.Classify(t.Context(), nil, modeltest.PNG(t, 2, 2))
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %+v, %v, want %s", p, err, test.failure)
				}
				return
			}
			var arrays []string
			for _, a := range p.Outputs {
				arrays = append(arrays, a.String())
			}
			if err != nil || !slices.Equal(p.Classes, test.classes) || !slices.Equal(arrays, test.arrays) {
				t.Errorf("got %v, %q, %v, want %v, %q", p.Classes, arrays, err, test.classes, test.arrays)
			}
		})
	}
}
