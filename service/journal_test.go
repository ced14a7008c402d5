package service

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inceptor/service/stream"
)

func open4test(t testing.TB, dir, topic string) *journal {
	t.Helper()
	j, err := newJournal(dir, "group", topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if j.file != nil {
			_ = j.close()
		}
	})
	return j
}

// leave ends the journal as the end of its process would.
func (j *journal) leave(t testing.TB, crashed bool) {
	t.Helper()
	if crashed {
		j.mem[crashesAt] = 1
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	j.file = nil
}

func recordAt(offset int64) stream.Record {
	return stream.Record{Topic: "in", Partition: 1, Offset: offset, Value: fmt.Append(nil, "image ", offset)}
}

// The record that crashes the process is found out, and costs nobody else
// anything.
func TestJournalFindsTheGuilty(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	var ends []entry
	for offset := range int64(5) {
		work, err := j.begin(recordAt(offset))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, work)
	}
	ends[0].end(true) // done
	j.leave(t, true)

	j = open4test(t, dir, "in")
	if len(j.suspects) != 4 || len(j.guilty) != 0 {
		t.Fatalf("%v", j.suspects)
	}
	if work, err := j.begin(recordAt(1)); err != nil {
		t.Fatal(err)
	} else {
		work.end(true) // innocent
	}
	if _, err := j.begin(recordAt(3)); err != nil { // and dies
		t.Fatal(err)
	}
	j.leave(t, true)

	j = open4test(t, dir, "in")
	if len(j.suspects) != 1 {
		t.Errorf("besides the guilty: %v", j.suspects)
	}
	j.leave(t, false) // killed before the dead letter was written

	j = open4test(t, dir, "in")
	for _, offset := range []int64{2, 4} {
		if work, err := j.begin(recordAt(offset)); err != nil {
			t.Errorf("record %d: %v", offset, err)
		} else {
			work.end(true)
		}
	}
	other := recordAt(3)
	other.Value = []byte("of another topic with this name")
	if work, err := j.begin(other); err != nil {
		t.Errorf("another record with the same offset: %v", err)
	} else {
		work.end(true)
	}
	if _, err := j.begin(recordAt(3)); !errors.Is(err, errCrashed) {
		t.Errorf("the guilty record: got %v", err)
	}
	j.leave(t, false)
	if j = open4test(t, dir, "in"); len(j.suspects) != 0 {
		t.Errorf("in the end: %v", j.suspects)
	}
}

// A process that was killed was not crashed by what it worked on.
func TestJournalOfTheKilled(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	if _, err := j.begin(recordAt(1)); err != nil {
		t.Fatal(err)
	}
	j.leave(t, false)
	if j = open4test(t, dir, "in"); len(j.suspects) != 0 {
		t.Errorf("%v", j.suspects)
	}
}

func TestJournalsOfSeveralProcesses(t *testing.T) {
	dir := t.TempDir()
	a, b := open4test(t, dir, "in"), open4test(t, dir, "in")
	if a.file.Name() == b.file.Name() {
		t.Error("two have the same file")
	}
	if c := open4test(t, dir, "another"); filepath.Base(c.file.Name())[:16] == filepath.Base(a.file.Name())[:16] {
		t.Error("two topics have the same file")
	}
}

// Damaged files are no journals, and no reason not to start.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	_, _ = j.begin(recordAt(1))
	name := j.file.Name()
	j.leave(t, true)
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{{}, content[:100], append([]byte("other"), content[5:]...), make([]byte, journalBytes)} {
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open4test(t, dir, "in")
		if len(j.guilty) != 0 {
			t.Errorf("guilty by %d bytes: %v", len(bad), j.guilty)
		}
		if work, err := j.begin(recordAt(1)); err != nil {
			t.Error(err)
		} else {
			work.end(true)
		}
		j.leave(t, false)
	}
	if _, err := newJournal("/proc/none", "g", "t"); err == nil {
		t.Error("a folder that cannot be made is no error")
	}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if _, err := newJournal(dir, "group", "in"); err == nil || !strings.Contains(err.Error(), "others") {
		t.Errorf("a folder that others may write to: got %v", err)
	}
}

// A suspect is alone: it waits for all others, and they for it.
func TestJournalAlone(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	_, _ = j.begin(recordAt(7))
	j.leave(t, true)
	j = open4test(t, dir, "in")
	var now, most atomic.Int64
	alone := make(chan struct{})
	work := func(r stream.Record, d time.Duration) {
		work, err := j.begin(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer work.end(true)
		n := now.Add(1)
		defer now.Add(-1)
		most.Store(max(most.Load(), n))
		if r.Offset == 7 && n != 1 {
			t.Errorf("the suspect is one of %d", n)
		}
		time.Sleep(d)
	}
	go func() {
		defer close(alone)
		time.Sleep(5 * time.Millisecond)
		work(recordAt(7), 20*time.Millisecond)
	}()
	done := make(chan struct{})
	for offset := range int64(50) {
		go func() {
			work(recordAt(100+offset), 2*time.Millisecond)
			done <- struct{}{}
		}()
		time.Sleep(time.Millisecond)
	}
	for range 50 {
		<-done
	}
	<-alone
	if most.Load() < 2 {
		t.Error("the others were alone as well")
	}
}

// More records than there are slots are worked on all the same.
func TestJournalFull(t *testing.T) {
	j := open4test(t, t.TempDir(), "in")
	for offset := range int64(slots + 10) {
		if _, err := j.begin(recordAt(offset)); err != nil {
			t.Fatal(err)
		}
	}
}

// endAs makes the test binary a process that has a journal in endIn and ends
// in one of the ways of endings.
const (
	endAs = "INCEPTOR_TEST_END_AS"
	endIn = "INCEPTOR_TEST_END_IN"
)

var endings = map[string]func(*journal){
	"killed":  func(j *journal) { endBy(j, syscall.SIGKILL) },
	"crashed": func(j *journal) { endBy(j, syscall.SIGABRT) },
	"crashed while others work": func(j *journal) {
		among(2, func(offset int64) {
			if work, err := j.begin(recordAt(offset)); err == nil {
				work.end(true)
			}
		})
		endBy(j, syscall.SIGABRT)
	},
	"crashed while others survive": func(j *journal) {
		among(2, func(int64) { survive() })
		endBy(j, syscall.SIGABRT)
	},
	"closed before its handlers ended": func(j *journal) {
		work, err := j.begin(recordAt(1))
		if err == nil {
			err = j.close()
		}
		if err != nil {
			panic(err)
		}
		j.try(7)
		work.end(false)
		if work, err = j.begin(recordAt(2)); err != nil {
			panic(err)
		}
		work.end(true)
	},
}

// endBy ends the process by a signal, with two records under way.
func endBy(j *journal, signal syscall.Signal) {
	_, _ = j.begin(recordAt(1))
	survive()
	_, _ = j.begin(recordAt(2))
	_ = syscall.Kill(os.Getpid(), signal)
	time.Sleep(time.Minute)
}

// among lets goroutines work for as long as there is the process, and returns
// when they do.
func among(goroutines int, work func(i int64)) {
	var begun sync.WaitGroup
	for range goroutines {
		begun.Add(1)
		go func() {
			for i := int64(10); ; i++ {
				work(i)
				if i == 100 {
					begun.Done()
				}
			}
		}()
	}
	begun.Wait()
}

// survive is a fault that Go makes a panic, recovered from.
func survive() {
	defer func() { _ = recover() }()
	var p *int
	*p = 1
}

func TestMain(m *testing.M) {
	if how := os.Getenv(endAs); how != "" {
		j, err := newJournal(os.Getenv(endIn), "group", "in")
		if err != nil {
			panic(err)
		}
		endings[how](j)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A crash of native code is told from every other end, whatever other threads
// do while the process dies.
func TestJournalOfRealProcesses(t *testing.T) {
	for _, test := range []struct {
		ending            string
		survives, crashed bool
		times             int
	}{
		{"killed", false, false, 1},
		{"crashed", false, true, 1},
		{"crashed while others work", false, true, 20}, // it depends on their timing
		{"crashed while others survive", false, true, 20},
		{"closed before its handlers ended", true, false, 1},
	} {
		t.Run(test.ending, func(t *testing.T) {
			for range test.times {
				dir := t.TempDir()
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), endAs+"="+test.ending, endIn+"="+dir)
				out, err := cmd.CombinedOutput()
				if survives := err == nil; survives != test.survives {
					t.Fatalf("%v\n%s", err, out)
				}
				files, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				content, err := os.ReadFile(files[0])
				if err != nil {
					t.Fatal(err)
				}
				if crashed := binary.NativeEndian.Uint32(content[crashesAt:]) > 0; crashed != test.crashed {
					t.Errorf("crashed: %v, want %v", crashed, test.crashed)
				}
			}
		})
	}
}

func BenchmarkJournal(b *testing.B) {
	j := open4test(b, b.TempDir(), "in")
	r := recordAt(1)
	r.Value = make([]byte, 200<<10)
	b.SetBytes(int64(len(r.Value)))
	b.ReportAllocs()
	for b.Loop() {
		work, err := j.begin(r)
		if err != nil {
			b.Fatal(err)
		}
		work.end(true)
	}
}

// A record that was not worked on after all stays as suspect as it was.
func TestJournalNotWorkedOn(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	_, _ = j.begin(recordAt(1))
	j.leave(t, true)
	j = open4test(t, dir, "in")
	work, err := j.begin(recordAt(1))
	if err != nil {
		t.Fatal(err)
	}
	work.end(false) // no version serves
	if len(j.suspects) != 1 {
		t.Errorf("suspects: %v", j.suspects)
	}
}

// The version that was new at a crash is remembered, and with it to blame
// nobody else is.
func TestJournalBlamesVersion(t *testing.T) {
	dir := t.TempDir()
	j := open4test(t, dir, "in")
	j.try(7)
	_, _ = j.begin(recordAt(1))
	j.leave(t, false)
	if j = open4test(t, dir, "in"); j.blamed() != 0 {
		t.Errorf("killed: version %d is blamed", j.blamed())
	}
	j.try(7)
	_, _ = j.begin(recordAt(1))
	j.leave(t, true)
	j = open4test(t, dir, "in")
	if j.blamed() != 7 || len(j.suspects) != 1 {
		t.Errorf("version %d, suspects %v", j.blamed(), j.suspects)
	}
	j.acquit()
	if len(j.suspects) != 0 {
		t.Errorf("suspects: %v", j.suspects)
	}
	j.try(8)
	j.try(0) // it has proved itself
	j.leave(t, true)
	if j = open4test(t, dir, "in"); j.blamed() != 0 {
		t.Errorf("version %d is blamed", j.blamed())
	}
}
