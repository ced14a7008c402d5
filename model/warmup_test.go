package model

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/model/infer"
	"inceptor/model/internal/graphdef"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// Made-up pixels are not of one colour, for which a model that divides by the deviation gives
// NaN.
func TestWarmUpStandardised(t *testing.T) {
	for _, dtype := range []tfpb.DataType{tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_UINT8} {
		base := t.TempDir()
		modeltest.Means{Dtype: dtype, Divides: true}.Write(t, filepath.Join(base, "1"), "")
		if _, _, err := loadMeans(t, base); err != nil {
			t.Errorf("%v: %v", dtype, err)
		}
	}
}

// A model that refuses every sample is refused with its reasons, unless its own requests pass.
func TestWarmUpRefused(t *testing.T) {
	model := modeltest.Means{Decoder: "DecodeAndCropJpeg", Crop: []int32{0, 0, 500, 700}} // more than a sample has
	request := func(image []byte) *tfpb.PredictionLog {
		return predictLog("", map[string]*tfpb.TensorProto{"images": {
			Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(1), StringVal: [][]byte{image},
		}})
	}
	for name, test := range map[string]struct {
		requests []*tfpb.PredictionLog
		want     []string // of the refusal; nil: it serves, with a warning
	}{
		"no requests":             {nil, []string{"warm-up: the model refuses every made-up picture (jpeg of 640×480: ", "; png of 640×480: ", "put a request that it takes into assets.extra/tf_serving_warmup_requests"}},
		"its own requests pass":   {[]*tfpb.PredictionLog{request(modeltest.JPEG(t, 800, 600))}, nil},
		"its own request fails":   {[]*tfpb.PredictionLog{request(modeltest.JPEG(t, 800, 600)), request(modeltest.JPEG(t, 80, 60))}, []string{"warm-up: assets.extra/tf_serving_warmup_requests: record 1: "}},
		"requests of another one": {[]*tfpb.PredictionLog{predictLog("other", nil)}, []string{"the model refuses every made-up picture"}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			model.Write(t, filepath.Join(base, "1"), "labels: labels.txt")
			if test.requests != nil {
				modeltest.Write(t, filepath.Join(base, "1", savedmodel.WarmupFile), tfRecords(t, test.requests...))
			}
			_, log, err := loadMeans(t, base)
			for _, part := range test.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want %q", err, part)
				}
			}
			if err != nil && strings.Count(err.Error(), "\n") != 1 { // a line for each version
				t.Errorf("several lines: %q", err)
			}
			warned := log.Lines("warmed up with its own requests only")
			if test.want == nil && (err != nil || len(warned) != 1 || !strings.Contains(warned[0], "requests=1")) {
				t.Errorf("got %v, the log says %q", err, warned)
			}
		})
	}
}

// Requests to classify and to regress run as in TensorFlow Serving: the signature's only input
// takes their tf.Examples, with the features that these share.
func TestWarmUpExamples(t *testing.T) {
	feature := func(name string, value byte) []byte { // of a tf.Example, float_list: {value: [2^(2*value)]}
		list := []byte{0x12, 6, 0x0a, 4, 0, 0, 0x80, 0x3f + value}
		entry := append([]byte{0x0a, byte(len(name))}, name...)
		entry = append(entry, 0x12, byte(len(list)))
		entry = append(entry, list...)
		features := append([]byte{0x0a, byte(len(entry))}, entry...)
		return append([]byte{0x0a, byte(len(features))}, features...)
	}
	a, b := feature("a", 0), feature("b", 0)
	whole := append(bytes.Clone(a), b...)
	list := func(examples ...[]byte) *tfpb.Input {
		return &tfpb.Input{Kind: &tfpb.Input_ExampleList{ExampleList: &tfpb.ExampleList{Examples: examples}}}
	}
	shared := func(context []byte, examples ...[]byte) *tfpb.Input {
		return &tfpb.Input{Kind: &tfpb.Input_ExampleListWithContext{ExampleListWithContext: &tfpb.ExampleListWithContext{Context: context, Examples: examples}}}
	}
	for name, test := range map[string]struct {
		input *tfpb.Input
		ok    bool
	}{
		"whole":                   {list(whole, whole), true},
		"a feature is missing":    {list(whole, a), false},
		"with a context":          {shared(a, b, b), true},
		"missing in both of them": {shared(a, a), false},
	} {
		classify := &tfpb.PredictionLog{LogType: &tfpb.PredictionLog_ClassifyLog{ClassifyLog: &tfpb.ClassifyLog{
			Request: &tfpb.ClassificationRequest{ModelSpec: &tfpb.ModelSpec{Name: "m"}, Input: test.input},
		}}}
		regress := &tfpb.PredictionLog{LogType: &tfpb.PredictionLog_RegressLog{RegressLog: &tfpb.RegressLog{
			Request: &tfpb.RegressionRequest{ModelSpec: &tfpb.ModelSpec{Name: "m", SignatureName: "serving_default"}, Input: test.input},
		}}}
		for method, request := range map[string]*tfpb.PredictionLog{"classify": classify, "regress": regress} {
			t.Run(name+", "+method, func(t *testing.T) {
				base := t.TempDir()
				modeltest.Write(t, filepath.Join(base, "1", "saved_model.pb"), examplesModel(t))
				modeltest.Write(t, filepath.Join(base, "1", savedmodel.WarmupFile), tfRecords(t, request))
				modeltest.OpenLibrary(t)
				c := tinyConfig(base)
				c.Content = infer.Examples
				log := &modeltest.Log{}
				m := newManager(t, c, log)
				err := m.Load(t.Context())
				if !test.ok && (err == nil || !strings.Contains(err.Error(), "warm-up: assets.extra/tf_serving_warmup_requests: record 0: ")) {
					t.Errorf("got %v, want a refusal", err)
				}
				warned := log.Lines("warmed up with its own requests only")
				if test.ok && (err != nil || len(warned) != 1 || !strings.Contains(warned[0], "requests=1")) {
					t.Errorf("got %v, the log says %q", err, warned)
				}
			})
		}
	}
}

// examplesModel returns a SavedModel that adds the features a and b of tf.Examples, floats of
// shape [1], both required.
func examplesModel(t *testing.T) []byte {
	t.Helper()
	const float = tfpb.DataType_DT_FLOAT
	g := graphdef.New()
	strings := func(shape []int64, values ...string) graphdef.Attrs {
		p := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(shape...)}
		for _, v := range values {
			p.StringVal = append(p.StringVal, []byte(v))
		}
		return graphdef.Constant(p)
	}
	g.Add("inputs", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(tfpb.DataType_DT_STRING), "shape": graphdef.Shape(-1)})
	g.Add("names", "Const", nil, strings([]int64{0}))
	g.Add("a", "Const", nil, strings(nil, "a"))
	g.Add("b", "Const", nil, strings(nil, "b"))
	none := graphdef.Constant(&tfpb.TensorProto{Dtype: float, TensorShape: graphdef.ShapeProto(0)})
	g.Add("none_a", "Const", nil, none)
	g.Add("none_b", "Const", nil, none)
	g.Add("parsed", "ParseExample", []string{"inputs", "names", "a", "b", "none_a", "none_b"}, graphdef.Attrs{
		"Nsparse": graphdef.Int(0), "Ndense": graphdef.Int(2),
		"sparse_types": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{}}},
		"Tdense":       {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{Type: []tfpb.DataType{float, float}}}},
		"dense_shapes": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{Shape: []*tfpb.TensorShapeProto{graphdef.ShapeProto(1), graphdef.ShapeProto(1)}}}},
	})
	g.Add("scores", "AddV2", []string{"parsed:0", "parsed:1"}, graphdef.Attrs{"T": graphdef.Type(float)})
	b, err := proto.Marshal(&tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}, TensorflowVersion: "2.21.0"},
		GraphDef:    g.Def,
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			MethodName: "tensorflow/serving/regress",
			Inputs:     map[string]*tfpb.TensorInfo{"inputs": modeltest.TensorInfo("inputs:0", tfpb.DataType_DT_STRING, -1)},
			Outputs:    map[string]*tfpb.TensorInfo{"outputs": modeltest.TensorInfo("scores:0", float, -1, 1)},
		}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func predictLog(signature string, inputs map[string]*tfpb.TensorProto) *tfpb.PredictionLog {
	return &tfpb.PredictionLog{LogType: &tfpb.PredictionLog_PredictLog{PredictLog: &tfpb.PredictLog{
		Request: &tfpb.PredictRequest{ModelSpec: &tfpb.ModelSpec{SignatureName: signature}, Inputs: inputs},
	}}}
}

// tfRecords returns a TFRecord file.
func tfRecords(t *testing.T, messages ...*tfpb.PredictionLog) []byte {
	t.Helper()
	sum := func(b []byte) uint32 { // TFRecord's: masked CRC-32C
		c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return (c>>15 | c<<17) + 0xa282ead8
	}
	var file []byte
	for _, m := range messages {
		record, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		head := binary.LittleEndian.AppendUint64(nil, uint64(len(record)))
		file = append(file, binary.LittleEndian.AppendUint32(head, sum(head))...)
		file = append(file, binary.LittleEndian.AppendUint32(record, sum(record))...)
	}
	return file
}
