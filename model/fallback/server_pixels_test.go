package fallback

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// scoreOfRed is redOf, of a model server.
func scoreOfRed(t *testing.T, s *Server, image []byte) (float64, infer.Prediction) {
	t.Helper()
	p, err := s.Classify(t.Context(), nil, image)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Classes, func(c infer.Class) bool { return c.Index == 0 })
	return float64(p.Classes[i].Score), p
}

// A modelServer serves one model as version 1.
type modelServer struct {
	*remotetest.Fake
	model *savedmodel.Model
	graph *tfpb.SavedModel
}

func (s modelServer) Predict(ctx context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	return remotetest.Run(ctx, s.model, 1, r)
}

func (s modelServer) GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: s.graph.GetMetaGraphs()[0].GetSignatureDef()})
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: &tfpb.ModelSpec{Name: "tiny", VersionChoice: &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(1)}},
		Metadata:  map[string]*anypb.Any{"signature_def": signatures},
	}, err
}

// A model server's model is fed the same pixels as a local version, for the same reasons.
func TestServerPixels(t *testing.T) {
	for name, test := range map[string]struct {
		model        modeltest.Means
		here         bool // the version is in the model's directory
		yaml         string
		golden       bool
		black, white float64 // their scores
		from         infer.Origin
		version      string // of the local one, if not 1
	}{
		"not here":           {modeltest.Means{}, false, "", false, -1, 1, infer.OriginAssumed, ""},
		"here, not said":     {modeltest.Means{}, true, "top_k: 3", false, -1, 1, infer.OriginAssumed, ""},
		"here, written":      {modeltest.Means{}, true, "input: {scale: 1}", false, 0, 255, infer.OriginFile, ""},
		"the graph here":     {modeltest.Means{Scale: 2, Offset: -1}, true, "", false, -1, 1, infer.OriginGraph, ""},
		"another graph here": {modeltest.Means{Scale: 2, Offset: -1}, true, "", false, -1, 1, infer.OriginAssumed, "2"},
		"graph not at hand":  {modeltest.Means{Scale: 2, Offset: -1}, false, "", false, -3, 1, infer.OriginAssumed, ""},
		"measured":           {modeltest.Means{}, true, "labels: labels.txt", true, 0, 255, infer.OriginMeasured, ""},
		"uint8, not here":    {modeltest.Means{Dtype: tfpb.DataType_DT_UINT8}, false, "", false, 0, 255, infer.OriginGraph, ""},
	} {
		t.Run(name, func(t *testing.T) {
			modeltest.OpenLibrary(t)
			dir := filepath.Join(t.TempDir(), cmp.Or(test.version, "1"))
			test.model.Write(t, dir, test.yaml)
			if test.golden {
				modeltest.Write(t, filepath.Join(dir, infer.GoldenFile), []byte("- {image: white.bmp, label: red, floor: 200}\n"))
				modeltest.Write(t, filepath.Join(dir, filepath.Dir(infer.GoldenFile), "white.bmp"), modeltest.WhiteImage)
			}
			served := modelServer{Fake: remotetest.NewFake("tiny"), graph: new(tfpb.SavedModel)}
			err := proto.Unmarshal(test.model.Bytes(t), served.graph)
			if err == nil {
				served.model, err = savedmodel.Load(t.Context(), dir, savedmodel.Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
			server := remotetest.Serve(t, served)
			c := localConfig("")
			if test.here {
				c.Dir = filepath.Dir(dir)
			}
			c.Backend = model.OnlyRemote
			r := remoteConfig(server)
			s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
			if err != nil {
				t.Fatal(err)
			}
			runBackend(t, s)
			if err := s.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			black, p := scoreOfRed(t, s, modeltest.BlackImage)
			white, _ := scoreOfRed(t, s, modeltest.WhiteImage)
			if math.Abs(black-test.black) > 1e-4 || math.Abs(white-test.white) > 1e-4 {
				t.Errorf("black is %v and white is %v, want %v and %v", black, white, test.black, test.white)
			}
			if told := strings.Contains(p.Assumed, "pixels "); told != (test.from == infer.OriginAssumed) || s.Assumed() != p.Assumed {
				t.Errorf("assumed: the prediction tells %q, the server %q", p.Assumed, s.Assumed())
			}
			server.Kill()
			if err := served.model.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
