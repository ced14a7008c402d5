package host

import (
	"bytes"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The work runs in the lowest scheduling class if the process may leave that again, else with
// normal priority.
func TestLoadInBackground(t *testing.T) {
	idle := false
	restore := LoadInBackground(time.Hour, slog.New(slog.DiscardHandler), func() { idle = isIdle(unix.Gettid()) })
	restore()
	if idle != canLowerPriority() {
		t.Errorf("in the lowest class: %v; the process may leave it: %v", idle, canLowerPriority())
	}
}

// Threads that the work has started stay in that class until they are restored.
func TestLoadInBackgroundRestores(t *testing.T) {
	before := idleThreads()
	id, end := make(chan int), make(chan struct{})
	defer close(end)
	restore := LoadInBackground(time.Hour, slog.New(slog.DiscardHandler), func() {
		// A thread inherits the class of the one that starts it: this is how
		// TensorFlow's get theirs.
		class := uint32(unix.SCHED_NORMAL)
		if isIdle(unix.Gettid()) {
			class = unix.SCHED_IDLE
		}
		started := make(chan int)
		go func() {
			runtime.LockOSThread() // and never unlocked
			if class == unix.SCHED_IDLE {
				if err := setClass(0, class); err != nil {
					t.Error(err)
				}
			}
			started <- unix.Gettid()
			<-end
		}()
		n := <-started
		go func() { id <- n }()
	})
	thread := <-id
	if isIdle(thread) != canLowerPriority() {
		t.Errorf("in the lowest class: %v, before it is restored", isIdle(thread))
	}
	restore()
	if isIdle(thread) {
		t.Error("it is in the lowest class after it was restored")
	}
	for _, left := range without(idleThreads(), before) {
		if left == thread {
			t.Error("it is left behind")
		}
	}
}

// No thread that did the work is left in the lowest class. Go ends such a thread with its
// goroutine, but it keeps the process's first one.
func TestLoadInBackgroundLeavesNone(t *testing.T) {
	before := idleThreads()
	var all sync.WaitGroup
	for range 20 {
		for range 20 { // at once, so that each thread which Go keeps for later gets one
			all.Go(func() {
				LoadInBackground(time.Hour, slog.New(slog.DiscardHandler), func() { time.Sleep(time.Millisecond) })()
			})
		}
		all.Wait()
	}
	if first := os.Getpid(); slices.Contains(without(idleThreads(), before), first) {
		t.Error("the process's first thread is in the lowest class")
	}
}

// Where others leave no time, the work gets normal priority after a while.
func TestLoadInBackgroundStarves(t *testing.T) {
	var log syncBuffer
	restored := false
	LoadInBackground(10*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)), func() {
		for end := time.Now().Add(2 * time.Minute); !restored && time.Now().Before(end); time.Sleep(time.Millisecond) {
			restored = !isIdle(unix.Gettid())
		}
	})()
	if !restored {
		t.Error("it is in the lowest class all the time")
	}
	if told := strings.Contains(log.String(), "background load starved"); told != canLowerPriority() {
		t.Errorf("the log says %q", log.String())
	}
}

// A syncBuffer is a buffer for many goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
