package model

import (
	"encoding/binary"
	"math"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// A frozen graph, exported as docs/models.md says, is a version that passes its
// gates, with both signatures and with warm-up requests.
func TestExportFrozenGraph(t *testing.T) {
	const float = tfpb.DataType_DT_FLOAT
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	g.add("input", "Placeholder", nil, attrs{"dtype": typeAttr(float), "shape": shapeAttr(-1, 8, 8, 3)})
	g.add("axes", "Const", nil, int32Const([]int64{2}, 1, 2))
	g.add("mean", "Mean", []string{"input", "axes"}, attrs{
		"T": typeAttr(float), "Tidx": typeAttr(tfpb.DataType_DT_INT32), "keep_dims": boolAttr(false),
	})
	var weights []byte
	for _, w := range []float32{0.01, -0.01, 0.01, -0.01, 0.01, -0.01} {
		weights = binary.NativeEndian.AppendUint32(weights, math.Float32bits(w))
	}
	g.add("weights", "Const", nil, constant(&tfpb.TensorProto{Dtype: float, TensorShape: shapeOf(3, 2), TensorContent: weights}))
	g.add("logits", "MatMul", []string{"mean", "weights"}, attrs{"T": typeAttr(float), "transpose_a": boolAttr(false), "transpose_b": boolAttr(false)})
	g.add("softmax2", "Softmax", []string{"logits"}, attrs{"T": typeAttr(float)})
	content, err := proto.Marshal(g.def)
	if err != nil {
		t.Fatal(err)
	}
	from, base := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "graph.pb"), content)
	write(t, filepath.Join(from, "labels.txt"), []byte("bright\ndark\n"))
	root := testenv.Root(t)
	out, err := exec.CommandContext(t.Context(), testenv.Python(t), "-B", filepath.Join(root, "savedmodel/inception/export.py"),
		"--weights", filepath.Join(from, "graph.pb"), "--labels", filepath.Join(from, "labels.txt"), "--out", base).CombinedOutput()
	if err != nil {
		t.Fatalf("export.py: %v\n%s", err, out)
	}
	info, err := savedmodel.Inspect(filepath.Join(base, "1"))
	if err != nil || info.Warmup == nil || info.Warmup.Signatures["serving_default"] != 1 || info.Warmup.Signatures["serving_bytes"] != 1 {
		t.Errorf("warm-up requests: %+v, %v", info.Warmup, err)
	}
	m := open(t, testConfig(base))
	// By inception5h's conventions black is -117 in each channel.
	want := 1 / (1 + math.Exp(-2*3*1.17))
	if p, err := m.Classify(t.Context(), nil, blackPixel); err != nil || p.Classes[0].Label != "dark" || math.Abs(float64(p.Classes[0].Score)-want) > tolerance {
		t.Errorf("got %+v, %v, want %v", p.Classes, err, want)
	}
}
