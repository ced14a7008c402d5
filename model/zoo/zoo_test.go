//go:build !race

package zoo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// A specimen is a model of the zoo, loaded in one way, and what must come of it.
type specimen struct {
	model   string
	note    string            // tells specimens of the same model apart
	yaml    string            // of assets.extra/inceptor.yaml; empty: the version has none
	files   map[string]string // more files that are put into the version
	content model.Content
	reading string // that answers.json has; empty: default
	// pixels is where the status says that the scale of pixels is from; empty: the
	// model takes no pixels.
	pixels string
	// refused is the text of the gate's refusal, with DIR for the model's
	// directory; empty: the model works.
	refused string
	// refusedLike is a part of the refusal, where the rest is TensorFlow's.
	refusedLike string
	// within is how far a score may be from Python's; 0: 1e-4.
	within float64
	// not ends the name of a photo that is refused, besides
	// those that Python's answers have errors for.
	not string
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
	for _, s := range specimens {
		t.Run(s.name(), func(t *testing.T) {
			dir := s.place(t)
			for _, optimize := range []string{"auto", "off"} {
				t.Run(optimize, func(t *testing.T) { s.test(t, dir, optimize) })
			}
		})
	}
}

// TestZooIsWhole demands that no model of the zoo is left out.
func TestZooIsWhole(t *testing.T) {
	entries, err := os.ReadDir(testenv.Zoo(t))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{"photos": true}
	for _, s := range specimens {
		if tried[s.name()] {
			t.Errorf("%s: there are two of this name", s.name())
		}
		tried[s.model], tried[s.name()] = true, true
	}
	for _, e := range entries {
		if !tried[e.Name()] {
			t.Errorf("%s: no specimen is of this model", e.Name())
		}
	}
}

// place makes a base directory with the model as version 1, by links, and the
// specimen's own files.
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
	if s.refused != "" || s.refusedLike != "" {
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
	for _, want := range answers {
		content, err := s.record(want)
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.Classify(t.Context(), nil, content)
		name := cmp.Or(filepath.Base(want.File), want.Row)
		if want.Error != "" || s.not != "" && strings.HasSuffix(want.File, s.not) {
			var guilty *model.InputError
			if !errors.As(err, &guilty) {
				t.Errorf("%s: got %v, %v, Python says: %s", name, p.Classes, err, want.Error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkClasses(t, name, p.Classes, want.Classes, cmp.Or(s.within, 1e-4))
	}
}

// record is what is classified for an answer.
func (s specimen) record(want testenv.ZooAnswer) ([]byte, error) {
	switch {
	case want.Row == "":
		return os.ReadFile(want.File)
	case s.content == model.Examples:
		return want.Example, nil
	}
	return []byte(want.Row), nil
}

func (s specimen) checkRefused(t *testing.T, err error, dir string) {
	t.Helper()
	if err == nil {
		t.Fatalf("it works, want a refusal: %s", s.refused+s.refusedLike)
	}
	if gate := (*model.GateError)(nil); errors.As(err, &gate) {
		err = gate
	}
	got := strings.ReplaceAll(err.Error(), dir, "DIR")
	if s.refused != "" && got != s.refused || !strings.Contains(got, s.refusedLike) || strings.Contains(got, "\n") {
		t.Errorf("refused:\n%s\nwant:\n%s", got, s.refused+s.refusedLike)
	}
}

// checkTold demands that status and log tell of the preprocessing.
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
		t.Errorf("the status says %q of where the pixels' scale is from, want %q", got, s.pixels)
	}
	isAssumed := status.Preprocessing.ScaleFrom == assumed || status.Preprocessing.ResizeFrom == assumed
	told := strings.Contains(log, "level=WARN") && strings.Contains(log, "preprocessing is assumed")
	if isAssumed != (status.Assumed != "") || isAssumed != told {
		t.Errorf("assumed: %v, but the status says %q, and the log\n%s", isAssumed, status.Assumed, log)
	}
}

// near tells whether a score is as far from Python TensorFlow's as rounding
// explains: so much, or that part of a score that is no probability.
func near(got float32, want, within float64) bool {
	return math.Abs(float64(got)-want) <= within*max(1, math.Abs(want))
}

// checkClasses compares the best classes with Python's. Those whose scores are
// near each other may have changed places.
func checkClasses(t *testing.T, name string, got []model.Class, want []testenv.ZooClass, within float64) {
	t.Helper()
	if len(got) != min(5, len(want)) {
		t.Errorf("%s: %d classes, want %d", name, len(got), min(5, len(want)))
	}
	for i, c := range got {
		if !near(c.Score, want[min(i, len(want)-1)].Score, within) {
			t.Errorf("%s: the class at %d is %v, want %s", name, i, c, describe(want[i]))
		}
		found := false
		for _, w := range want {
			found = found || same(c, w, within)
		}
		if !found {
			t.Errorf("%s: %v at %d is not among Python's; the best is %s", name, c, i, describe(want[0]))
		}
	}
}

func same(c model.Class, want testenv.ZooClass, within float64) bool {
	if !near(c.Score, want.Score, within) {
		return false
	}
	if want.Label != nil {
		return c.Label == *want.Label && c.Index < 0
	}
	return c.Index == *want.Index
}

func describe(c testenv.ZooClass) string {
	b, _ := json.Marshal(c)
	return string(b)
}
