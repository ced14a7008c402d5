package model

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

func TestScan(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"10", "9", "002", "2", "+3", "-0", "1_1", "99999999999999999999", "1.tmp", "-3", ".2", "x"} {
		modeltest.Write(t, filepath.Join(base, name, "saved_model.pb"), nil)
	}
	modeltest.Write(t, filepath.Join(base, "4", "other"), nil)
	modeltest.Write(t, filepath.Join(base, "11", "saved_model.pbtxt"), nil)
	modeltest.Write(t, filepath.Join(base, "5"), nil)
	modeltest.Link(t, "saved_model.pb", filepath.Join(base, "7", "saved_model.pb"))
	found, err := scan(base)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range found {
		got = append(got, filepath.Base(c.Dir))
	}
	// 7 and 11 cannot be read: they are listed, so that a gate refuses them.
	if diff := cmp.Diff([]string{"2", "7", "9", "10", "11"}, got); diff != "" {
		t.Error(diff)
	}
}

// The fingerprint covers files in linked folders too.
func TestFingerprintOfLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	shard := filepath.Join(elsewhere, "variables", "shard")
	modeltest.Write(t, shard, []byte("half"))
	modeltest.Link(t, filepath.Join(elsewhere, "variables"), filepath.Join(dir, "variables"))
	before, _, _, err := fingerprintOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	modeltest.Write(t, shard, []byte("half and half"))
	after, _, _, err := fingerprintOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if before == after {
		t.Error("a file in a linked folder grew, and the fingerprint is the same")
	}
	modeltest.Link(t, "..", filepath.Join(dir, "loop"))
	if _, _, _, err := fingerprintOf(dir); err == nil {
		t.Error("a folder that is linked into itself is no error")
	}
}

// A version with a file that cannot be read fails at the gate read, once its files rest.
func TestUnreadable(t *testing.T) {
	base := t.TempDir()
	modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base)
	b.awaitVersion(1)
	modeltest.TinyOf(2).Write(t, b.dir(2))
	loop := filepath.Join(b.dir(2), "assets", "loop")
	modeltest.Link(t, "loop", loop)
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != infer.GateRead || s.Reason == "" || s.Retry.IsZero() {
		t.Errorf("got %+v", s)
	}
	b.must(os.Remove(loop))
	b.awaitVersion(2)
}

// While a load is overdue, the same files are not loaded a second time.
func TestOverdueLoadIsAwaited(t *testing.T) {
	c := infer.Folder{Version: 2, Dir: filepath.Join(t.TempDir(), "2")}
	modeltest.Write(t, filepath.Join(c.Dir, "saved_model.pb"), nil)
	files, _, _, err := fingerprintOf(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	freed := make(chan struct{})
	long := time.Now().Add(-time.Hour)
	k := &versionEntry{Folder: c, there: true, seen: true, files: files, since: long, failed: &infer.GateError{Gate: infer.GateTimeout, Err: context.DeadlineExceeded}, retry: long, overdue: freed}
	r := testReconciler(t, Config{Poll: time.Minute})
	r.quiet = time.Second
	if wait := waitFor(r, k); wait != time.Minute {
		t.Errorf("is tried in %v", wait)
	}
	close(freed)
	if wait := waitFor(r, k); wait > 0 {
		t.Errorf("is tried in %v, after the first load is over", wait)
	}
}

func TestWatchConcerns(t *testing.T) {
	for _, test := range []struct {
		base, name    string
		written, want bool
	}{
		{"/models", "//models", false, true},
		{"/mnt/models", "/mnt/models", false, true},
		{"/mnt/models", "/mnt/models/3", false, true},
		{"/mnt/models", "/mnt/models/3.tar", true, false},
		{"/mnt/models", "/mnt/..data", false, true},
		{"/mnt/models", "/mnt/others", false, false},
	} {
		w := &watch{base: test.base}
		if got := w.concerns(test.name, test.written); got != test.want {
			t.Errorf("base %s, event for %s: got %v", test.base, test.name, got)
		}
	}
}

// Without a directory there are no versions. That is no error, since a model server may suffice.
func TestFolders(t *testing.T) {
	for dir, want := range map[string][]int64{"": nil, t.TempDir(): nil, modeltest.TinyVersions(t, 2, 10, 1): {1, 2, 10}} {
		list, err := Config{Dir: dir}.Folders()
		var got []int64
		for _, c := range list {
			got = append(got, c.Version)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", dir, got, err, want)
		}
	}
}
