package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/stream"
)

func TestJournalsOfSeveralProcesses(t *testing.T) {
	dir := t.TempDir()
	a, b := open4test(t, dir, "in"), open4test(t, dir, "in")
	if a.file.Name() == b.file.Name() {
		t.Error("two have the same file")
	}
	if c := open4test(t, dir, "another"); filepath.Base(c.file.Name())[:16] == filepath.Base(a.file.Name())[:16] {
		t.Error("two topics have the same file")
	}
	name := a.file.Name()
	_ = a.close()
	if c := open4test(t, dir, "in"); c.file.Name() != name {
		t.Errorf("got %s, want %s, which is free again", c.file.Name(), name)
	}
}

// Damaged files are no journals, and no reason not to start. Nor are those of
// another format.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	mustBegin(t, j, 1)
	name := j.file.Name()
	j.die(t, true)
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{{}, content[:100], append([]byte("INCJ0001"), content[len(journalMagic):]...), make([]byte, journalBytes)} {
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open4test(t, dir, "in")
		j.check(t, 0, 0)
		mustBegin(t, j, 1).end(handled)
		_ = j.close()
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	open4test(t, dir, "in").check(t, 1, 0) // or the above would prove nothing
	if _, err := newJournal("/proc/none", "g", "t", blameless); err == nil {
		t.Error("a folder that cannot be made is no error")
	}
}

// Where others may write, the journal lies in a folder of this user's own: on a volume of
// Kubernetes, which makes that folder writable for the group at the pod's next start.
func TestJournalWhereOthersWrite(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"everybody": 0o777, "the group": 0o770 | os.ModeSetgid, "nobody else": 0o755} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			own := filepath.Join(dir, ownFolderName())
			if name == "nobody else" {
				own = dir
			}
			j := open4test(t, dir, "in")
			if got := filepath.Dir(j.file.Name()); got != own {
				t.Fatalf("the journal is in %s, want %s", got, own)
			}
			mustBegin(t, j, 1)
			j.die(t, true)
			if own != dir {
				if err := os.Chmod(own, 0o770|os.ModeSetgid); err != nil { //nolint:gosec // that is the point
					t.Fatal(err)
				}
			}
			if f := checkJournal(Crash{Journal: dir}); f.Status != OK {
				t.Errorf("check says %v", f)
			}
			j = open4test(t, dir, "in")
			j.check(t, 1, 0)
			if info, err := os.Stat(own); err != nil || info.Mode().Perm()&0o022 != 0 {
				t.Errorf("mode %v, %v: others may write to the journal", info.Mode(), err)
			}
		})
	}
}

// A folder that another user has made is refused, and so is a link.
func TestJournalOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make another user's folder")
	}
	const nobody = 65534
	theirs, shared := t.TempDir(), t.TempDir()
	own := filepath.Join(shared, ownFolderName())
	if err := errors.Join(os.Chown(theirs, nobody, nobody), os.Chmod(shared, 0o777), //nolint:gosec // that is the point
		os.Mkdir(own, 0o700), os.Chown(own, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := errors.Join(os.Chmod(linked, 0o777), //nolint:gosec // that is the point
		os.Symlink(t.TempDir(), filepath.Join(linked, ownFolderName()))); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{theirs: "another user owns it", shared: "another user owns it", linked: "not a directory"} {
		if _, err := newJournal(dir, "group", "in", blameless); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
	for _, dir := range []string{theirs, shared} {
		if f := checkJournal(Crash{Journal: dir}); f.Status != Fail {
			t.Errorf("check says %v", f)
		}
	}
}

// The folder may be a link, as systemd makes one for a user that it makes up. Its target counts. A
// link of another user is refused.
func TestJournalInALinkedFolder(t *testing.T) {
	link := func(target string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private, shared := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Chmod(private, 0o700), os.Chmod(shared, 0o777)); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	for target, want := range map[string]string{private: private, shared: filepath.Join(shared, ownFolderName())} {
		dir := link(target)
		j := open4test(t, dir, "in")
		mustBegin(t, j, 1)
		if files, err := filepath.Glob(filepath.Join(want, "*.journal")); err != nil || len(files) != 1 {
			t.Errorf("%d journals are in %s, want one; %v", len(files), want, err)
		}
		j.die(t, true)
		open4test(t, dir, "in").check(t, 1, 0)
		if f := checkJournal(Crash{Journal: dir}); f.Status != OK {
			t.Errorf("check says %v", f)
		}
	}
	bad := map[string]string{link(filepath.Join(private, "missing")): "no such file"}
	if os.Getuid() == 0 { // only root can give things to another user
		const nobody = 65534
		theirs, theirLink := t.TempDir(), link(private)
		if err := errors.Join(os.Chown(theirs, nobody, nobody), os.Lchown(theirLink, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		bad[link(theirs)], bad[theirLink] = "another user owns it", "another user owns it"
	}
	for dir, want := range bad {
		if f := checkJournal(Crash{Journal: dir}); f.Status != Fail || !strings.Contains(f.Text, want) {
			t.Errorf("check says %v, want %s", f, want)
		}
		if _, err := newJournal(dir, "group", "in", blameless); err == nil {
			t.Errorf("%s has a journal, want an error: %s", dir, want)
		}
	}
}

// More records than there are slots are worked on all the same.
func TestJournalFull(t *testing.T) {
	j := open4test(t, t.TempDir(), "in")
	for offset := range int64(slots + 10) {
		mustBegin(t, j, offset)
	}
}

// The slots of records that other processes work on now are taken when there
// are no others, and those of this one's are not.
func TestJournalFullOfOthers(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	for offset := range int64(slots) {
		r := recordAt(offset)
		r.Partition = int(offset % 2)
		if _, err := j.begin(r); err != nil {
			t.Fatal(err)
		}
	}
	j.die(t, false)
	j = open4test(t, dir, "in")
	j.check(t, slots, 0)
	observing(NewMetrics(prometheus.NewRegistry()), j).Assigned([]stream.Partition{of(1), of(5)})
	work := mustBegin(t, j, slots)
	if j.check(t, slots/2, 0); work.slot < 0 {
		t.Error("no slot")
	}
	observing(NewMetrics(prometheus.NewRegistry()), j).Committed(of(1), slots, 0)
	j.check(t, 0, 0)
}
