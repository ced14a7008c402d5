package model

import (
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel/tfpb"
)

// loadMeans loads the one version in base, and returns what the log says.
func loadMeans(t *testing.T, base string) (*Manager, *modeltest.Log, error) {
	t.Helper()
	modeltest.OpenLibrary(t)
	log := &modeltest.Log{}
	m := newManager(t, tinyConfig(base), log)
	return m, log, m.Load(t.Context())
}

func newManager(t *testing.T, c Config, log *modeltest.Log) *Manager {
	t.Helper()
	m, err := New(c, slog.New(slog.NewTextHandler(log, nil)), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// redOf returns the score of red for an image.
func redOf(t *testing.T, m *Manager, image []byte) (float64, infer.Prediction) {
	t.Helper()
	p, err := m.Classify(t.Context(), nil, image)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Classes, func(c infer.Class) bool { return c.Index == 0 })
	return float64(p.Classes[i].Score), p
}

// A model is fed black and white images by its evidence or by convention, which status and log call
// assumed.
func TestPixelsOfModels(t *testing.T) {
	for name, test := range map[string]struct {
		model        modeltest.Means
		yaml         string
		black, white float64 // what the model is fed
		from         infer.Origin
	}{
		"nothing said":                  {modeltest.Means{}, "", -1, 1, infer.OriginAssumed},
		"a file that says other things": {modeltest.Means{}, "top_k: 10", -1, 1, infer.OriginAssumed},
		"scale written":                 {modeltest.Means{}, "input: {scale: 1}", 0, 255, infer.OriginFile},
		"offset written":                {modeltest.Means{}, "input: {offset: -117}", -117, 138, infer.OriginFile},
		"uint8":                         {modeltest.Means{Dtype: tfpb.DataType_DT_UINT8}, "", 0, 255, infer.OriginGraph},
		"uint8, a file":                 {modeltest.Means{Dtype: tfpb.DataType_DT_UINT8}, "top_k: 2", 0, 255, infer.OriginGraph},
		"the graph makes −1…1":          {modeltest.Means{Scale: 1 / 127.5, Offset: -1}, "", -1, 1, infer.OriginGraph},
		"the graph takes 0…1":           {modeltest.Means{Scale: 2, Offset: -1}, "", -1, 1, infer.OriginGraph},
		"against the graph":             {modeltest.Means{Scale: 2, Offset: -1}, "input: {scale: 1}", -1, 509, infer.OriginFile},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			test.model.Write(t, dir, test.yaml)
			m, log, err := loadMeans(t, base)
			if err != nil {
				t.Fatal(err)
			}
			black, p := redOf(t, m, modeltest.BlackImage)
			white, _ := redOf(t, m, modeltest.WhiteImage)
			if math.Abs(black-test.black) > 1e-4 || math.Abs(white-test.white) > 1e-4 {
				t.Errorf("black is %v and white is %v, want %v and %v", black, white, test.black, test.white)
			}
			status := m.Versions()[0]
			if status.Preprocessing == nil || status.Preprocessing.ScaleFrom != test.from || status.Assumed != p.Assumed {
				t.Errorf("status: %+v, %q; a prediction tells %q", status.Preprocessing, status.Assumed, p.Assumed)
			}
			for where, text := range map[string]string{"status": status.Assumed, "log": strings.Join(log.Lines("level=WARN"), "")} {
				if told := strings.Contains(text, "pixels −1…1"); told != (test.from == infer.OriginAssumed) {
					t.Errorf("the %s says %q", where, text)
				}
				if !strings.Contains(text, "no half-pixel centers are assumed, not stated by the model") || !strings.Contains(text, filepath.Join(dir, infer.SpecFile)) {
					t.Errorf("the %s does not tell what of the resize is assumed, and where to state it: %q", where, text)
				}
			}
			if contradicts := len(log.Lines("contradicts the model")) > 0; contradicts != (name == "against the graph") {
				t.Errorf("told as a contradiction: %v", contradicts)
			}
		})
	}
}

// A version that states all of its preprocessing causes no warning.
func TestNothingAssumed(t *testing.T) {
	base := t.TempDir()
	modeltest.Means{}.Write(t, filepath.Join(base, "1"), "input: {scale: 1, half_pixel_centers: false}")
	m, log, err := loadMeans(t, base)
	if err != nil {
		t.Fatal(err)
	}
	_, p := redOf(t, m, modeltest.BlackImage)
	if status := m.Versions()[0]; status.Assumed != "" || p.Assumed != "" || len(log.Lines("level=WARN")) > 0 {
		t.Errorf("status %q, prediction %q, log %q", status.Assumed, p.Assumed, log.Lines("level=WARN"))
	}
}

// If nothing says which pixels a model takes, golden images decide. If they pass with no
// convention, the version is refused, and the error says how each failed.
func TestGoldenMeasures(t *testing.T) {
	for name, test := range map[string]struct {
		yaml    string
		floor   float64 // of red in a white image
		want    float64 // its score
		from    infer.Origin
		refused []string
	}{
		"one passes":     {"", 200, 255, infer.OriginMeasured, nil},
		"several pass":   {"", 0.5, 1, infer.OriginAssumed, nil},
		"none passes":    {"", 300, 0, "", []string{"pixels −1…1: white.bmp is \"red\" with 1, want", "pixels 0…255: white.bmp is \"red\" with 255", `write "input: {scale: …, mean: …, std: …}"`}},
		"scale is known": {"labels: labels.txt\ninput: {scale: 0.00392156862745098}", 200, 0, "", []string{`white.bmp is "red" with 1, want "red" with at least 200`}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			modeltest.Means{}.Write(t, dir, test.yaml)
			modeltest.Write(t, filepath.Join(dir, infer.GoldenFile), fmt.Appendf(nil, "- {image: white.bmp, label: red, floor: %v}\n", test.floor))
			modeltest.Write(t, filepath.Join(dir, filepath.Dir(infer.GoldenFile), "white.bmp"), modeltest.WhiteImage)
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
			got, p := redOf(t, m, modeltest.WhiteImage)
			if status := m.Versions()[0]; math.Abs(got-test.want) > 1e-4 || status.Preprocessing.ScaleFrom != test.from || strings.Contains(p.Assumed, "pixels −1…1") != (test.from == infer.OriginAssumed) {
				t.Errorf("white is %v, want %v; %v, %q", got, test.want, status.Preprocessing, p.Assumed)
			}
		})
	}
}

// An Explanation agrees with a load.
func TestExplainIsWhatIsLoaded(t *testing.T) {
	for name, yaml := range map[string]string{
		"nothing said": "",
		"all said":     "input: {scale: 2, offset: 1, half_pixel_centers: true}",
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			modeltest.Means{}.Write(t, dir, yaml)
			m, _, err := loadMeans(t, base)
			if err != nil {
				t.Fatal(err)
			}
			loaded, told := m.Versions()[0], infer.Explain(dir, infer.Images, infer.SpecOverrides{})
			if diff := cmp.Diff(loaded.Preprocessing, told.Preprocessing, cmpopts.IgnoreUnexported(infer.Preprocessing{})); diff != "" {
				t.Errorf("(-loaded +explained):\n%s", diff)
			}
			if notes := strings.Join(told.Notes, "; "); !strings.Contains(notes, loaded.Assumed) || loaded.Assumed == "" != (yaml != "") {
				t.Errorf("notes %q, the load tells %q", notes, loaded.Assumed)
			}
		})
	}
}
