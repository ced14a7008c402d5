package host

import (
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// LoadInBackground does work, which loads and warms up a version, so that the version that serves
// meanwhile hardly notices. The work runs on a thread of the lowest scheduling class, SCHED_IDLE,
// and the thread pools that it starts inherit that class. They keep it until restore is called.
// Every process may enter the class; to leave it takes CAP_SYS_NICE or an RLIMIT_NICE of 20.
// Without either, the work runs with normal priority. (To keep the threads to a part of the
// processors takes no right, but helps little, and TensorFlow sizes its pools by the processors
// that it sees.)
//
// Where other threads leave no time at all, the work would never end: after patience, its threads
// get normal priority.
func LoadInBackground(patience time.Duration, log *slog.Logger, work func()) (restore func()) {
	if !canLowerPriority() {
		work()
		return func() {}
	}
	var mine []int
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread has another class than others, and ends with the goroutine.
		// Only the process's first thread never ends, so it gets its class back.
		runtime.LockOSThread()
		defer func() { _ = setClass(0, unix.SCHED_NORMAL) }()
		if err := setClass(0, unix.SCHED_IDLE); err != nil {
			log.Warn("cannot lower the thread priority of a load; it competes with the version that serves", "err", err)
			work()
			return
		}
		self := unix.Gettid()
		others := without(idleThreads(), []int{self}) // of versions that stay in it
		early := time.AfterFunc(patience, func() {
			log.Warn("background load starved; raising thread priority", "after", patience)
			for range 3 { // those that they start meanwhile are found in another pass
				restoreThreads(without(idleThreads(), others), log)
			}
		})
		work()
		early.Stop()
		mine = without(idleThreads(), append(others, self))
	}()
	<-done
	return sync.OnceFunc(func() { restoreThreads(mine, log) }) // later, others may have their numbers
}

// without returns the list without the others. It changes the list.
func without(list, others []int) []int {
	return slices.DeleteFunc(list, func(id int) bool { return slices.Contains(others, id) })
}

// restoreThreads gives threads the class that a process begins with. Some may have ended.
func restoreThreads(threads []int, log *slog.Logger) {
	for _, id := range threads {
		if err := setClass(id, unix.SCHED_NORMAL); err != nil && isIdle(id) {
			log.Error("cannot restore the priority of a thread; its version stays slow", "err", err)
		}
	}
}

func setClass(thread int, class uint32) error {
	a, err := unix.SchedGetAttr(0, 0) // for its nice value
	if err != nil {
		return err
	}
	return unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: class, Nice: a.Nice}, 0)
}

func isIdle(thread int) bool {
	a, err := unix.SchedGetAttr(thread, 0)
	return err == nil && a.Policy == unix.SCHED_IDLE
}

// canLowerPriority tells whether the process may leave the lowest class. It tries, on a thread that
// ends after that.
var canLowerPriority = sync.OnceValue(func() bool {
	ok := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked
		self := unix.Gettid()
		// The whole process may be in that class, by its user's will.
		ok <- !isIdle(self) && setClass(0, unix.SCHED_IDLE) == nil && setClass(self, unix.SCHED_NORMAL) == nil && !isIdle(self)
	}()
	return <-ok
})

// idleThreads returns the threads of this process that are in the lowest class.
func idleThreads() []int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var ids []int
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && isIdle(id) {
			ids = append(ids, id)
		}
	}
	return ids
}
