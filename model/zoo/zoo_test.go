//go:build !race

package zoo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

var nightly = flag.Bool("nightly", false, "TestZoo without optimization for every specimen, not only the first of a model that is served")

// A specimen is a model of the zoo, loaded in one way, with the expected result.
type specimen struct {
	model   string
	note    string            // distinguishes specimens of the same model
	yaml    string            // of assets.extra/inceptor.yaml; empty: the version has none
	files   map[string]string // that are added to the version
	content infer.Content
	reading string // of answers.json; empty: default
	// pixels is the origin of the pixels' scale in the status; empty: the model takes no pixels.
	pixels string
	// refused is the error of the gate, with DIR for the model's directory; empty: the model
	// works.
	refused string
	// refusedLike is a part of that error, if the rest is TensorFlow's.
	refusedLike string
	// not is the end of the name of a photo that is refused, besides those that Python refuses.
	not string
	// within is how far scores may be from Python's; 0: 1e-4. A model that computes in 16 bits
	// rounds the results of each layer, so they depend on the order of operations.
	within float64
	// label returns the label of the class at an index; nil: labels are not compared.
	label func(index int) string
}

func (s specimen) name() string {
	if s.note == "" {
		return s.model
	}
	return s.model + "," + s.note
}

func TestZoo(t *testing.T) {
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	warm(t)
	tried := map[string]bool{} // models that were run without optimization
	for _, s := range specimens {
		t.Run(s.name(), func(t *testing.T) {
			dir := s.place(t)
			t.Run("auto", func(t *testing.T) { s.test(t, dir, "auto") })
			if *nightly || !tried[s.model] && s.works() {
				t.Run("off", func(t *testing.T) { s.test(t, dir, "off") })
			}
		})
		tried[s.model] = tried[s.model] || s.works()
	}
}

func (s specimen) works() bool { return s.refused == "" && s.refusedLike == "" }

// The table has all models of the zoo.
func TestZooIsWhole(t *testing.T) {
	entries, err := os.ReadDir(testenv.Zoo(t))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{"photos": true}
	for _, s := range specimens {
		if tried[s.name()] {
			t.Errorf("%s: two specimens have this name", s.name())
		}
		tried[s.model], tried[s.name()] = true, true
	}
	for _, e := range entries {
		if !tried[e.Name()] {
			t.Errorf("%s: no specimen is of this model", e.Name())
		}
	}
}

// place makes a base directory with links to the model as version 1, and with the specimen's
// files.
func (s specimen) place(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	from, to := filepath.Join(testenv.Zoo(t), s.model, "1"), filepath.Join(base, "1")
	files := map[string]string{}
	for name, content := range s.files {
		files[name] = content
	}
	if s.yaml != "" {
		files["assets.extra/inceptor.yaml"] = s.yaml
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return os.Symlink(path, target)
	})
	for name, content := range files {
		path := filepath.Join(to, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// gateTimeout is model.gate.timeout for all.
const gateTimeout = 2 * time.Minute

func (s specimen) test(t *testing.T, dir, optimize string) {
	var log bytes.Buffer
	m, err := model.New(model.Config{Name: "zoo", Dir: dir, MaxPixels: 40e6, Optimize: optimize, Content: s.content,
		Poll: time.Second, Gate: model.Gate{Timeout: gateTimeout}}, slog.New(slog.NewTextHandler(&log, nil)), model.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = s.load(t, m, dir)
	if !s.works() {
		s.checkRefused(t, err, dir)
		return
	}
	if err != nil {
		t.Fatal(strings.ReplaceAll(err.Error(), dir, "DIR"))
	}
	s.checkTold(t, m, log.String())
	answers, ok := testenv.ZooAnswers(t, s.model)[cmp.Or(s.reading, "default")]
	if !ok {
		t.Fatalf("answers.json has no reading %q", s.reading)
	}
	// All at once, so that they run in batches: each must get its own answer.
	var asked sync.WaitGroup
	for _, want := range answers {
		asked.Go(func() { s.ask(t, m, want) })
	}
	asked.Wait()
}

// ask classifies a photo or row, and compares the answer with Python's.
func (s specimen) ask(t *testing.T, m *model.Manager, want testenv.ZooAnswer) {
	content, err := s.record(want)
	if err != nil {
		t.Error(err)
		return
	}
	p, err := m.Classify(t.Context(), nil, content)
	name := cmp.Or(want.Row, filepath.Base(want.File))
	if want.Error != "" || s.not != "" && strings.HasSuffix(want.File, s.not) {
		var guilty *infer.InputError
		if !errors.As(err, &guilty) {
			t.Errorf("%s: got %v, %v, Python says: %s", name, p.Classes, err, want.Error)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	s.checkClasses(t, name, p.Classes, want.Classes)
	for _, c := range p.Classes {
		if s.label != nil && c.Label != s.label(c.Index) {
			t.Errorf("%s: the class %d has the label %q, want %q", name, c.Index, c.Label, s.label(c.Index))
		}
	}
	s.checkOutputs(t, name, p, want.Outputs)
}

// record returns the record to classify for an answer.
func (s specimen) record(want testenv.ZooAnswer) ([]byte, error) {
	switch {
	case want.Row == "":
		return os.ReadFile(want.File)
	case s.content == infer.Examples:
		return want.Example, nil
	}
	return []byte(want.Row), nil
}

func (s specimen) checkRefused(t *testing.T, err error, dir string) {
	t.Helper()
	if err == nil {
		t.Fatalf("it works, want a refusal: %s", s.refused+s.refusedLike)
	}
	if gate := (*infer.GateError)(nil); errors.As(err, &gate) {
		err = gate
	}
	got := strings.ReplaceAll(err.Error(), dir, "DIR")
	if s.refused != "" && got != s.refused || !strings.Contains(got, s.refusedLike) || strings.Contains(got, "\n") {
		t.Errorf("refused:\n%s\nwant:\n%s", got, s.refused+s.refusedLike)
	}
}

// checkTold checks that status and log report assumed preprocessing.
func (s specimen) checkTold(t *testing.T, m *model.Manager, log string) {
	t.Helper()
	b, err := json.Marshal(m.Versions()[0])
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Preprocessing struct {
			ScaleFrom  string `json:"scale_from"`
			ResizeFrom string `json:"resize_from"`
		}
		Assumed string
	}
	if err := json.Unmarshal(b, &status); err != nil {
		t.Fatal(err)
	}
	if got := status.Preprocessing.ScaleFrom; got != s.pixels {
		t.Errorf("the status has %q as the origin of the pixels' scale, want %q", got, s.pixels)
	}
	isAssumed := status.Preprocessing.ScaleFrom == assumed || status.Preprocessing.ResizeFrom == assumed
	told := strings.Contains(log, "level=WARN") && strings.Contains(log, "preprocessing is assumed")
	if isAssumed != (status.Assumed != "") || isAssumed != told {
		t.Errorf("assumed: %v, but the status says %q, and the log\n%s", isAssumed, status.Assumed, log)
	}
}

// near tells whether rounding explains the difference from Python TensorFlow's score: 1e-4, or
// that fraction of a score over 1.
func (s specimen) near(got float32, want float64) bool {
	return math.Abs(float64(got)-want) <= cmp.Or(s.within, 1e-4)*max(1, math.Abs(want))
}

// checkClasses compares the best classes with Python's. Classes with nearly equal scores may be in
// another order.
func (s specimen) checkClasses(t *testing.T, name string, got []infer.Class, want []testenv.ZooClass) {
	t.Helper()
	if len(got) != min(5, len(want)) {
		t.Errorf("%s: %d classes, want %d", name, len(got), min(5, len(want)))
	}
	for i, c := range got {
		if !s.near(c.Score, want[min(i, len(want)-1)].Score) {
			t.Errorf("%s: the class at %d is %v, want %s", name, i, c, describe(want[i]))
		}
		found := false
		for _, w := range want {
			found = found || s.same(c, w)
		}
		if !found {
			t.Errorf("%s: %v at %d is not among Python's; the best is %s", name, c, i, describe(want[0]))
		}
	}
}

func (s specimen) same(c infer.Class, want testenv.ZooClass) bool {
	if !s.near(c.Score, want.Score) {
		return false
	}
	if want.Label != nil {
		return c.Label == *want.Label && c.Index < 0
	}
	return c.Index == *want.Index
}

// checkOutputs compares the named arrays of an answer with Python's.
func (s specimen) checkOutputs(t *testing.T, name string, p infer.Prediction, want map[string]any) {
	t.Helper()
	got := map[string][]any{}
	for _, array := range p.Outputs {
		got[array.Key] = elements(array)
	}
	if p.Output != "" {
		for _, score := range p.Scores {
			got[p.Output] = append(got[p.Output], float64(score))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: the outputs are %q, want %q", name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	for key, array := range want {
		all := flat(array)
		if len(got[key]) != len(all) {
			t.Errorf("%s: the output %q has %d elements, want %d", name, key, len(got[key]), len(all))
			continue
		}
		for i, value := range all {
			number, is := value.(float64)
			if g, isToo := got[key][i].(float64); is != isToo || is && !s.near(float32(g), number) || !is && got[key][i] != value {
				t.Errorf("%s: the output %q has %v at %d, want %v", name, key, got[key][i], i, value)
				break
			}
		}
	}
}

// elements returns an array's elements, as JSON has them.
func elements(array infer.Array) []any {
	all := make([]any, array.Len())
	for i := range all {
		switch {
		case array.DType == savedmodel.String:
			all[i] = string(array.Strings[i])
		case array.DType == savedmodel.Bool:
			all[i] = array.Integer(i) != 0
		case array.DType.IsInteger():
			all[i] = float64(array.Integer(i))
		default:
			all[i] = array.Float(i)
		}
	}
	return all
}

// flat returns the elements of a nested list, in order.
func flat(value any) []any {
	list, ok := value.([]any)
	if !ok {
		return []any{value}
	}
	var all []any
	for _, v := range list {
		all = append(all, flat(v)...)
	}
	return all
}

func describe(c testenv.ZooClass) string {
	b, _ := json.Marshal(c)
	return string(b)
}
