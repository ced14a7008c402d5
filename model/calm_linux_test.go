package model

import (
	"bytes"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Work that is to disturb nobody is done in the lowest scheduling class, where
// the process may leave that again; else as any other.
func TestCalmly(t *testing.T) {
	idle := false
	raise := calmly(time.Hour, slog.New(slog.DiscardHandler), func() { idle = isIdle(unix.Gettid()) })
	raise()
	if idle != mayCalm() {
		t.Errorf("in the lowest class: %v; the process may leave it: %v", idle, mayCalm())
	}
}

// Threads that the work has started stay in that class until they are raised.
func TestCalmlyRaises(t *testing.T) {
	before := idleThreads()
	id, end := make(chan int), make(chan struct{})
	defer close(end)
	raise := calmly(time.Hour, slog.New(slog.DiscardHandler), func() {
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
	if isIdle(thread) != mayCalm() {
		t.Errorf("in the lowest class: %v, before it is raised", isIdle(thread))
	}
	raise()
	if isIdle(thread) {
		t.Error("it is in the lowest class after it was raised")
	}
	for _, left := range without(idleThreads(), before) {
		if left == thread {
			t.Error("it is left behind")
		}
	}
}

// Where others leave no time, what was patient goes on as any other.
func TestCalmlyIsPatientForSoLong(t *testing.T) {
	var log syncBuffer
	raised := false
	calmly(10*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)), func() {
		for end := time.Now().Add(20 * time.Second); !raised && time.Now().Before(end); time.Sleep(time.Millisecond) {
			raised = !isIdle(unix.Gettid())
		}
	})()
	if !raised {
		t.Error("it is in the lowest class all the time")
	}
	if told := strings.Contains(log.String(), "leaves no time to load"); told != mayCalm() {
		t.Errorf("the log says %q", log.String())
	}
}

// A version that is loaded beside one that serves has its threads in the lowest
// class while it warms up, and not when it serves.
func TestVersionLoadsCalmly(t *testing.T) {
	b := runTiny(t, with(t, 1))
	b.awaitVersion(1)
	before := idleThreads()
	b.put(2, tiny{bias: 2, slow: 3000})
	seen := false
	b.await("version 2", func() bool {
		seen = seen || len(without(idleThreads(), slices.Clone(before))) > 0
		return b.routes.Load().stable.info.Version == 2
	})
	if seen != mayCalm() {
		t.Errorf("threads in the lowest class: %v; the process may leave it: %v", seen, mayCalm())
	}
	b.await("all threads to be raised", func() bool { return len(without(idleThreads(), slices.Clone(before))) == 0 })
}

// A shadow stays in the lowest scheduling class until it serves.
func TestShadowStaysCalm(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Rollout = rolloutShadow })
	b.awaitVersion(1)
	before := idleThreads()
	calm := func() bool { return len(without(idleThreads(), slices.Clone(before))) > 0 }
	b.put(2, tinyOf(2))
	b.awaitStates("2 serving shadow", "1 serving stable")
	if calm() != mayCalm() {
		t.Errorf("as a shadow, threads in the lowest class: %v; the process may leave it: %v", calm(), mayCalm())
	}
	b.must(b.Use(t.Context(), 2))
	b.awaitStates("2 serving stable", "1 available")
	b.await("all threads to be raised", func() bool { return !calm() })
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
