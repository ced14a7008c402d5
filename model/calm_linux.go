package model

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

// calmly does work, which loads and warms a version up, so that what serves
// meanwhile hardly notices: on a thread of the lowest scheduling class,
// SCHED_IDLE, which the thread pools of the session that it makes inherit.
// They stay in it until raise is called. Everybody may enter that class; to
// leave it takes CAP_SYS_NICE or an RLIMIT_NICE of 20. Without either, work is
// done as any other. (Keeping the threads to a part of the processors needs no
// right, but helps little, and TensorFlow sizes its pools by the processors
// that it sees.)
//
// The class gets what others leave. A machine that leaves nothing would never
// have its new version: after patience the threads are raised early.
func calmly(patience time.Duration, log *slog.Logger, work func()) (raise func()) {
	if !mayCalm() {
		work()
		return func() {}
	}
	var mine []int
	done := make(chan struct{})
	go func() {
		defer close(done)
		// For ever: the thread, no longer what others are, ends with the goroutine.
		runtime.LockOSThread()
		if err := setClass(0, unix.SCHED_IDLE); err != nil {
			log.Warn("cannot load calmly", "err", err)
			work()
			return
		}
		self := unix.Gettid()
		others := without(idleThreads(), []int{self}) // of versions that stay in it
		early := time.AfterFunc(patience, func() {
			log.Warn("what serves leaves no time to load; going on without regard for it", "after", patience)
			for range 3 { // those that they start meanwhile are found in another pass
				raiseThreads(without(idleThreads(), others), log)
			}
		})
		work()
		early.Stop()
		mine = without(idleThreads(), append(others, self))
	}()
	<-done
	return sync.OnceFunc(func() { raiseThreads(mine, log) }) // later, others may have their numbers
}

func without(list, others []int) []int {
	return slices.DeleteFunc(list, func(id int) bool { return slices.Contains(others, id) })
}

// raiseThreads gives threads the class that a process begins with. Some may
// have ended.
func raiseThreads(threads []int, log *slog.Logger) {
	for _, id := range threads {
		if err := setClass(id, unix.SCHED_NORMAL); err != nil && isIdle(id) {
			log.Error("a thread of the model stays slow", "err", err)
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

// mayCalm tries it, on a thread that is given up afterwards.
var mayCalm = sync.OnceValue(func() bool {
	ok := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked
		self := unix.Gettid()
		// The whole process may be in that class, by its user's will.
		ok <- !isIdle(self) && setClass(0, unix.SCHED_IDLE) == nil && setClass(self, unix.SCHED_NORMAL) == nil && !isIdle(self)
	}()
	return <-ok
})

// idleThreads are those of this process that are in the lowest class.
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
