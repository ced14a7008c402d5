package fallback

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/graphdef"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// An autoML is a model server with a model as AutoML exports it, and one more input. It answers
// with the two best classes as words.
type autoML struct {
	*remotetest.Fake
	mixed bool // it turns the batch round
	words [][]byte

	mu   sync.Mutex
	last *tfpb.PredictRequest
}

func (a *autoML) GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	const float, str = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_STRING
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
		MethodName: "tensorflow/serving/predict",
		Inputs: map[string]*tfpb.TensorInfo{
			"image_bytes": modeltest.TensorInfo("a:0", str, -1), "key": modeltest.TensorInfo("b:0", str, -1), "temperature": modeltest.TensorInfo("c:0", float),
		},
		Outputs: map[string]*tfpb.TensorInfo{"labels": modeltest.TensorInfo("d:0", str, -1, 2), "scores": modeltest.TensorInfo("e:0", float, -1, 2), "key": modeltest.TensorInfo("f:0", str, -1)},
	}}})
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: &tfpb.ModelSpec{Name: a.Model, VersionChoice: version1()}, Metadata: map[string]*anypb.Any{"signature_def": signatures},
	}, err
}

func version1() *tfpb.ModelSpec_Version {
	return &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(1)}
}

func (a *autoML) Predict(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	a.mu.Lock()
	a.last = r
	a.mu.Unlock()
	keys := slices.Clone(r.GetInputs()["key"].GetStringVal())
	if a.mixed {
		keys = [][]byte{[]byte("another")}
	}
	n := len(keys)
	words := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(int64(n), 2)}
	var scores []float32
	for range n {
		words.StringVal = append(words.StringVal, a.words...)
		scores = append(scores, 0.25, 0.75)
	}
	return &tfpb.PredictResponse{
		ModelSpec: &tfpb.ModelSpec{Name: a.Model, VersionChoice: version1()},
		Outputs: map[string]*tfpb.TensorProto{
			"scores": remotetest.Scores(n, 2, scores...), "labels": words,
			"key": {Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(int64(n)), StringVal: keys},
		},
	}, nil
}

// A model server's answers have the model's words. Its inputs are fed as those of a local
// version, and a key that it does not return is an error.
func TestServerOwnWords(t *testing.T) {
	for _, test := range []struct {
		name    string
		mixed   bool
		words   []string
		failure string
	}{
		{name: "words", words: []string{"rose", "tulip"}},
		{name: "words missing", words: []string{"rose"}, failure: `output "labels" has 1 values, want 2`},
		{name: "another key", mixed: true, words: []string{"rose", "tulip"}, failure: `output "key" is not the input "key"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := &autoML{Fake: remotetest.NewFake("tiny"), mixed: test.mixed}
			for _, w := range test.words {
				fake.words = append(fake.words, []byte(w))
			}
			c := localConfig(t.TempDir())
			c.Backend = model.OnlyRemote
			modeltest.Tiny{Class: 1}.Write(t, filepath.Join(c.Dir, "1"))
			modeltest.Write(t, filepath.Join(c.Dir, "1", infer.SpecFile), []byte("inputs: {temperature: 1.5}\nlabels: labels.txt\n"))
			r := remoteConfig(remotetest.Serve(t, fake))
			r.Breaker.Failures = 1000
			s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			image := modeltest.PNG(t, 2, 2)
			p, err := s.Classify(t.Context(), nil, image)
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %+v, %v, want %s", p, err, test.failure)
				}
				return
			}
			if want := []infer.Class{{Label: "tulip", Index: infer.NoIndex, Score: 0.75}, {Label: "rose", Index: infer.NoIndex, Score: 0.25}}; err != nil || !slices.Equal(p.Classes, want) {
				t.Fatalf("got %+v, %v, want %v", p.Classes, err, want)
			}
			fake.mu.Lock()
			defer fake.mu.Unlock()
			in := fake.last.GetInputs()
			temperature := in["temperature"]
			if got := fmt.Sprintf("%q", in["key"].GetStringVal()); got != `["0"]` || string(in["image_bytes"].GetStringVal()[0]) != string(image) ||
				len(temperature.GetTensorShape().GetDim()) != 0 || string(temperature.GetTensorContent()) != "\x00\x00\xc0\x3f" {
				t.Errorf("sent the key %s and the temperature %v", got, temperature)
			}
			if got := fake.last.GetOutputFilter(); !slices.Equal(got, []string{"scores", "labels", "key"}) {
				t.Errorf("asked for %q", got)
			}
		})
	}
}
