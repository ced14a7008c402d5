package savedmodel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

func TestInspect(t *testing.T) {
	want := &Info{
		Complete:   true,
		GraphBytes: 30646,
		Graphs: []MetaGraph{{
			Tags:       []string{"serve"},
			TensorFlow: "2.21.0",
			Nodes:      23,
			Functions:  6,
			Signatures: map[string]Signature{
				"serving_default": {
					Method:  "tensorflow/serving/predict",
					Inputs:  map[string]TensorInfo{"features": {Name: "serving_default_features:0", DType: Float32, Shape: Shape{-1, 4}}},
					Outputs: map[string]TensorInfo{"scores": {Name: "StatefulPartitionedCall_1:0", DType: Float32, Shape: Shape{-1, 3}}},
				},
				"describe": {
					Method: "tensorflow/serving/predict",
					Inputs: map[string]TensorInfo{"text": {Name: "describe_text:0", DType: String, Shape: Shape{}}},
					Outputs: map[string]TensorInfo{
						"labels": {Name: "StatefulPartitionedCall:0", DType: String, Shape: Shape{}},
						"parts":  {Name: "StatefulPartitionedCall:1", DType: String, Shape: Shape{-1}},
						"runs":   {Name: "StatefulPartitionedCall:2", DType: Int64, Shape: Shape{}},
						"text":   {Name: "StatefulPartitionedCall:3", DType: String, Shape: Shape{}},
					},
				},
			},
		}},
		Variables: []Variable{
			{Name: "bias", Key: "bias/.ATTRIBUTES/VARIABLE_VALUE", DType: Float32, Shape: Shape{3}, Bytes: 12},
			{Name: "runs", Key: "runs/.ATTRIBUTES/VARIABLE_VALUE", DType: Int64, Shape: Shape{}, Bytes: 8},
			{Name: "title", Key: "title/.ATTRIBUTES/VARIABLE_VALUE", DType: String, Shape: Shape{}, Bytes: 12},
			{Name: "weights", Key: "weights/.ATTRIBUTES/VARIABLE_VALUE", DType: Float32, Shape: Shape{4, 3}, Bytes: 48},
		},
		VariableBytes: 80,
		Shards:        []Shard{{Path: "variables/variables.data-00000-of-00001", Size: 573, Wants: 573}},
		Assets:        []Asset{{File: File{"assets/labels.txt", 13}, Tensor: "asset_path_initializer:0"}},
		Extra:         []File{{"assets.extra/tf_serving_warmup_requests", 137}},
		Warmup:        &Warmup{Size: 137, Records: 2, Signatures: map[string]int{"serving_default": 1, "describe": 1}},
	}
	for name, dir := range map[string]string{
		"folder":     "testdata/tiny",
		"kubernetes": kubernetes(t, copyTiny(t)),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Inspect(dir)
			if err != nil {
				t.Fatal(err)
			}
			ignore := cmp.Options{cmpopts.IgnoreFields(Info{}, "Dir"), cmpopts.IgnoreFields(MetaGraph{}, "Ops")}
			if diff := cmp.Diff(want, got, ignore); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			g, ok := got.Graph("serve")
			if !ok || len(g.Ops) != 36 || !strings.Contains(strings.Join(g.Ops, " "), "MatMul") {
				t.Errorf("graph tagged serve: %t, operations %v", ok, g.Ops)
			}
			if _, ok := got.Graph("serve", "gpu"); ok {
				t.Error("there is a graph tagged gpu")
			}
		})
	}
}

// Two shards and a variable in two parts, as MergeV2Checkpoints leaves them.
func TestInspectSharded(t *testing.T) {
	got, err := Inspect("testdata/sharded")
	if err != nil {
		t.Fatal(err)
	}
	want := &Info{
		Dir:     "testdata/sharded",
		Missing: []string{"saved_model.pb: does not exist"},
		Variables: []Variable{
			{Name: "a", Key: "a", DType: Int32, Shape: Shape{5}, Bytes: 20},
			{Name: "b", Key: "b", DType: Float64, Shape: Shape{}, Bytes: 8},
			{Name: "wide", Key: "wide", DType: Float32, Shape: Shape{2, 6}, Bytes: 48},
		},
		VariableBytes: 76,
		Shards: []Shard{
			{Path: "variables/variables.data-00000-of-00002", Size: 44, Wants: 44},
			{Path: "variables/variables.data-00001-of-00002", Size: 32, Wants: 32},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInspectIncomplete(t *testing.T) {
	const shard = "variables/variables.data-00000-of-00001"
	edit := func(file string, change func([]byte) []byte) func(string) error {
		return func(dir string) error {
			name := filepath.Join(dir, file)
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return os.WriteFile(name, change(b), 0o600)
		}
	}
	remove := func(file string) func(string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, file)) }
	}
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	grow := func(b []byte) []byte { return append(b, 0) }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	asset := func(name string) func(string) error {
		return edit(graphFile, func(b []byte) []byte {
			var m tfpb.SavedModel
			must(t, proto.Unmarshal(b, &m))
			m.MetaGraphs[0].AssetFileDef[0].Filename = name
			return []byte(message(&m))
		})
	}
	tests := []struct {
		name   string
		change func(dir string) error
		want   string // of the one lack; empty: none
	}{
		{"no saved_model.pb", remove(graphFile), "saved_model.pb: does not exist"},
		{"text form", func(dir string) error {
			return os.Rename(filepath.Join(dir, graphFile), filepath.Join(dir, "saved_model.pbtxt"))
		}, "saved_model.pb: does not exist; saved_model.pbtxt does, which inceptor does not read: convert it, where Python has TensorFlow: cd "},
		{"in chunks", func(dir string) error {
			return os.Rename(filepath.Join(dir, graphFile), filepath.Join(dir, "saved_model.cpb"))
		}, "saved_model.pb: does not exist; saved_model.cpb does, which inceptor does not read: save it as saved_model.pb"},
		{"saved_model.pb short by a byte", edit(graphFile, cut), "saved_model.pb: malformed at byte 2: field 2 has 30640 bytes, but only 30639 are left"},
		{"saved_model.pb empty", edit(graphFile, func([]byte) []byte { return nil }), "saved_model.pb: malformed at byte 0: the file has no graph"},
		{"saved_model.pb with a hole", edit(graphFile, func(b []byte) []byte { clear(b[8192:12288]); return b }), "saved_model.pb: malformed at byte "},
		{"saved_model.pb is a pipe", func(dir string) error {
			name := filepath.Join(dir, graphFile)
			return errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o600))
		}, "saved_model.pb: does not exist"},
		{"no index", remove(indexFile), "variables/variables.index: does not exist, but the graph restores variables"},
		{"no variables", remove("variables"), "variables/variables.index: does not exist, but the graph restores variables"},
		{"index short by a byte", edit(indexFile, cut), "variables/variables.index: malformed at byte 341: no magic number of a table"},
		{"index damaged", edit(indexFile, flip(20)), "variables/variables.index: malformed at byte 0: the block's checksum is "},
		{"no shard", remove(shard), shard + ": does not exist, wants 573 bytes"},
		{"shard short by a byte", edit(shard, cut), shard + ": has 572 bytes, wants 573"},
		{"shard long by a byte", edit(shard, grow), shard + ": has 574 bytes, wants 573"},
		{"shard preallocated", edit(shard, func(b []byte) []byte { clear(b); return b }), shard + ": malformed at byte "},
		{"shard's end damaged", edit(shard, flip(-1)), shard + ": malformed at byte "},
		{"no asset", remove("assets/labels.txt"), "assets/labels.txt: does not exist, but a graph names it"},
		{"no assets", remove("assets"), "assets/labels.txt: does not exist, but a graph names it"},
		{"asset elsewhere", asset("../../secret"), `saved_model.pb: malformed: asset "../../secret" is outside assets`},
		{"warm-up short by a byte", edit(WarmupFile, cut), WarmupFile + ": malformed at byte 76: record 1: the file ends after "},
		{"warm-up damaged", edit(WarmupFile, flip(30)), WarmupFile + ": malformed at byte 0: record 0: the data's checksum is "},
		{"warm-up ends early", edit(WarmupFile, func(b []byte) []byte { return b[:76] }), ""},
		{"no extras", remove(extraDir), ""},
		{"a file more", func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := copyTiny(t)
			must(t, test.change(dir))
			got, err := Inspect(dir)
			if err != nil {
				t.Fatal(err)
			}
			lacks := strings.Join(got.Missing, "\n")
			if got.Complete != (lacks == "") || (test.want == "") != (lacks == "") ||
				len(got.Missing) > 1 || !strings.HasPrefix(lacks, test.want) {
				t.Errorf("complete %t, missing %q, want %q", got.Complete, got.Missing, test.want)
			}
		})
	}
}

// A saved_model.pb that is still being written is never complete.
func TestInspectTruncatedGraph(t *testing.T) {
	b, err := os.ReadFile("testdata/tiny/" + graphFile)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += 61 {
		graphs, err := readGraphs(bytes.NewReader(b[:n]), int64(n))
		if err == nil && len(graphs) > 0 || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("the first %d of %d bytes: %d graphs, %v", n, len(b), len(graphs), err)
		}
		// The file has the right size, but its end is missing.
		if _, err := readGraphs(bytes.NewReader(b[:n]), int64(len(b))); !errors.Is(err, ErrMalformed) {
			t.Errorf("only %d of %d bytes can be read: %v", n, len(b), err)
		}
	}
}

// Weights in the graph are skipped, not read into memory.
func TestInspectLargeConstants(t *testing.T) {
	weights := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_UINT8, TensorContent: make([]byte, 32<<20)}
	node := func(name string) *tfpb.NodeDef {
		return &tfpb.NodeDef{Name: name, Op: "Const", Attr: map[string]*tfpb.AttrValue{"value": {Value: &tfpb.AttrValue_Tensor{Tensor: weights}}}}
	}
	b := []byte(message(&tfpb.SavedModel{MetaGraphs: []*tfpb.MetaGraphDef{{
		GraphDef: &tfpb.GraphDef{
			Node:    []*tfpb.NodeDef{node("a"), {Name: "b", Op: "NoOp"}},
			Library: &tfpb.FunctionDefLibrary{Function: []*tfpb.FunctionDef{{NodeDef: []*tfpb.NodeDef{node("c")}}}},
		},
		SignatureDef: map[string]*tfpb.SignatureDef{"s": {}},
	}}}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	graphs, err := readGraphs(bytes.NewReader(b), int64(len(b)))
	runtime.ReadMemStats(&after)
	must(t, err)
	g := graphs[0]
	if g.nodes != 2 || g.functions != 1 || len(g.def.GetSignatureDef()) != 1 {
		t.Errorf("%d nodes, %d functions, signatures %v, want 2, 1 and one", g.nodes, g.functions, g.def.GetSignatureDef())
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes allocated for a graph with 64 MiB of weights", took)
	}
}

func TestInspectFails(t *testing.T) {
	if _, err := Inspect(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Inspect("testdata/make.py"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	// Nobody can read a link to itself, not even a superuser.
	dir := copyTiny(t)
	must(t, os.Remove(filepath.Join(dir, graphFile)))
	must(t, os.Symlink(graphFile, filepath.Join(dir, graphFile)))
	if _, err := Inspect(dir); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("unreadable: %v", err)
	}
}

func TestWarmup(t *testing.T) {
	predict := func(signature string) []byte {
		return tfRecord(message(&tfpb.PredictionLog{LogType: &tfpb.PredictionLog_PredictLog{PredictLog: &tfpb.PredictLog{
			Request: &tfpb.PredictRequest{ModelSpec: &tfpb.ModelSpec{SignatureName: signature}},
		}}}))
	}
	spec := &tfpb.ModelSpec{SignatureName: "c"}
	classify := tfRecord(message(&tfpb.PredictionLog{LogType: &tfpb.PredictionLog_ClassifyLog{ClassifyLog: &tfpb.ClassifyLog{
		Request: &tfpb.ClassificationRequest{ModelSpec: spec},
	}}}))
	regress := tfRecord(message(&tfpb.PredictionLog{LogType: &tfpb.PredictionLog_RegressLog{RegressLog: &tfpb.RegressLog{
		Request: &tfpb.RegressionRequest{},
	}}}))
	tests := []struct {
		name string
		file []byte
		want Warmup
	}{
		{"of the other methods", append(classify, regress...), Warmup{Records: 2, Signatures: map[string]int{"serving_default": 1, "c": 1}}},
		{"empty", nil, Warmup{Signatures: map[string]int{}}},
		{"two", append(predict(""), predict("x")...), Warmup{Records: 2, Signatures: map[string]int{"serving_default": 1, "x": 1}}},
		{"no message", tfRecord("\xff"), Warmup{Records: 1, Signatures: map[string]int{}, Problem: "record 0 is not a PredictionLog"}},
		{"another request", append(predict("x"), tfRecord("")...), Warmup{Records: 2, Signatures: map[string]int{"x": 1}, Problem: "record 1 holds no Predict request"}},
		{"too many", bytes.Repeat(predict("x"), MaxWarmupRecords+1), Warmup{Records: 1000, Signatures: map[string]int{"x": 1000}, Problem: "more than 1000 records"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Warmup{Signatures: map[string]int{}}
			must(t, got.read(bytes.NewReader(test.file)))
			got.Problem, _, _ = strings.Cut(got.Problem, ":") // protobuf's own text varies between builds
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzSavedModelFile(f *testing.F) {
	b, err := os.ReadFile("testdata/tiny/" + graphFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:1000])
	f.Add([]byte(message(&tfpb.SavedModel{MetaGraphs: []*tfpb.MetaGraphDef{{
		GraphDef:     &tfpb.GraphDef{Node: []*tfpb.NodeDef{{Op: "VarHandleOp"}}},
		SignatureDef: map[string]*tfpb.SignatureDef{"s": {Inputs: map[string]*tfpb.TensorInfo{"x": {}}}},
		AssetFileDef: []*tfpb.AssetFileDef{{Filename: "a"}},
	}}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		graphs, err := readGraphs(bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v is not ErrMalformed", err)
		}
		for _, g := range graphs {
			info := Info{Graphs: []MetaGraph{{Tags: g.def.GetMetaInfoDef().GetTags(), Signatures: signaturesOf(g.def)}}}
			if err := info.WriteText(new(bytes.Buffer)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func ExampleInfo_WriteText() {
	info, err := Inspect("testdata/tiny")
	if err != nil {
		fmt.Println(err)
		return
	}
	if info.Digest, err = Digest(context.Background(), "testdata/tiny"); err != nil {
		fmt.Println(err)
		return
	}
	if err := info.WriteText(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// version    testdata/tiny
	// complete   yes
	// digest     sha256:0aa07ba3beb64a480a22667f93a9b8f0a8694b60bfd6ce3e38fe76c512ad4775
	// graph file 30.6 kB
	//
	// graph      serve: written by TensorFlow 2.21.0, 23 nodes, 6 functions, 36 kinds of operation
	//   signature describe (tensorflow/serving/predict)
	//     in   text    string  []   describe_text:0
	//     out  labels  string  []   StatefulPartitionedCall:0
	//     out  parts   string  [N]  StatefulPartitionedCall:1
	//     out  runs    int64   []   StatefulPartitionedCall:2
	//     out  text    string  []   StatefulPartitionedCall:3
	//   signature serving_default (tensorflow/serving/predict)
	//     in   features  float32  [N, 4]  serving_default_features:0
	//     out  scores    float32  [N, 3]  StatefulPartitionedCall_1:0
	//
	// variables  4, 80 B in 1 shard
	//   weights  float32  [4, 3]  48 B
	//   bias     float32  [3]     12 B
	//   title    string   []      12 B
	//   runs     int64    []      8 B
	//
	// assets
	//   labels.txt  13 B  asset_path_initializer:0
	//
	// assets.extra
	//   tf_serving_warmup_requests  137 B
	//
	// warm-up    2 records: 1 to describe, 1 to serving_default
}

func TestShellWord(t *testing.T) {
	for path, want := range map[string]string{
		"models/m-1/0_2.x": "models/m-1/0_2.x",
		"":                 "''",
		"my models":        "'my models'",
		"it's; rm $x":      `'it'\''s; rm $x'`,
	} {
		if got := shellWord(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}
