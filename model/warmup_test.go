package model

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// What models decode encoded images with, crop them to, and divide by, warms up
// with samples that it takes.
func TestWarmUpEncoded(t *testing.T) {
	for name, test := range map[string]struct {
		model   means
		formats string // of the samples that it takes
	}{
		"DecodeJpeg":        {means{decoder: "DecodeJpeg"}, "jpeg png"},
		"DecodePng":         {means{decoder: "DecodePng"}, "jpeg png"},
		"DecodeImage":       {means{decoder: "DecodeImage"}, "jpeg png"},
		"DecodeAndCropJpeg": {means{decoder: "DecodeAndCropJpeg", crop: []int32{100, 100, 300, 500}}, "jpeg"},
		"DecodeBmp":         {means{decoder: "DecodeBmp"}, "bmp"},
		"standardised":      {means{decoder: "DecodeJpeg", divides: true}, "jpeg png"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			test.model.write(t, filepath.Join(base, "1"), "labels: labels.txt")
			m, _, err := loadMeans(t, base)
			if err != nil {
				t.Fatal(err)
			}
			var formats []string
			for _, s := range m.routes.Load().stable.samples {
				formats = append(formats, s.format)
			}
			if got := strings.Join(formats, " "); got != test.formats {
				t.Errorf("it takes %q, want %q", got, test.formats)
			}
			if status := m.Versions()[0]; status.Preprocessing != nil || status.Assumed != "" {
				t.Errorf("pixels are assumed for encoded images: %+v", status)
			}
		})
	}
}

// Batches are of several formats, if the model takes them together, else of one
// that it takes.
func TestWarmUpMixed(t *testing.T) {
	openLibrary(t)
	none := func(images [][]byte) bool { return false }
	mixed := func(images [][]byte) bool { return !bytes.Equal(images[0], images[len(images)-1]) }
	for name, test := range map[string]struct {
		refuses func(images [][]byte) bool
		formats string // of the largest batch
		ok      bool
	}{
		"together":        {none, "jpeg png", true},
		"one alone":       {mixed, "jpeg", true},
		"only PNGs":       {func(images [][]byte) bool { return len(images) > 1 && (mixed(images) || images[0][0] == 0xff) }, "png", true},
		"one image a run": {func(images [][]byte) bool { return len(images) > 1 }, "png", false},
	} {
		run := func(_ context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
			images, err := in[0].Strings()
			if err != nil {
				return nil, err
			}
			if test.refuses(images) {
				return nil, &savedmodel.Error{Code: savedmodel.InvalidArgument, Message: "no"}
			}
			scores, err := savedmodel.NewTensor(savedmodel.Float32, int64(len(images)), 2)
			if err == nil {
				clear(scores.Bytes())
			}
			return []*savedmodel.Tensor{scores}, err
		}
		v := &version{log: slog.New(slog.DiscardHandler)}
		v.run = newRunner(signature{Spec: Spec{Output: Output{Scores: "scores"}}, feeds: []feed{{dtype: savedmodel.String, from: fromImage}}}, run)
		v.batcher = newBatcher(v.run.batch, Lanes, true, Batch{Max: 4}, unwatched{})
		_, err := v.warmUp(t.Context(), t.TempDir(), signature{content: Images, dtype: savedmodel.String})
		v.batcher.close()
		var formats []string
		for _, s := range v.samples {
			formats = append(formats, s.format)
		}
		if got := strings.Join(formats, " "); got != test.formats || (err == nil) != test.ok {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.formats)
		}
	}
}

// Made-up pixels are no image of one colour, of which a model that divides by the
// deviation makes NaN.
func TestWarmUpStandardised(t *testing.T) {
	for _, dtype := range []tfpb.DataType{tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_UINT8} {
		base := t.TempDir()
		means{dtype: dtype, divides: true}.write(t, filepath.Join(base, "1"), "")
		if _, _, err := loadMeans(t, base); err != nil {
			t.Errorf("%v: %v", dtype, err)
		}
	}
}

// A model that refuses every sample is refused, and told is what it said to each,
// unless its own requests pass.
func TestWarmUpRefused(t *testing.T) {
	model := means{decoder: "DecodeAndCropJpeg", crop: []int32{0, 0, 500, 700}} // more than a sample has
	request := func(image []byte) *tfpb.PredictionLog {
		return predictLog("", map[string]*tfpb.TensorProto{"images": {
			Dtype: tfpb.DataType_DT_STRING, TensorShape: shapeOf(1), StringVal: [][]byte{image},
		}})
	}
	for name, test := range map[string]struct {
		requests []*tfpb.PredictionLog
		want     []string // of the refusal; nil: it serves, with a warning
	}{
		"no requests":             {nil, []string{"warm-up: the model refuses every made-up picture (jpeg of 640×480: ", "; png of 640×480: ", "put a request that it takes into assets.extra/tf_serving_warmup_requests"}},
		"its own requests pass":   {[]*tfpb.PredictionLog{request(jpegImage(t, 800, 600))}, nil},
		"its own request fails":   {[]*tfpb.PredictionLog{request(jpegImage(t, 800, 600)), request(jpegImage(t, 80, 60))}, []string{"warm-up: assets.extra/tf_serving_warmup_requests: record 1: "}},
		"requests of another one": {[]*tfpb.PredictionLog{predictLog("other", nil)}, []string{"the model refuses every made-up picture"}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			model.write(t, filepath.Join(base, "1"), "labels: labels.txt")
			if test.requests != nil {
				write(t, filepath.Join(base, "1", savedmodel.WarmupFile), tfRecords(t, test.requests...))
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
			warned := log.lines("warmed up by its own requests only")
			if test.want == nil && (err != nil || len(warned) != 1 || !strings.Contains(warned[0], "requests=1")) {
				t.Errorf("got %v, the log says %q", err, warned)
			}
		})
	}
}

// Requests to classify and to regress are run as TensorFlow Serving does it: their
// tf.Examples, with what they share, are what the signature's only input takes.
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
				write(t, filepath.Join(base, "1", "saved_model.pb"), examplesModel(t))
				write(t, filepath.Join(base, "1", savedmodel.WarmupFile), tfRecords(t, request))
				openLibrary(t)
				c := tinyConfig(base)
				c.Content = Examples
				log := &logged{}
				m := newManager(t, c, log)
				err := m.Load(t.Context())
				if !test.ok && (err == nil || !strings.Contains(err.Error(), "warm-up: assets.extra/tf_serving_warmup_requests: record 0: ")) {
					t.Errorf("got %v, want a refusal", err)
				}
				warned := log.lines("warmed up by its own requests only")
				if test.ok && (err != nil || len(warned) != 1 || !strings.Contains(warned[0], "requests=1")) {
					t.Errorf("got %v, the log says %q", err, warned)
				}
			})
		}
	}
}

// examplesModel is a SavedModel that adds the features a and b, floats of shape
// [1], of tf.Examples that must have both.
func examplesModel(t *testing.T) []byte {
	t.Helper()
	const float = tfpb.DataType_DT_FLOAT
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	strings := func(shape []int64, values ...string) attrs {
		p := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: shapeOf(shape...)}
		for _, v := range values {
			p.StringVal = append(p.StringVal, []byte(v))
		}
		return constant(p)
	}
	g.add("inputs", "Placeholder", nil, attrs{"dtype": typeAttr(tfpb.DataType_DT_STRING), "shape": shapeAttr(-1)})
	g.add("names", "Const", nil, strings([]int64{0}))
	g.add("a", "Const", nil, strings(nil, "a"))
	g.add("b", "Const", nil, strings(nil, "b"))
	none := constant(&tfpb.TensorProto{Dtype: float, TensorShape: shapeOf(0)})
	g.add("none_a", "Const", nil, none)
	g.add("none_b", "Const", nil, none)
	g.add("parsed", "ParseExample", []string{"inputs", "names", "a", "b", "none_a", "none_b"}, attrs{
		"Nsparse": intAttr(0), "Ndense": intAttr(2),
		"sparse_types": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{}}},
		"Tdense":       {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{Type: []tfpb.DataType{float, float}}}},
		"dense_shapes": {Value: &tfpb.AttrValue_List{List: &tfpb.AttrValue_ListValue{Shape: []*tfpb.TensorShapeProto{shapeOf(1), shapeOf(1)}}}},
	})
	g.add("scores", "AddV2", []string{"parsed:0", "parsed:1"}, attrs{"T": typeAttr(float)})
	b, err := proto.Marshal(&tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}, TensorflowVersion: "2.21.0"},
		GraphDef:    g.def,
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			MethodName: "tensorflow/serving/regress",
			Inputs:     map[string]*tfpb.TensorInfo{"inputs": info("inputs:0", tfpb.DataType_DT_STRING, -1)},
			Outputs:    map[string]*tfpb.TensorInfo{"outputs": info("scores:0", float, -1, 1)},
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

// tfRecords is a TFRecord file.
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

// What tf.saved_model.save makes of a Keras 3 model runs nowhere but in Python.
func TestLostVariable(t *testing.T) {
	status := &savedmodel.Error{Code: savedmodel.Code(9), Message: "Could not find variable scores/bias. This could mean that the variable has been deleted. " +
		"In TF1, it can also mean the variable is uninitialized.\n\t [[{{node functional_1/scores_1/BiasAdd/ReadVariableOp}}]]"}
	err := lostVariable(fmt.Errorf("batch of 1: %w", status))
	if want := `TensorFlow's loader has no value for the variable "scores/bias": Keras 3 models must be written by model.export(DIR), not tf.saved_model.save`; err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	for _, other := range []error{nil, errors.New("x"), &savedmodel.Error{Code: savedmodel.InvalidArgument, Message: "x"}} {
		if got := lostVariable(other); got != other { //nolint:errorlint // the same
			t.Errorf("%v became %v", other, got)
		}
	}
}
