package model

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// A means is a SavedModel whose scores are the means of red, green and blue, after
// x*scale + offset: they tell which pixels it was given.
type means struct {
	dtype         tfpb.DataType
	scale, offset float32 // 0, 0: it takes pixels as they come
	divides       bool    // by the deviation: an image of one colour gives NaN
	decoder       string  // operation that decodes encoded images, of which it takes one a run
	crop          []int32 // of DecodeAndCropJpeg
}

func (m means) write(t testing.TB, dir, yaml string) {
	t.Helper()
	write(t, filepath.Join(dir, "saved_model.pb"), m.bytes(t))
	write(t, filepath.Join(dir, "assets/labels.txt"), []byte("red\ngreen\nblue\n"))
	if yaml != "" {
		write(t, filepath.Join(dir, specFile), []byte(yaml))
	}
}

func (m means) bytes(t testing.TB) []byte {
	t.Helper()
	const float = tfpb.DataType_DT_FLOAT
	if m.dtype == 0 {
		m.dtype = float
	}
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	same := attrs{"T": typeAttr(float)}
	reduce := attrs{"T": typeAttr(float), "Tidx": typeAttr(tfpb.DataType_DT_INT32), "keep_dims": boolAttr(false)}
	input := info("images:0", m.dtype, -1, 2, 2, 3)
	last := "images"
	if m.decoder == "" {
		g.add("images", "Placeholder", nil, attrs{"dtype": typeAttr(m.dtype), "shape": shapeAttr(-1, 2, 2, 3)})
	} else {
		m.dtype, input = tfpb.DataType_DT_UINT8, info("images:0", tfpb.DataType_DT_STRING, 1)
		g.add("images", "Placeholder", nil, attrs{"dtype": typeAttr(tfpb.DataType_DT_STRING), "shape": shapeAttr(1)})
		g.add("scalar", "Const", nil, int32Const([]int64{0}))
		g.add("image", "Reshape", []string{"images", "scalar"}, attrs{"T": typeAttr(tfpb.DataType_DT_STRING), "Tshape": typeAttr(tfpb.DataType_DT_INT32)})
		from, how := []string{"image"}, attrs{"channels": intAttr(3)}
		switch m.decoder {
		case "DecodeAndCropJpeg":
			g.add("crop", "Const", nil, int32Const([]int64{4}, m.crop...))
			from = append(from, "crop")
		case "DecodePng":
			how["dtype"] = typeAttr(tfpb.DataType_DT_UINT8)
		case "DecodeImage":
			how["dtype"], how["expand_animations"] = typeAttr(tfpb.DataType_DT_UINT8), boolAttr(false)
		}
		g.add("decoded", m.decoder, from, how)
		g.add("first", "Const", nil, int32Const(nil, 0))
		g.add("batch", "ExpandDims", []string{"decoded", "first"}, attrs{"T": typeAttr(tfpb.DataType_DT_UINT8), "Tdim": typeAttr(tfpb.DataType_DT_INT32)})
		last = "batch"
	}
	if m.dtype != float {
		g.add("float", "Cast", []string{last}, attrs{"SrcT": typeAttr(m.dtype), "DstT": typeAttr(float), "Truncate": boolAttr(false)})
		last = "float"
	}
	if m.scale != 0 {
		g.add("scale", "Const", nil, floatConst(m.scale))
		g.add("scaled", "Mul", []string{last, "scale"}, same)
		g.add("offset", "Const", nil, floatConst(m.offset))
		g.add("shifted", "AddV2", []string{"scaled", "offset"}, same)
		last = "shifted"
	}
	g.add("axes", "Const", nil, int32Const([]int64{2}, 1, 2))
	if m.divides {
		g.add("all", "Const", nil, int32Const([]int64{3}, 1, 2, 3))
		keep := attrs{"T": typeAttr(float), "Tidx": typeAttr(tfpb.DataType_DT_INT32), "keep_dims": boolAttr(true)}
		g.add("middle", "Mean", []string{last, "all"}, keep)
		g.add("distance", "Sub", []string{last, "middle"}, same)
		g.add("square", "Square", []string{"distance"}, same)
		g.add("variance", "Mean", []string{"square", "all"}, keep)
		g.add("deviation", "Sqrt", []string{"variance"}, same)
		g.add("standard", "RealDiv", []string{"distance", "deviation"}, same)
		last = "standard"
	}
	g.add("scores", "Mean", []string{last, "axes"}, reduce)
	graph := &tfpb.MetaGraphDef{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}, TensorflowVersion: "2.21.0"},
		GraphDef:    g.def,
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			MethodName: "tensorflow/serving/predict",
			Inputs:     map[string]*tfpb.TensorInfo{"images": input},
			Outputs:    map[string]*tfpb.TensorInfo{"scores": info("scores:0", float, -1, 3)},
		}},
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{graph}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// loadMeans loads the one version in base, and returns what the log says.
func loadMeans(t *testing.T, base string) (*Manager, *logged, error) {
	t.Helper()
	openLibrary(t)
	log := &logged{}
	m := newManager(t, tinyConfig(base), log)
	return m, log, m.Load(t.Context())
}

func newManager(t *testing.T, c Config, log *logged) *Manager {
	t.Helper()
	m, err := New(c, slog.New(slog.NewTextHandler(log, nil)), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// redOf is the score of red for a picture.
func redOf(t *testing.T, m interface {
	Classify(context.Context, []byte, []byte) (Prediction, error)
}, image []byte) (float64, Prediction) {
	t.Helper()
	p, err := m.Classify(t.Context(), nil, image)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Classes {
		if c.Index == 0 {
			return float64(c.Score), p
		}
	}
	t.Fatalf("got %+v", p)
	return 0, p
}

// What a black and a white image become, and whether that is told as assumed.
func TestPixelsOfModels(t *testing.T) {
	for name, test := range map[string]struct {
		model        means
		yaml         string
		black, white float64 // what the model is given
		from         Origin
	}{
		"nothing said":                  {means{}, "", -1, 1, OriginAssumed},
		"a file that says other things": {means{}, "top_k: 10", -1, 1, OriginAssumed},
		"scale written":                 {means{}, "input: {scale: 1}", 0, 255, OriginFile},
		"offset written":                {means{}, "input: {offset: -117}", -117, 138, OriginFile},
		"uint8":                         {means{dtype: tfpb.DataType_DT_UINT8}, "", 0, 255, OriginGraph},
		"uint8, a file":                 {means{dtype: tfpb.DataType_DT_UINT8}, "top_k: 2", 0, 255, OriginGraph},
		"the graph makes −1…1":          {means{scale: 1 / 127.5, offset: -1}, "", -1, 1, OriginGraph},
		"the graph takes 0…1":           {means{scale: 2, offset: -1}, "", -1, 1, OriginGraph},
		"against the graph":             {means{scale: 2, offset: -1}, "input: {scale: 1}", -1, 509, OriginFile},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			test.model.write(t, dir, test.yaml)
			m, log, err := loadMeans(t, base)
			if err != nil {
				t.Fatal(err)
			}
			black, p := redOf(t, m, blackPixel)
			white, _ := redOf(t, m, whitePixel)
			if math.Abs(black-test.black) > 1e-4 || math.Abs(white-test.white) > 1e-4 {
				t.Errorf("black is %v and white is %v, want %v and %v", black, white, test.black, test.white)
			}
			status := m.Versions()[0]
			if status.Preprocessing == nil || status.Preprocessing.ScaleFrom != test.from || status.Assumed != p.Assumed {
				t.Errorf("status: %+v, %q; a prediction tells %q", status.Preprocessing, status.Assumed, p.Assumed)
			}
			for where, text := range map[string]string{"status": status.Assumed, "log": strings.Join(log.lines("level=WARN"), "")} {
				if told := strings.Contains(text, "pixels −1…1"); told != (test.from == OriginAssumed) {
					t.Errorf("the %s says %q", where, text)
				}
				if !strings.Contains(text, "no half-pixel centers are assumed, not stated by the model") || !strings.Contains(text, filepath.Join(dir, specFile)) {
					t.Errorf("the %s does not tell what of the resize is assumed, and where to state it: %q", where, text)
				}
			}
			if contradicts := len(log.lines("contradicts the model")) > 0; contradicts != (name == "against the graph") {
				t.Errorf("told as a contradiction: %v", contradicts)
			}
		})
	}
}

// A version that states all of its preprocessing is not warned of.
func TestNothingAssumed(t *testing.T) {
	base := t.TempDir()
	means{}.write(t, filepath.Join(base, "1"), "input: {scale: 1, half_pixel_centers: false}")
	m, log, err := loadMeans(t, base)
	if err != nil {
		t.Fatal(err)
	}
	_, p := redOf(t, m, blackPixel)
	if status := m.Versions()[0]; status.Assumed != "" || p.Assumed != "" || len(log.lines("level=WARN")) > 0 {
		t.Errorf("status %q, prediction %q, log %q", status.Assumed, p.Assumed, log.lines("level=WARN"))
	}
}

// Golden images measure which pixels a model takes, if nothing says it; where they
// pass with none, the version is refused, and told is what each gave.
func TestGoldenMeasures(t *testing.T) {
	for name, test := range map[string]struct {
		yaml    string
		floor   float64 // of red in a white image
		want    float64 // its score
		from    Origin
		refused []string
	}{
		"one passes":     {"", 200, 255, OriginMeasured, nil},
		"several pass":   {"", 0.5, 1, OriginAssumed, nil},
		"none passes":    {"", 300, 0, "", []string{"pixels −1…1: white.bmp is \"red\" with 1, want", "pixels 0…255: white.bmp is \"red\" with 255", `write "input: {scale: …, mean: …, std: …}"`}},
		"scale is known": {"labels: labels.txt\ninput: {scale: 0.00392156862745098}", 200, 0, "", []string{`white.bmp is "red" with 1, want "red" with at least 200`}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			means{}.write(t, dir, test.yaml)
			write(t, filepath.Join(dir, goldenFile), fmt.Appendf(nil, "- {image: white.bmp, label: red, floor: %v}\n", test.floor))
			write(t, filepath.Join(dir, filepath.Dir(goldenFile), "white.bmp"), whitePixel)
			m, _, err := loadMeans(t, base)
			for _, part := range test.refused {
				if err == nil || !strings.Contains(err.Error(), "golden: ") || !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want %q", err, part)
				}
			}
			if test.refused != nil {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, p := redOf(t, m, whitePixel)
			if status := m.Versions()[0]; math.Abs(got-test.want) > 1e-4 || status.Preprocessing.ScaleFrom != test.from || strings.Contains(p.Assumed, "pixels −1…1") != (test.from == OriginAssumed) {
				t.Errorf("white is %v, want %v; %v, %q", got, test.want, status.Preprocessing, p.Assumed)
			}
		})
	}
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

// A model server's model is given the same pixels as the version here, for the
// same reasons.
func TestServerPixels(t *testing.T) {
	for name, test := range map[string]struct {
		model        means
		here         bool // the version is in the model's directory
		yaml         string
		golden       bool
		black, white float64 // their scores
		from         Origin
		version      string // of the one here, if not 1
	}{
		"not here":           {means{}, false, "", false, -1, 1, OriginAssumed, ""},
		"here, not said":     {means{}, true, "top_k: 3", false, -1, 1, OriginAssumed, ""},
		"here, written":      {means{}, true, "input: {scale: 1}", false, 0, 255, OriginFile, ""},
		"the graph here":     {means{scale: 2, offset: -1}, true, "", false, -1, 1, OriginGraph, ""},
		"another graph here": {means{scale: 2, offset: -1}, true, "", false, -1, 1, OriginAssumed, "2"},
		"graph not at hand":  {means{scale: 2, offset: -1}, false, "", false, -3, 1, OriginAssumed, ""},
		"measured":           {means{}, true, "labels: labels.txt", true, 0, 255, OriginMeasured, ""},
		"uint8, not here":    {means{dtype: tfpb.DataType_DT_UINT8}, false, "", false, 0, 255, OriginGraph, ""},
	} {
		t.Run(name, func(t *testing.T) {
			openLibrary(t)
			dir := filepath.Join(t.TempDir(), cmp.Or(test.version, "1"))
			test.model.write(t, dir, test.yaml)
			if test.golden {
				write(t, filepath.Join(dir, goldenFile), []byte("- {image: white.bmp, label: red, floor: 200}\n"))
				write(t, filepath.Join(dir, filepath.Dir(goldenFile), "white.bmp"), whitePixel)
			}
			served := modelServer{Fake: remotetest.NewFake("tiny"), graph: new(tfpb.SavedModel)}
			err := proto.Unmarshal(test.model.bytes(t), served.graph)
			if err == nil {
				served.model, err = savedmodel.Load(t.Context(), dir, savedmodel.Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
			server := remotetest.Serve(t, served)
			c := tinyConfig("")
			if test.here {
				c.Dir = filepath.Dir(dir)
			}
			c.Backend = OnlyRemote
			r := remoteConfig(server)
			r.Timeout, r.Budget = 10*time.Second, 20*time.Second
			s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
			if err != nil {
				t.Fatal(err)
			}
			runBackend(t, s)
			if err := s.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			black, p := redOf(t, s, blackPixel)
			white, _ := redOf(t, s, whitePixel)
			if math.Abs(black-test.black) > 1e-4 || math.Abs(white-test.white) > 1e-4 {
				t.Errorf("black is %v and white is %v, want %v and %v", black, white, test.black, test.white)
			}
			if told := strings.Contains(p.Assumed, "pixels "); told != (test.from == OriginAssumed) || s.Assumed() != p.Assumed {
				t.Errorf("assumed: the prediction tells %q, the server %q", p.Assumed, s.Assumed())
			}
			server.Kill()
			if err := served.model.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
