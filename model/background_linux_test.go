package model

import (
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inceptor/internal/host"
	"inceptor/model/internal/modeltest"
)

// isIdle tells whether a thread is in the lowest scheduling class; 0: this one.
func isIdle(thread int) bool {
	a, err := unix.SchedGetAttr(thread, 0)
	return err == nil && a.Policy == unix.SCHED_IDLE
}

// idleThreads returns the threads of this process in the lowest scheduling class.
func idleThreads(t testing.TB) map[int]bool {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	idle := map[int]bool{}
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && isIdle(id) {
			idle[id] = true
		}
	}
	return idle
}

// newIdle returns a function that tells whether more threads than now are in the lowest class.
func newIdle(t testing.TB) func() bool {
	t.Helper()
	before := idleThreads(t)
	return func() bool {
		for id := range idleThreads(t) {
			if !before[id] {
				return true
			}
		}
		return false
	}
}

// mayLower tells whether this process may leave the lowest class, so that loads use it.
func mayLower() (lowered bool) {
	host.LoadInBackground(time.Hour, slog.New(slog.DiscardHandler), func() { lowered = isIdle(0) })()
	return lowered
}

// A version that is loaded while another one serves has its threads in the lowest class while it
// warms up, and not when it serves.
func TestVersionLoadsInBackground(t *testing.T) {
	f := modeltest.NewFileServer(t)
	b := runTiny(t, modeltest.TinyVersions(t, 1))
	b.awaitVersion(1)
	want, idle := mayLower(), newIdle(t)
	f.Vanish() // the warm-up waits for it
	b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
	b.awaitStates("2 warming", "1 serving stable")
	if got := idle(); got != want {
		t.Errorf("threads in the lowest class: %v; the process may leave it: %v", got, want)
	}
	f.Mend()
	b.awaitVersion(2)
	b.await("all threads to leave the lowest class", func() bool { return !idle() })
}

// A shadow stays in the lowest scheduling class until it serves.
func TestShadowStaysInBackground(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Rollout = rolloutShadow })
	b.awaitVersion(1)
	want, idle := mayLower(), newIdle(t)
	b.put(2, modeltest.TinyOf(2))
	b.awaitStates("2 serving shadow", "1 serving stable")
	if got := idle(); got != want {
		t.Errorf("as a shadow, threads in the lowest class: %v; the process may leave it: %v", got, want)
	}
	b.must(b.Use(t.Context(), 2))
	b.awaitStates("2 serving stable", "1 closed")
	b.await("all threads to leave the lowest class", func() bool { return !idle() })
}
