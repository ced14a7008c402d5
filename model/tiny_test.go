package model

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

	"inceptor/savedmodel/tfpb"
)

// A tiny is a SavedModel that costs nothing: an image's mean color, times
// zero, plus a bias. Its first score tells which version answered.
type tiny struct {
	bias   float32 // of the first class; the others have 0
	class  int     // classes, besides the first
	dtype  tfpb.DataType
	silent bool   // the signature does not say how many classes
	broken string // name of an operation that is left out
	golden string // golden.yaml
	slow   int    // every run multiplies two matrices of this size
	picky  bool   // it refuses bright images
	needs  string // images that are not white make it read this file, with "0" after its name
	label  string // of the first class, if not "label 0"
	batch  int64  // records that every run takes; 0: any number
}

func (m tiny) write(t testing.TB, dir string) {
	t.Helper()
	write(t, filepath.Join(dir, "saved_model.pb"), m.bytes(t))
	labels := labelsFor(1 + m.class)
	if m.label != "" {
		labels = strings.Replace(labels, "label 0", m.label, 1)
	}
	write(t, filepath.Join(dir, "assets/labels.txt"), []byte(labels))
	write(t, filepath.Join(dir, specFile), []byte("input: {size: [2, 2], scale: 1, half_pixel_centers: false}\nlabels: labels.txt\n"))
	if m.golden != "" {
		write(t, filepath.Join(dir, goldenFile), []byte(m.golden))
		write(t, filepath.Join(dir, "assets.extra/golden/black.bmp"), blackPixel)
	}
}

func labelsFor(n int) string {
	s := ""
	for i := range n {
		s += fmt.Sprintf("label %d\n", i)
	}
	return s
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m tiny) bytes(t testing.TB) []byte {
	t.Helper()
	if m.dtype == 0 {
		m.dtype = tfpb.DataType_DT_FLOAT
	}
	classes := int64(1 + m.class)
	const float = tfpb.DataType_DT_FLOAT
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	add := func(name, op string, inputs []string, a attrs) {
		if name != m.broken {
			g.add(name, op, inputs, a)
		}
	}
	batch := cmp.Or(m.batch, -1)
	add("images", "Placeholder", nil, attrs{"dtype": typeAttr(m.dtype), "shape": shapeAttr(batch, 2, 2, 3)})
	add("sure", "EnsureShape", []string{"images"}, attrs{"T": typeAttr(m.dtype), "shape": shapeAttr(batch, 2, 2, 3)})
	add("float", "Cast", []string{"sure"}, attrs{
		"SrcT": typeAttr(m.dtype), "DstT": typeAttr(float), "Truncate": boolAttr(false),
	})
	add("axes", "Const", nil, int32Const([]int64{2}, 1, 2))
	add("mean", "Mean", []string{"float", "axes"}, attrs{
		"T": typeAttr(float), "Tidx": typeAttr(tfpb.DataType_DT_INT32), "keep_dims": boolAttr(false),
	})
	floats := func(shape []int64, values []float32) attrs {
		var content []byte
		for _, v := range values {
			content = binary.NativeEndian.AppendUint32(content, math.Float32bits(v))
		}
		return constant(&tfpb.TensorProto{Dtype: float, TensorShape: shapeOf(shape...), TensorContent: content})
	}
	bias := make([]float32, classes)
	bias[0] = m.bias
	add("weights", "Const", nil, floats([]int64{3, classes}, make([]float32, 3*classes)))
	add("product", "MatMul", []string{"mean", "weights"}, attrs{
		"T": typeAttr(float), "transpose_a": boolAttr(false), "transpose_b": boolAttr(false),
	})
	add("bias", "Const", nil, floats([]int64{classes}, bias))
	add("sum", "AddV2", []string{"product", "bias"}, attrs{"T": typeAttr(float)})
	add("scores", "AddV2", []string{"sum", m.extra(add)}, attrs{"T": typeAttr(float)})

	said := classes
	if m.silent {
		said = -1
	}
	model := &tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}, TensorflowVersion: "2.21.0"},
		GraphDef:    g.def,
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			MethodName: "tensorflow/serving/predict",
			Inputs:     map[string]*tfpb.TensorInfo{"images": info("images:0", m.dtype, batch, 2, 2, 3)},
			Outputs:    map[string]*tfpb.TensorInfo{"scores": info("scores:0", float, batch, said)},
		}},
	}}}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(model)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// extra adds what always is zero, after some work, and returns its name.
func (m tiny) extra(add func(name, op string, inputs []string, a attrs)) string {
	const float = tfpb.DataType_DT_FLOAT
	same := attrs{"T": typeAttr(float)}
	reduce := attrs{"T": typeAttr(float), "Tidx": typeAttr(tfpb.DataType_DT_INT32), "keep_dims": boolAttr(false)}
	add("zero", "Const", nil, floatConst(0))
	add("all", "Const", nil, int32Const([]int64{2}, 0, 1))
	add("most", "Max", []string{"mean", "all"}, reduce)
	last := "zero"
	if m.picky {
		add("limit", "Const", nil, floatConst(128))
		add("left", "Sub", []string{"limit", "most"}, same)
		add("root", "Sqrt", []string{"left"}, same)
		add("number", "CheckNumerics", []string{"root"}, attrs{"T": typeAttr(float), "message": {Value: &tfpb.AttrValue_S{S: []byte("too bright")}}})
		add("nothing", "Mul", []string{"number", "zero"}, same)
		last = "nothing"
	}
	if m.needs != "" {
		add("white", "Const", nil, floatConst(255))
		add("part", "RealDiv", []string{"most", "white"}, same)
		add("whole", "Cast", []string{"part"}, attrs{"SrcT": typeAttr(float), "DstT": typeAttr(tfpb.DataType_DT_INT32), "Truncate": boolAttr(false)})
		add("suffix", "AsString", []string{"whole"}, attrs{"T": typeAttr(tfpb.DataType_DT_INT32)})
		add("prefix", "Const", nil, constant(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: shapeOf(), StringVal: [][]byte{[]byte(m.needs)}}))
		add("name", "StringJoin", []string{"prefix", "suffix"}, attrs{"N": intAttr(2)})
		add("content", "ReadFile", []string{"name"}, nil)
		add("length", "StringLength", []string{"content"}, nil)
		add("bytes", "Cast", []string{"length"}, attrs{"SrcT": typeAttr(tfpb.DataType_DT_INT32), "DstT": typeAttr(float), "Truncate": boolAttr(false)})
		add("naught", "Mul", []string{"bytes", last}, same)
		last = "naught"
	}
	if m.slow > 0 {
		add("size", "Const", nil, int32Const([]int64{2}, int32(m.slow), int32(m.slow)))
		add("matrix", "Fill", []string{"size", "most"}, attrs{"T": typeAttr(float), "index_type": typeAttr(tfpb.DataType_DT_INT32)})
		add("work", "MatMul", []string{"matrix", "matrix"}, attrs{"T": typeAttr(float), "transpose_a": boolAttr(false), "transpose_b": boolAttr(false)})
		add("worked", "Max", []string{"work", "all"}, reduce)
		add("none", "Mul", []string{"worked", last}, same)
		last = "none"
	}
	return last
}

// whitePixel is blackPixel, but bright.
var whitePixel = slices.Concat(blackPixel[:len(blackPixel)-4], []byte{255, 255, 255, 0})

func info(name string, dtype tfpb.DataType, shape ...int64) *tfpb.TensorInfo {
	return &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: name}, Dtype: dtype, TensorShape: shapeOf(shape...)}
}
