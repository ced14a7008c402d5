package savedmodel

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// load opens a model until the test ends.
func load(tb testing.TB, dir string) *Model {
	tb.Helper()
	openLibrary(tb)
	m, err := Load(tb.Context(), dir, Options{})
	must(tb, err)
	tb.Cleanup(func() { must(tb, m.Close()) })
	return m
}

// wantScores computes the scores of testdata/tiny.
func wantScores(features []float32) []float32 {
	bias := []float64{0.5, -0.5, 0}
	sum := 0.0
	for j := range bias {
		for i, f := range features {
			bias[j] += float64(f) * float64(3*i+j)
		}
	}
	for j := range bias {
		bias[j] = math.Exp(bias[j])
		sum += bias[j]
	}
	scores := make([]float32, len(bias))
	for j := range bias {
		scores[j] = float32(bias[j] / sum)
	}
	return scores
}

func near(got, want []float32) bool {
	return slices.EqualFunc(got, want, func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-5 })
}

func TestLoad(t *testing.T) {
	m := load(t, "testdata/tiny")
	info, err := Inspect("testdata/tiny")
	must(t, err)
	want, _ := info.Graph("serve")
	if diff := cmp.Diff(want.Signatures, m.Signatures); diff != "" {
		t.Errorf("not the signatures that Inspect sees (-inspect +load):\n%s", diff)
	}
	if !slices.Equal(m.Tags, []string{"serve"}) {
		t.Errorf("tags %q", m.Tags)
	}

	features := []float32{0.1, -0.2, 0.3, 0.4, 0, 0, 0, 0}
	out, err := m.Run(t.Context(), "serving_default", map[string]*Tensor{"features": tensorOf(t, Float32, features, 2, 4)})
	must(t, err)
	defer out["scores"].Close()
	got, err := Data[float32](out["scores"])
	must(t, err)
	if want := slices.Concat(wantScores(features[:4]), wantScores(features[4:])); len(out) != 1 || !near(got, want) {
		t.Errorf("scores %v, want %v", got, want)
	}

	text := stringsOf(t, [][]byte{[]byte("ab cd")})
	out, err = m.Run(t.Context(), "describe", map[string]*Tensor{"text": text})
	must(t, err)
	answers := map[string]string{}
	for key, tensor := range out {
		defer tensor.Close()
		if key == "runs" {
			runs, err := Data[int64](tensor)
			if err != nil || !slices.Equal(runs, []int64{7}) {
				t.Errorf("runs %v, %v", runs, err)
			}
			continue
		}
		values, err := tensor.Strings()
		must(t, err)
		for _, v := range values {
			answers[key] += "|" + string(v)
		}
	}
	wantAnswers := map[string]string{"text": "|größe: ab cd", "labels": "|cat\ndog\nfish\n", "parts": "|ab|cd"}
	if diff := cmp.Diff(wantAnswers, answers); diff != "" {
		t.Errorf("describe (-want +got):\n%s", diff)
	}
}

func TestLoadErrors(t *testing.T) {
	openLibrary(t)
	damaged := func(change func(dir string)) string {
		dir := copyTiny(t)
		change(dir)
		return dir
	}
	const anyCode Code = -1
	data := filepath.Join("variables", "variables.data-00000-of-00001")
	tests := []struct {
		name string
		dir  string
		tags []string
		code Code
	}{
		{"missing", filepath.Join(t.TempDir(), "none"), nil, NotFound},
		{"empty name", "", nil, NotFound},
		{"empty folder", t.TempDir(), nil, NotFound},
		{"file", "testdata/tiny/saved_model.pb", nil, NotFound},
		{"tags", "testdata/tiny", []string{"serve", "gpu"}, NotFound},
		{"no graph", damaged(func(dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "saved_model.pb"), []byte("no graph"), 0o600))
		}), nil, anyCode},
		{"no shard", damaged(func(dir string) { must(t, os.Remove(filepath.Join(dir, data))) }), nil, NotFound},
		{"short shard", damaged(func(dir string) { must(t, os.Truncate(filepath.Join(dir, data), 100)) }), nil, ctf.OutOfRange},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(t.Context(), test.dir, Options{Tags: test.tags})
			var status *Error
			if !errors.As(err, &status) || test.code != anyCode && status.Code != test.code || status.Message == "" {
				t.Errorf("got %v, want %v", err, test.code)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "load "+test.dir+": ") {
				t.Errorf("error does not begin with the folder: %v", err)
			}
		})
	}
}

func TestModelRunNames(t *testing.T) {
	m := load(t, "testdata/tiny")
	features := tensorOf(t, Float32, make([]float32, 4), 1, 4)
	tests := []struct {
		name, signature string
		inputs          map[string]*Tensor
		want            string
	}{
		{"signature", "nothing", nil, `model has no signature "nothing", only ["describe" "serving_default"]`},
		{"missing", "serving_default", nil, `signature "serving_default": no tensor for input "features"`},
		{"nil", "serving_default", map[string]*Tensor{"features": nil}, `signature "serving_default": no tensor for input "features"`},
		{"wrong", "serving_default", map[string]*Tensor{"feature": features}, `signature "serving_default": no tensor for input "features"`},
		{
			"extra", "serving_default", map[string]*Tensor{"features": features, "more": features},
			`signature "serving_default" takes the inputs ["features"], not ["features" "more"]`,
		},
		{
			"dtype", "describe", map[string]*Tensor{"text": features},
			`signature "describe": input "text" is float32, not string`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := m.Run(t.Context(), test.signature, test.inputs)
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	t.Run("shape", func(t *testing.T) {
		_, err := m.Run(t.Context(), "serving_default", map[string]*Tensor{"features": tensorOf(t, Float32, make([]float32, 5), 1, 5)})
		var status *Error
		if !errors.As(err, &status) || status.Code != InvalidArgument || !strings.HasPrefix(err.Error(), `signature "serving_default": `) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("functions", func(t *testing.T) {
		for _, names := range [][2]string{{"features", "classes"}, {"image", "scores"}} {
			_, err := m.SignatureFunction("serving_default", names[:1], names[1:])
			if err == nil || !strings.Contains(err.Error(), "is unknown; there are [") {
				t.Errorf("%v: %v", names, err)
			}
		}
		m := &Model{Session: m.Session, Signatures: map[string]Signature{"sparse": {Inputs: map[string]TensorInfo{"x": {Encoding: "coo_sparse"}}}}}
		_, err := m.SignatureFunction("sparse", []string{"x"}, nil)
		if err == nil || err.Error() != `signature "sparse": input "x" is coo_sparse, not one dense tensor` {
			t.Errorf("sparse input: %v", err)
		}
	})
}

func TestModelClosed(t *testing.T) {
	openLibrary(t)
	m, err := Load(t.Context(), "testdata/tiny", Options{OwnThreads: true, IntraOpThreads: 1, InterOpThreads: 1})
	must(t, err)
	f, err := m.SignatureFunction("serving_default", []string{"features"}, []string{"scores"})
	must(t, err)
	must(t, m.Close())
	must(t, m.Close())
	features := tensorOf(t, Float32, make([]float32, 4), 1, 4)
	if _, err := f.Run(t.Context(), features); !errors.Is(err, ErrClosed) {
		t.Errorf("function: %v", err)
	}
	if _, err := m.Run(t.Context(), "serving_default", map[string]*Tensor{"features": features}); !errors.Is(err, ErrClosed) {
		t.Errorf("model: %v", err)
	}
}

func TestSignatureFunctionConcurrently(t *testing.T) {
	m := load(t, "testdata/tiny")
	f, err := m.SignatureFunction("serving_default", []string{"features"}, []string{"scores"})
	must(t, err)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			features := []float32{float32(g) / 10, -0.1, 0.2, 0}
			in := tensorOf(t, Float32, features, 1, 4)
			for range 50 {
				out, err := f.Run(t.Context(), in)
				if err != nil {
					t.Error(err)
					return
				}
				if got, _ := Data[float32](out[0]); !near(got, wantScores(features)) {
					t.Errorf("scores %v, want %v", got, wantScores(features))
				}
				out[0].Close()
			}
		})
	}
	group.Wait()
}

// Reloads must not make the process grow. A model with many functions loads slowly, so it is loaded
// fewer times.
func TestReloadMemory(t *testing.T) {
	openLibrary(t)
	plain := t.TempDir()
	b, err := proto.Marshal(&tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}},
		GraphDef:    &tfpb.GraphDef{Node: []*tfpb.NodeDef{node("in", "Placeholder", Float32), node("out", "Neg", Float32, "in")}},
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			Inputs:  map[string]*tfpb.TensorInfo{"features": {Encoding: &tfpb.TensorInfo_Name{Name: "in:0"}}},
			Outputs: map[string]*tfpb.TensorInfo{"scores": {Encoding: &tfpb.TensorInfo_Name{Name: "out:0"}}},
		}},
	}}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(plain, "saved_model.pb"), b, 0o600))

	in := tensorOf(t, Float32, make([]float32, 4), 1, 4)
	for _, test := range []struct {
		name, dir   string
		times, most int // reloads, and bytes that they may cost
	}{
		{"functions and variables", "testdata/tiny", 60, 6 << 20},
		{"plain", plain, 300, 6 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			once := func() {
				m, err := Load(t.Context(), test.dir, Options{})
				must(t, err)
				defer m.Close()
				f, err := m.SignatureFunction("serving_default", []string{"features"}, []string{"scores"})
				must(t, err)
				out, err := f.Run(t.Context(), in)
				must(t, err)
				out[0].Close()
			}
			for range 20 {
				once()
			}
			before := resident(t)
			for range test.times {
				once()
			}
			grown := resident(t) - before
			t.Logf("resident %d MiB, %+d KiB in %d reloads", before>>20, grown>>10, test.times)
			if grown > test.most {
				t.Errorf("resident memory grew by %d MiB", grown>>20)
			}
		})
	}
}

func TestInception(t *testing.T) {
	m := load(t, filepath.Join(testenv.Model(t), "1"))
	sig, err := m.Signature("serving_default")
	must(t, err)
	inputs := map[string]*Tensor{}
	for key, info := range sig.Inputs {
		shape := slices.Clone(info.Shape)
		for i := range shape {
			shape[i] = max(shape[i], 1)
		}
		x, err := NewTensor(info.DType, shape...)
		must(t, err)
		defer x.Close()
		clear(x.Bytes())
		inputs[key] = x
	}
	out, err := m.Run(t.Context(), "serving_default", inputs)
	must(t, err)
	for key, y := range out {
		defer y.Close()
		scores, err := Data[float32](y)
		must(t, err)
		sum := float32(0)
		for _, s := range scores {
			sum += s
		}
		if len(scores) < 2 || math.Abs(float64(sum)-1) > 1e-4 {
			t.Errorf("%s: the scores %v are no probabilities", key, scores)
		}
	}
}
