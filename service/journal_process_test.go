package service

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

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
				work.end(handled)
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
		j.setUnproven(7, true)
		work.end(notHandled)
		if work, err = j.begin(recordAt(2)); err != nil {
			panic(err)
		}
		work.end(handled)
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
		j, err := newJournal(os.Getenv(endIn), "group", "in", blameless)
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
