package model

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/savedmodel"
)

func TestScan(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"10", "9", "002", "2", "+3", "-0", "1_1", "99999999999999999999", "1.tmp", "-3", ".2", "x"} {
		write(t, filepath.Join(base, name, "saved_model.pb"), nil)
	}
	write(t, filepath.Join(base, "4", "other"), nil)
	write(t, filepath.Join(base, "11", "saved_model.pbtxt"), nil)
	write(t, filepath.Join(base, "5"), nil)
	link(t, "saved_model.pb", filepath.Join(base, "7", "saved_model.pb"))
	found, err := scan(base)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range found {
		got = append(got, filepath.Base(c.dir))
	}
	// 7 and 11 cannot be read: they are refused, not overlooked.
	if diff := cmp.Diff([]string{"2", "7", "9", "10", "11"}, got); diff != "" {
		t.Error(diff)
	}
}

func link(t testing.TB, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// What a link leads to belongs to the version, files in a linked folder too.
func TestFingerprintOfLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	shard := filepath.Join(elsewhere, "variables", "shard")
	write(t, shard, []byte("half"))
	link(t, filepath.Join(elsewhere, "variables"), filepath.Join(dir, "variables"))
	before, _, _, err := fingerprintOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, shard, []byte("half and half"))
	after, _, _, err := fingerprintOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if before == after {
		t.Error("a file in a linked folder grew, and the fingerprint is the same")
	}
	link(t, "..", filepath.Join(dir, "loop"))
	if _, _, _, err := fingerprintOf(dir); err == nil {
		t.Error("a folder that is linked into itself is no error")
	}
}

// Files that cannot be read are a reason, told once they rest.
func TestUnreadable(t *testing.T) {
	base := t.TempDir()
	tinyOf(1).write(t, filepath.Join(base, "1"))
	b := runTiny(t, base)
	b.awaitVersion(1)
	tinyOf(2).write(t, b.dir(2))
	loop := filepath.Join(b.dir(2), "assets", "loop")
	link(t, "loop", loop)
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != GateRead || s.Reason == "" || s.Retry.IsZero() {
		t.Errorf("got %+v", s)
	}
	b.must(os.Remove(loop))
	b.awaitVersion(2)
}

func TestTransient(t *testing.T) {
	file := func(err error) error { return &fs.PathError{Op: "open", Path: "x", Err: err} }
	for _, test := range []struct {
		name string
		err  GateError
		want bool
	}{
		{"unreadable", GateError{GateRead, file(syscall.EACCES)}, true},
		{"gone meanwhile", GateError{GateRead, file(syscall.ENOENT)}, true},
		{"folders too deep", GateError{GateRead, errors.New("x")}, false},
		{"late", GateError{GateTimeout, context.DeadlineExceeded}, true},
		{"half", GateError{GateComplete, errors.New("x")}, false},
		{"disk", GateError{GateSignature, file(syscall.EIO)}, true},
		{"too many files", GateError{GateGolden, file(syscall.EMFILE)}, true},
		{"missing file", GateError{GateGolden, file(syscall.ENOENT)}, false},
		{"memory", GateError{GateWarmUp, &savedmodel.Error{Code: savedmodel.ResourceExhausted}}, true},
		{"model", GateError{GateWarmUp, &savedmodel.Error{Code: savedmodel.InvalidArgument}}, false},
	} {
		if got := test.err.transient(); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// A graph that is not there stays away however often it is looked for; a file that
// cannot be read may be read later.
func TestGraphThatIsNotThere(t *testing.T) {
	unreadable := t.TempDir()
	link(t, "saved_model.pb", filepath.Join(unreadable, "saved_model.pb"))
	for name, test := range map[string]struct {
		dir, gate, text string
		transient       bool
	}{
		"another tag": {graphCopy(t, "keras", map[string]string{}), GateSignature, `the model has no graph with the tag "gpu"; it has one with the tag "serve"; write "tags: [serve]" into `, false},
		"unreadable":  {unreadable, GateRead, "saved_model.pb", true},
	} {
		_, err := lookInto(test.dir, []string{"gpu"}, Given{})
		var gate *GateError
		if !errors.As(err, &gate) || gate.Gate != test.gate || gate.transient() != test.transient || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want it at the gate %s, transient %v, %s", name, err, test.gate, test.transient, test.text)
		}
	}
}

// A load that takes too long is not joined by another one of the same files.
func TestLateLoadIsAwaited(t *testing.T) {
	c := candidate{2, filepath.Join(t.TempDir(), "2")}
	write(t, filepath.Join(c.dir, "saved_model.pb"), nil)
	files, _, _, err := fingerprintOf(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	freed := make(chan struct{})
	long := time.Now().Add(-time.Hour)
	k := &known{candidate: c, there: true, found: true, files: files, since: long, refused: &GateError{GateTimeout, context.DeadlineExceeded}, retry: long, late: freed}
	m := &Manager{config: Config{Poll: time.Minute}, log: slog.New(slog.DiscardHandler), known: map[int64]*known{2: k}}
	if wait := m.rest(k, time.Second, decided{}); wait != time.Minute {
		t.Errorf("is tried in %v", wait)
	}
	close(freed)
	if wait := m.rest(k, time.Second, decided{}); wait > 0 {
		t.Errorf("is tried in %v, after the first load is over", wait)
	}
}

func TestWatchConcerns(t *testing.T) {
	for _, test := range []struct {
		base, name string
		grew, want bool
	}{
		{"/models", "//models", false, true},
		{"/mnt/models", "/mnt/models", false, true},
		{"/mnt/models", "/mnt/models/3", false, true},
		{"/mnt/models", "/mnt/models/3.tar", true, false},
		{"/mnt/models", "/mnt/..data", false, true},
		{"/mnt/models", "/mnt/others", false, false},
	} {
		w := &watch{base: test.base}
		if got := w.concerns(test.name, test.grew); got != test.want {
			t.Errorf("base %s, event for %s: got %v", test.base, test.name, got)
		}
	}
}
