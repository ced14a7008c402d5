package fallback

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
)

// serverOf returns a Server with a tiny local version in base, whose inceptor.yaml names the
// output; empty: without one.
func serverOf(t *testing.T, fake *remotetest.Fake, base string, change func(*remote.Config)) (*Server, *modeltest.Log) {
	t.Helper()
	c := localConfig(base)
	if base != "" {
		dir := filepath.Join(base, "1")
		modeltest.Tiny{Class: 1}.Write(t, dir)
		modeltest.Write(t, filepath.Join(dir, infer.SpecFile), []byte("input: {size: [2, 2]}\nlabels: labels.txt\noutput: scores\n"))
	}
	c.Backend = model.OnlyRemote
	r := remoteConfig(remotetest.Serve(t, fake))
	if change != nil {
		change(&r)
	}
	log := &modeltest.Log{}
	s, err := NewServer(c, r, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// anyVersion accepts any version of the server.
func anyVersion(c *remote.Config) { c.Version = remote.AnyVersion }

// A server that has the same network with other names answers, and so does one that forwards
// Predict alone.
func TestServerAnswers(t *testing.T) {
	for _, test := range []struct {
		name    string
		fake    func(*remotetest.Fake)
		version int64
		warning string
	}{
		{"as the spec says", func(*remotetest.Fake) {}, 1, ""},
		{"another output", func(f *remotetest.Fake) { f.Scores = "probabilities" }, 1, ""},
		{"Predict alone", func(f *remotetest.Fake) { f.PredictAlone = true }, remote.NoVersion, "model server reports neither metadata nor its version"},
		{"Predict alone, another output", func(f *remotetest.Fake) { f.PredictAlone, f.Scores = true, "probabilities" }, remote.NoVersion, "model server reports neither metadata nor its version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := remotetest.NewFake("tiny")
			fake.Classes = 2
			test.fake(fake)
			s, log := serverOf(t, fake, t.TempDir(), anyVersion)
			runBackend(t, s)
			if err := s.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				p, err := s.Classify(t.Context(), nil, modeltest.BlackImage)
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
			warned := log.Lines("level=WARN")
			if test.warning == "" && len(warned) > 0 || test.warning != "" && (len(warned) == 0 || !strings.Contains(warned[0], test.warning)) {
				t.Errorf("warned: %q", warned)
			}
		})
	}
}

// A fault of the server is reported by Serving and Check, and once in the log until it changes.
// When the fault is over, the server answers.
func TestServerProblems(t *testing.T) {
	for _, test := range []struct {
		name   string
		here   bool // there is a version
		broken func(*remotetest.Fake)
		want   string
	}{
		{"no fitting output", true, func(f *remotetest.Fake) { f.Scores, f.Classes = "probabilities", 5 },
			`the model on the server does not fit: signature "serving_bytes": output "probabilities": labels: 2 labels for 5 classes: the file needs a label for each class; for answers without labels, write "labels: ''" into `},
		{"labels", true, func(f *remotetest.Fake) { f.Classes = 5 },
			`the model on the server does not fit: signature "serving_bytes": output "scores": labels: 2 labels for 5 classes`},
		{"no fitting output, of a long name", true, func(f *remotetest.Fake) { f.Scores, f.Classes = strings.Repeat("x", 500_000), 5 },
			`signature "serving_bytes": output "xxx`},
		{"Predict alone, no fitting output, of a long name", true, func(f *remotetest.Fake) {
			f.Scores, f.PredictAlone, f.Classes = strings.Repeat("x", 500_000), true, 5
		}, `BadAnswer: it has no output "scores", only ["xxx`},
		{"no such model", true, func(f *remotetest.Fake) { f.Model = "other" },
			"NotFound: Servable not found for request"},
		{"Predict alone and no version here", false, func(f *remotetest.Fake) { f.PredictAlone = true },
			"Unimplemented: unknown method GetModelMetadata: so put a version into model.dir, to say what the model takes"},
		{"Predict alone, refuses", true, func(f *remotetest.Fake) {
			f.PredictAlone = true
			f.Fail(remotetest.InvalidArgument, "input tensor alias not found in signature: images")
		}, "InvalidArgument: input tensor alias not found in signature: images (and also for a blank record)"},
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
			base := ""
			if test.here {
				base = t.TempDir()
			}
			s, log := serverOf(t, fake, base, func(c *remote.Config) {
				c.Breaker.Failures = 1000
				c.Timeout, c.Budget = 4*time.Second, 4*time.Second // which calls that are tried again spend
			})
			t.Cleanup(s.Close)
			if _, err := s.Serving(); err == nil || !strings.Contains(err.Error(), "has not reported yet") {
				t.Errorf("before it was asked: %v", err)
			}
			for range 3 {
				s.probe(t.Context(), remote.NoVersion)
			}
			_, err := s.Serving()
			if !errors.Is(err, model.ErrNoVersion) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("serving: got  %.2000s\nwant %s", err, test.want)
			}
			if n := len(err.Error()); n > 1500 {
				t.Errorf("serving: an error of %d bytes", n)
			}
			if warned := log.Lines("model server cannot answer"); len(warned) != 1 || !strings.Contains(strings.ReplaceAll(warned[0], `\"`, `"`), test.want) {
				t.Errorf("warned %d times: %.2000q", len(warned), warned)
			}
			if _, err := s.Check(t.Context(), 1); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("check: got  %.2000s\nwant %s", err, test.want)
			}
		})
	}
}

// With fallback.version=same a server that does not report its version is an error, which names
// the setting to change.
func TestServerParityUnknown(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes, fake.PredictAlone = 2, true
	s, _ := serverOf(t, fake, t.TempDir(), nil)
	t.Cleanup(s.Close)
	s.probe(t.Context(), 1)
	_, err := s.serving(1)
	if want := "the server does not report its version, want 1: set fallback.version=any to accept that"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// An open breaker reports what has opened it.
func TestServerResting(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 2
	s, log := serverOf(t, fake, t.TempDir(), func(c *remote.Config) { c.Breaker.Open = time.Hour })
	t.Cleanup(s.Close)
	s.probe(t.Context(), remote.NoVersion)
	fake.Fail(remotetest.PermissionDenied, "quota of team A is spent")
	for range 5 {
		if _, err := s.Classify(t.Context(), nil, modeltest.BlackImage); err == nil || !strings.Contains(err.Error(), "quota of team A") {
			t.Errorf("got %v", err)
		}
	}
	s.probe(t.Context(), remote.NoVersion)
	if _, err := s.Serving(); err == nil || !strings.Contains(err.Error(), "quota of team A is spent") {
		t.Errorf("serving: %v", err)
	}
	if lines := log.Lines("not called"); len(lines) == 0 || !strings.Contains(lines[0], "quota of team A is spent") {
		t.Errorf("logged %q", lines)
	}
}

// No blank row is known. A server that does not report what it takes, and has accepted no row,
// cannot blame one.
func TestServerRowsAssumed(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes, fake.PredictAlone = 2, true
	c := localConfig(t.TempDir())
	modeltest.Tiny{Class: 1}.Write(t, filepath.Join(c.Dir, "1"))
	c.Backend, c.Content = model.OnlyRemote, infer.Rows
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
