package modeltest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/model/internal/graphdef"
	"inceptor/savedmodel/tfpb"
)

// A Tiny is a SavedModel that loads and runs at once: the mean colour of an image, times zero, plus
// a bias. Its first score tells which version answered.
type Tiny struct {
	Bias   float32 // of the first class; the others have 0
	Class  int     // classes, besides the first
	Dtype  tfpb.DataType
	Silent bool   // the signature does not say how many classes
	Broken string // name of an operation that is left out
	Golden string // golden.yaml
	Slow   int    // every run multiplies two matrices of this size
	Picky  bool   // it refuses bright images
	Needs  string // every run reads the file of this name with "1" appended if an image is white, else "0"
	Label  string // of the first class, if not "label 0"
	Batch  int64  // records that every run takes; 0: any number
}

// Write writes the version to dir.
func (m Tiny) Write(t testing.TB, dir string) {
	t.Helper()
	Write(t, filepath.Join(dir, "saved_model.pb"), m.Bytes(t))
	labels := LabelsFor(1 + m.Class)
	if m.Label != "" {
		labels = strings.Replace(labels, "label 0", m.Label, 1)
	}
	Write(t, filepath.Join(dir, "assets/labels.txt"), []byte(labels))
	Write(t, filepath.Join(dir, "assets.extra/inceptor.yaml"), []byte(TinyYAML+"labels: labels.txt\n"))
	if m.Golden != "" {
		Write(t, filepath.Join(dir, "assets.extra/golden/golden.yaml"), []byte(m.Golden))
		Write(t, filepath.Join(dir, "assets.extra/golden/black.bmp"), BlackImage)
	}
}

// LabelsFor returns a file of n labels.
func LabelsFor(n int) string {
	s := ""
	for i := range n {
		s += fmt.Sprintf("label %d\n", i)
	}
	return s
}

// Write writes a file, and makes the folders above it.
func Write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Bytes returns the saved_model.pb.
func (m Tiny) Bytes(t testing.TB) []byte {
	t.Helper()
	if m.Dtype == 0 {
		m.Dtype = tfpb.DataType_DT_FLOAT
	}
	classes := int64(1 + m.Class)
	const float = tfpb.DataType_DT_FLOAT
	g := graphdef.New()
	add := func(name, op string, inputs []string, a graphdef.Attrs) {
		if name != m.Broken {
			g.Add(name, op, inputs, a)
		}
	}
	batch := cmp.Or(m.Batch, -1)
	add("images", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(m.Dtype), "shape": graphdef.Shape(batch, 2, 2, 3)})
	add("sure", "EnsureShape", []string{"images"}, graphdef.Attrs{"T": graphdef.Type(m.Dtype), "shape": graphdef.Shape(batch, 2, 2, 3)})
	add("float", "Cast", []string{"sure"}, graphdef.Attrs{
		"SrcT": graphdef.Type(m.Dtype), "DstT": graphdef.Type(float), "Truncate": graphdef.Bool(false),
	})
	add("axes", "Const", nil, graphdef.Int32s([]int64{2}, 1, 2))
	add("mean", "Mean", []string{"float", "axes"}, graphdef.Attrs{
		"T": graphdef.Type(float), "Tidx": graphdef.Type(tfpb.DataType_DT_INT32), "keep_dims": graphdef.Bool(false),
	})
	floats := func(shape []int64, values []float32) graphdef.Attrs {
		var content []byte
		for _, v := range values {
			content = binary.NativeEndian.AppendUint32(content, math.Float32bits(v))
		}
		return graphdef.Constant(&tfpb.TensorProto{Dtype: float, TensorShape: graphdef.ShapeProto(shape...), TensorContent: content})
	}
	bias := make([]float32, classes)
	bias[0] = m.Bias
	add("weights", "Const", nil, floats([]int64{3, classes}, make([]float32, 3*classes)))
	add("product", "MatMul", []string{"mean", "weights"}, graphdef.Attrs{
		"T": graphdef.Type(float), "transpose_a": graphdef.Bool(false), "transpose_b": graphdef.Bool(false),
	})
	add("bias", "Const", nil, floats([]int64{classes}, bias))
	add("sum", "AddV2", []string{"product", "bias"}, graphdef.Attrs{"T": graphdef.Type(float)})
	add("scores", "AddV2", []string{"sum", m.extra(add)}, graphdef.Attrs{"T": graphdef.Type(float)})

	said := classes
	if m.Silent {
		said = -1
	}
	model := &tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}, TensorflowVersion: "2.21.0"},
		GraphDef:    g.Def,
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			MethodName: "tensorflow/serving/predict",
			Inputs:     map[string]*tfpb.TensorInfo{"images": TensorInfo("images:0", m.Dtype, batch, 2, 2, 3)},
			Outputs:    map[string]*tfpb.TensorInfo{"scores": TensorInfo("scores:0", float, batch, said)},
		}},
	}}}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(model)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// extra adds what always is zero, after some work, and returns its name.
func (m Tiny) extra(add func(name, op string, inputs []string, a graphdef.Attrs)) string {
	const float = tfpb.DataType_DT_FLOAT
	same := graphdef.Attrs{"T": graphdef.Type(float)}
	reduce := graphdef.Attrs{"T": graphdef.Type(float), "Tidx": graphdef.Type(tfpb.DataType_DT_INT32), "keep_dims": graphdef.Bool(false)}
	add("zero", "Const", nil, graphdef.Floats(0))
	add("all", "Const", nil, graphdef.Int32s([]int64{2}, 0, 1))
	add("most", "Max", []string{"mean", "all"}, reduce)
	last := "zero"
	if m.Picky {
		add("limit", "Const", nil, graphdef.Floats(128))
		add("left", "Sub", []string{"limit", "most"}, same)
		add("root", "Sqrt", []string{"left"}, same)
		add("number", "CheckNumerics", []string{"root"}, graphdef.Attrs{"T": graphdef.Type(float), "message": {Value: &tfpb.AttrValue_S{S: []byte("too bright")}}})
		add("nothing", "Mul", []string{"number", "zero"}, same)
		last = "nothing"
	}
	if m.Needs != "" {
		add("white", "Const", nil, graphdef.Floats(255))
		add("part", "RealDiv", []string{"most", "white"}, same)
		add("whole", "Cast", []string{"part"}, graphdef.Attrs{"SrcT": graphdef.Type(float), "DstT": graphdef.Type(tfpb.DataType_DT_INT32), "Truncate": graphdef.Bool(false)})
		add("suffix", "AsString", []string{"whole"}, graphdef.Attrs{"T": graphdef.Type(tfpb.DataType_DT_INT32)})
		add("prefix", "Const", nil, graphdef.Constant(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: graphdef.ShapeProto(), StringVal: [][]byte{[]byte(m.Needs)}}))
		add("name", "StringJoin", []string{"prefix", "suffix"}, graphdef.Attrs{"N": graphdef.Int(2)})
		add("content", "ReadFile", []string{"name"}, nil)
		add("length", "StringLength", []string{"content"}, nil)
		add("bytes", "Cast", []string{"length"}, graphdef.Attrs{"SrcT": graphdef.Type(tfpb.DataType_DT_INT32), "DstT": graphdef.Type(float), "Truncate": graphdef.Bool(false)})
		add("naught", "Mul", []string{"bytes", last}, same)
		last = "naught"
	}
	if m.Slow > 0 {
		add("size", "Const", nil, graphdef.Int32s([]int64{2}, int32(m.Slow), int32(m.Slow)))
		add("matrix", "Fill", []string{"size", "most"}, graphdef.Attrs{"T": graphdef.Type(float), "index_type": graphdef.Type(tfpb.DataType_DT_INT32)})
		add("work", "MatMul", []string{"matrix", "matrix"}, graphdef.Attrs{"T": graphdef.Type(float), "transpose_a": graphdef.Bool(false), "transpose_b": graphdef.Bool(false)})
		add("worked", "Max", []string{"work", "all"}, reduce)
		add("none", "Mul", []string{"worked", last}, same)
		last = "none"
	}
	return last
}

// BlackImage is a BMP of one black pixel.
var BlackImage = []byte("BM\x3a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00" +
	"\x28\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\x04\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00")

// WhiteImage is a BMP of one white pixel.
var WhiteImage = slices.Concat(BlackImage[:len(BlackImage)-4], []byte{255, 255, 255, 0})

// TensorInfo returns the input or output of a signature; -1: any dimension.
func TensorInfo(name string, dtype tfpb.DataType, shape ...int64) *tfpb.TensorInfo {
	return &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: name}, Dtype: dtype, TensorShape: graphdef.ShapeProto(shape...)}
}

// TinyOf returns the Tiny whose first score is n.
func TinyOf(n int64) Tiny { return Tiny{Bias: float32(n)} }

// TinyVersions returns a new base directory with these versions, as of TinyOf.
func TinyVersions(t testing.TB, versions ...int64) string {
	t.Helper()
	base := t.TempDir()
	for _, v := range versions {
		TinyOf(v).Write(t, filepath.Join(base, fmt.Sprint(v)))
	}
	return base
}

// WithWords returns a saved_model.pb that answers with the two best classes as words, and with a
// key that it is given; mixed: in another order than the records.
func (m Tiny) WithWords(t testing.TB, mixed bool) []byte {
	t.Helper()
	const float, str, whole = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_STRING, tfpb.DataType_DT_INT32
	var model tfpb.SavedModel
	if err := proto.Unmarshal(m.Bytes(t), &model); err != nil {
		t.Fatal(err)
	}
	meta := model.GetMetaGraphs()[0]
	g := &graphdef.Graph{Def: meta.GetGraphDef()}
	var words [][]byte
	for i := range 1 + m.Class {
		words = append(words, fmt.Appendf(nil, "label %d", i))
	}
	g.Add("key", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(str), "shape": graphdef.Shape(-1)})
	if mixed {
		g.Add("turned", "Const", nil, graphdef.Int32s([]int64{1}, 0))
		g.Add("back", "ReverseV2", []string{"key", "turned"}, graphdef.Attrs{"T": graphdef.Type(str), "Tidx": graphdef.Type(whole)})
	} else {
		g.Add("back", "Identity", []string{"key"}, graphdef.Attrs{"T": graphdef.Type(str)})
	}
	g.Add("k", "Const", nil, graphdef.Int32s(nil, 2))
	g.Add("top", "TopKV2", []string{"scores", "k"}, graphdef.Attrs{"T": graphdef.Type(float), "sorted": graphdef.Bool(true)})
	g.Add("words", "Const", nil, graphdef.Constant(&tfpb.TensorProto{Dtype: str, TensorShape: graphdef.ShapeProto(int64(len(words))), StringVal: words}))
	g.Add("first", "Const", nil, graphdef.Int32s(nil, 0))
	g.Add("classes", "GatherV2", []string{"words", "top:1", "first"}, graphdef.Attrs{"Tparams": graphdef.Type(str), "Tindices": graphdef.Type(whole), "Taxis": graphdef.Type(whole)})
	sig := meta.GetSignatureDef()["serving_default"]
	sig.Inputs["key"] = TensorInfo("key:0", str, -1)
	sig.Outputs = map[string]*tfpb.TensorInfo{
		"scores": TensorInfo("top:0", float, -1, 2), "classes": TensorInfo("classes:0", str, -1, 2), "key": TensorInfo("back:0", str, -1),
	}
	b, err := proto.Marshal(&model)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// WithNumbers returns a saved_model.pb with an output of integers of the scores' shape: the classes
// of the two best scores or, as a mask, 1 for each score above a half.
func (m Tiny) WithNumbers(t testing.TB, mask bool) []byte {
	t.Helper()
	const float, whole = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_INT32
	var model tfpb.SavedModel
	if err := proto.Unmarshal(m.Bytes(t), &model); err != nil {
		t.Fatal(err)
	}
	meta := model.GetMetaGraphs()[0]
	g := &graphdef.Graph{Def: meta.GetGraphDef()}
	sig := meta.GetSignatureDef()["serving_default"]
	if mask {
		g.Add("half", "Const", nil, graphdef.Floats(0.5))
		g.Add("above", "Greater", []string{"scores", "half"}, graphdef.Attrs{"T": graphdef.Type(float)})
		g.Add("decided", "Cast", []string{"above"}, graphdef.Attrs{"SrcT": graphdef.Type(tfpb.DataType_DT_BOOL), "DstT": graphdef.Type(whole), "Truncate": graphdef.Bool(false)})
		sig.Outputs = map[string]*tfpb.TensorInfo{"scores": TensorInfo("scores:0", float, -1, -1), "labels": TensorInfo("decided:0", whole, -1, -1)}
	} else {
		g.Add("k", "Const", nil, graphdef.Int32s(nil, 2))
		g.Add("top", "TopKV2", []string{"scores", "k"}, graphdef.Attrs{"T": graphdef.Type(float), "sorted": graphdef.Bool(true)})
		sig.Outputs = map[string]*tfpb.TensorInfo{"scores": TensorInfo("top:0", float, -1, -1), "indices": TensorInfo("top:1", whole, -1, -1)}
	}
	b, err := proto.Marshal(&model)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Retag gives the version in dir one graph for each list of tags.
func Retag(t testing.TB, dir string, lists ...[]string) {
	t.Helper()
	path := filepath.Join(dir, "saved_model.pb")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m tfpb.SavedModel
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	graph := m.GetMetaGraphs()[0]
	m.MetaGraphs = nil
	for _, tags := range lists {
		one := proto.Clone(graph).(*tfpb.MetaGraphDef)
		one.MetaInfoDef.Tags = tags
		m.MetaGraphs = append(m.MetaGraphs, one)
	}
	if b, err = proto.Marshal(&m); err != nil {
		t.Fatal(err)
	}
	Write(t, path, b)
}

// TinyYAML is the inceptor.yaml of a Tiny, without labels.
const TinyYAML = "input: {size: [2, 2], scale: 1, half_pixel_centers: false}\n"
