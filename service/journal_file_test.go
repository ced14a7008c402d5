package service

import (
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
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if _, err := newJournal(dir, "group", "in", blameless); err == nil || !strings.Contains(err.Error(), "other users may write") {
		t.Errorf("a folder that others may write to: got %v", err)
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
