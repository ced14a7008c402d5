package model

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
)

// A logged keeps what is logged as a warning or worse.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// lines are those that hold this.
func (l *logged) lines(part string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, part) {
			lines = append(lines, line)
		}
	}
	return lines
}

// serverOf runs a Server of tiny versions here, whose spec names the output.
func serverOf(t *testing.T, fake *remotetest.Fake, here bool, change func(*remote.Config)) (*Server, *logged) {
	t.Helper()
	c := tinyConfig("")
	if here {
		c.Dir = t.TempDir()
		dir := filepath.Join(c.Dir, "1")
		tiny{class: 1}.write(t, dir)
		write(t, filepath.Join(dir, specFile), []byte("input: {size: [2, 2]}\nlabels: labels.txt\noutput: scores\n"))
	}
	c.Backend = OnlyRemote
	r := remoteConfig(remotetest.Serve(t, fake))
	if change != nil {
		change(&r)
	}
	log := &logged{}
	s, err := NewServer(c, r, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// anyVersion asks for whatever the server has.
func anyVersion(c *remote.Config) { c.Version = remote.AnyVersion }

// A server that holds the same network under other names answers, and so does
// one that passes nothing on but Predict.
func TestServerAnswers(t *testing.T) {
	for _, test := range []struct {
		name    string
		fake    func(*remotetest.Fake)
		version int64
		warning string
	}{
		{"as the spec says", func(*remotetest.Fake) {}, 1, ""},
		{"another output", func(f *remotetest.Fake) { f.Scores = "probabilities" }, 1, ""},
		{"Predict alone", func(f *remotetest.Fake) { f.PredictAlone = true }, remote.NoVersion, "model server has Predict alone"},
		{"Predict alone, another output", func(f *remotetest.Fake) { f.PredictAlone, f.Scores = true, "probabilities" }, remote.NoVersion, "model server has Predict alone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := remotetest.NewFake("tiny")
			fake.Classes = 2
			test.fake(fake)
			s, log := serverOf(t, fake, true, anyVersion)
			runBackend(t, s)
			if err := s.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				p, err := s.Classify(t.Context(), nil, blackPixel)
				if err != nil || p.Version != test.version || len(p.Classes) != 2 || p.Classes[0].Label == "" {
					t.Errorf("got %+v, %v", p, err)
				}
			}
			if info, err := s.Serving(); err != nil || info.Version != test.version {
				t.Errorf("serving: %v, %v", info, err)
			}
			if info, err := s.Check(t.Context(), 1); err != nil || info.Version != test.version {
				t.Errorf("check: %v, %v", info, err)
			}
			warned := log.lines("level=WARN")
			if test.warning == "" && len(warned) > 0 || test.warning != "" && (len(warned) == 0 || !strings.Contains(warned[0], test.warning)) {
				t.Errorf("warned: %q", warned)
			}
		})
	}
}

// What is wrong with a server is said: to whoever asks what serves, to check,
// and once in the log until it changes. When it is mended, it answers.
func TestServerProblems(t *testing.T) {
	for _, test := range []struct {
		name   string
		here   bool // there is a version
		broken func(*remotetest.Fake)
		want   string
	}{
		{"no fitting output", true, func(f *remotetest.Fake) { f.Scores, f.Classes = "probabilities", 5 },
			`what the model server has does not fit: signature "serving_bytes": output "probabilities": labels: 2 lines for 5 classes: the file needs a line for each class; for answers with numbers alone, write "labels: ''" into `},
		{"labels", true, func(f *remotetest.Fake) { f.Classes = 5 },
			`what the model server has does not fit: signature "serving_bytes": output "scores": labels: 2 lines for 5 classes`},
		{"no fitting output, of a long name", true, func(f *remotetest.Fake) { f.Scores, f.Classes = strings.Repeat("x", 500_000), 5 },
			`signature "serving_bytes": output "xxx`},
		{"Predict alone, no fitting output, of a long name", true, func(f *remotetest.Fake) {
			f.Scores, f.PredictAlone, f.Classes = strings.Repeat("x", 500_000), true, 5
		}, `BadAnswer: it has no output "scores", only ["xxx`},
		{"no such model", true, func(f *remotetest.Fake) { f.Model = "other" },
			"NotFound: Servable not found for request"},
		{"Predict alone and no version here", false, func(f *remotetest.Fake) { f.PredictAlone = true },
			"Unimplemented: unknown method GetModelMetadata: so a version in model.dir must tell what the model takes, and there is none"},
		{"Predict alone, refuses", true, func(f *remotetest.Fake) {
			f.PredictAlone = true
			f.Fail(remotetest.InvalidArgument, "input tensor alias not found in signature: images")
		}, "InvalidArgument: input tensor alias not found in signature: images (and so for a blank one)"},
		{"Predict alone, other classes", true, func(f *remotetest.Fake) { f.PredictAlone, f.Classes = true, 5 },
			`BadAnswer: output "scores" has 5 classes, want 2`},
		{"not there", true, func(f *remotetest.Fake) {
			f.Fail(remotetest.Unavailable, "upstream connect error")
			f.PredictAlone = true
		},
			"Unavailable: upstream connect error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := remotetest.NewFake("tiny")
			fake.Classes = 2
			test.broken(fake)
			s, log := serverOf(t, fake, test.here, func(c *remote.Config) { c.Breaker.Failures = 1000 })
			t.Cleanup(s.Close)
			if _, err := s.Serving(); err == nil || !strings.Contains(err.Error(), "has not told yet") {
				t.Errorf("before it was asked: %v", err)
			}
			for range 3 {
				s.probe(t.Context(), remote.NoVersion)
			}
			_, err := s.Serving()
			if !errors.Is(err, ErrNoVersion) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("serving: got  %.2000s\nwant %s", err, test.want)
			}
			if n := len(err.Error()); n > 1500 {
				t.Errorf("serving: an error of %d bytes", n)
			}
			if warned := log.lines("model server cannot answer"); len(warned) != 1 || !strings.Contains(strings.ReplaceAll(warned[0], `\"`, `"`), test.want) {
				t.Errorf("warned %d times: %.2000q", len(warned), warned)
			}
			if _, err := s.Check(t.Context(), 1); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("check: got  %.2000s\nwant %s", err, test.want)
			}
		})
	}
}

// With fallback.version=same a server that does not tell its version answers
// nothing, and says what would let it.
func TestServerParityUnknown(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes, fake.PredictAlone = 2, true
	s, _ := serverOf(t, fake, true, nil)
	t.Cleanup(s.Close)
	s.probe(t.Context(), 1)
	_, err := s.serving(1)
	if want := "the server does not tell its version, want 1: with fallback.version=any it may answer"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A breaker that is open tells what has opened it.
func TestServerResting(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 2
	s, log := serverOf(t, fake, true, func(c *remote.Config) { c.Breaker.Open = time.Hour })
	t.Cleanup(s.Close)
	s.probe(t.Context(), remote.NoVersion)
	fake.Fail(remotetest.PermissionDenied, "quota of team A is spent")
	for range 5 {
		if _, err := s.Classify(t.Context(), nil, blackPixel); err == nil || !strings.Contains(err.Error(), "quota of team A") {
			t.Errorf("got %v", err)
		}
	}
	s.probe(t.Context(), remote.NoVersion)
	if _, err := s.Serving(); err == nil || !strings.Contains(err.Error(), "quota of team A is spent") {
		t.Errorf("serving: %v", err)
	}
	if lines := log.lines("not called"); len(lines) == 0 || !strings.Contains(lines[0], "quota of team A is spent") {
		t.Errorf("logged %q", lines)
	}
}

// Which output has the scores, where the spec's is not there.
func TestBindServer(t *testing.T) {
	images := map[string]savedmodel.TensorInfo{"x": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 2, 2, 3}}}
	float := func(shape ...int64) savedmodel.TensorInfo {
		return savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: shape}
	}
	words := savedmodel.TensorInfo{DType: savedmodel.String, Shape: savedmodel.Shape{-1, 5}}
	for _, test := range []struct {
		name    string
		output  string
		outputs map[string]savedmodel.TensorInfo
		labels  int
		want    string // empty: an error
	}{
		{"the spec's", "scores", map[string]savedmodel.TensorInfo{"scores": float(-1, 5), "other": float(-1, 5)}, 5, "scores"},
		{"the only one", "scores", map[string]savedmodel.TensorInfo{"probabilities": float(-1, 5)}, 5, "probabilities"},
		{"the only float one", "scores", map[string]savedmodel.TensorInfo{"classes": words, "probabilities": float(-1, 5)}, 5, "probabilities"},
		{"the only one of the shape", "scores", map[string]savedmodel.TensorInfo{"features": float(-1, 2048), "probabilities": float(-1, 5)}, 5, "probabilities"},
		{"the only one of the rank", "", map[string]savedmodel.TensorInfo{"grid": float(-1, 8, 8, 5), "probabilities": float(-1, 5)}, 0, "probabilities"},
		{"unknown classes", "scores", map[string]savedmodel.TensorInfo{"probabilities": float(-1, -1)}, 5, "probabilities"},
		{"two that fit", "scores", map[string]savedmodel.TensorInfo{"a": float(-1, 5), "b": float(-1, 5)}, 5, ""},
		{"none that fits", "scores", map[string]savedmodel.TensorInfo{"a": float(-1, 7)}, 5, ""},
		{"none", "scores", nil, 5, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := defaultSpec()
			spec.Output.Scores = test.output
			signatures := map[string]savedmodel.Signature{"serving_default": {Inputs: images, Outputs: test.outputs}}
			sig, err := spec.bindServer(offer{signatures: signatures, server: true, labels: test.labels}, Images)
			if sig.Output.Scores != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", sig.Output.Scores, err, test.want)
			}
		})
	}
}

// Of rows no blank one is known: a server that does not tell what it takes, and
// has taken none, does not get them blamed.
func TestServerRowsAssumed(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes, fake.PredictAlone = 2, true
	c := tinyConfig(t.TempDir())
	tiny{class: 1}.write(t, filepath.Join(c.Dir, "1"))
	c.Backend, c.Content = OnlyRemote, Rows
	r := remoteConfig(remotetest.Serve(t, fake))
	anyVersion(&r)
	s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	row := func(first int) []byte {
		return fmt.Appendf(nil, "[[[%d,0,0],[0,0,0]],[[0,0,0],[0,0,0]]]", first)
	}
	if _, err := s.Classify(t.Context(), nil, row(remotetest.Poison)); err == nil || !mayPass(err) {
		t.Errorf("refused before any was taken: %v", err)
	}
	if p, err := s.Classify(t.Context(), nil, row(1)); err != nil || len(p.Classes) != 2 || p.Classes[0].Score != 1 || p.Scores != nil {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := s.Classify(t.Context(), nil, row(remotetest.Poison)); err == nil || mayPass(err) {
		t.Errorf("refused, though another was taken: %v", err)
	}
}
