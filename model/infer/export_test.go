package infer

import (
	"encoding/binary"
	"math"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/model/internal/graphdef"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// A frozen graph, exported as docs/models.md says, is a version that passes its
// gates, with both signatures and with warm-up requests.
func TestExportFrozenGraph(t *testing.T) {
	const float = tfpb.DataType_DT_FLOAT
	g := graphdef.New()
	g.Add("input", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(float), "shape": graphdef.Shape(-1, 8, 8, 3)})
	g.Add("axes", "Const", nil, graphdef.Int32s([]int64{2}, 1, 2))
	g.Add("mean", "Mean", []string{"input", "axes"}, graphdef.Attrs{
		"T": graphdef.Type(float), "Tidx": graphdef.Type(tfpb.DataType_DT_INT32), "keep_dims": graphdef.Bool(false),
	})
	var weights []byte
	for _, w := range []float32{0.01, -0.01, 0.01, -0.01, 0.01, -0.01} {
		weights = binary.NativeEndian.AppendUint32(weights, math.Float32bits(w))
	}
	g.Add("weights", "Const", nil, graphdef.Constant(&tfpb.TensorProto{Dtype: float, TensorShape: graphdef.ShapeProto(3, 2), TensorContent: weights}))
	g.Add("logits", "MatMul", []string{"mean", "weights"}, graphdef.Attrs{"T": graphdef.Type(float), "transpose_a": graphdef.Bool(false), "transpose_b": graphdef.Bool(false)})
	g.Add("softmax2", "Softmax", []string{"logits"}, graphdef.Attrs{"T": graphdef.Type(float)})
	content, err := proto.Marshal(g.Def)
	if err != nil {
		t.Fatal(err)
	}
	from, base := t.TempDir(), t.TempDir()
	modeltest.Write(t, filepath.Join(from, "graph.pb"), content)
	modeltest.Write(t, filepath.Join(from, "labels.txt"), []byte("bright\ndark\n"))
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
	v := load(t, filepath.Join(base, "1"))
	// By inception5h's conventions black is -117 in each channel.
	want := 1 / (1 + math.Exp(-2*3*1.17))
	if p, err := v.Classify(t.Context(), modeltest.BlackImage); err != nil || p.Classes[0].Label != "dark" || math.Abs(float64(p.Classes[0].Score)-want) > 1e-4 {
		t.Errorf("got %+v, %v, want %v", p.Classes, err, want)
	}
}
