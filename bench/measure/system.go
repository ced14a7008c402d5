package measure

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What /proc tells; where there is none, on anything but Linux, it is zero.

// ticks are /proc's unit of time.
const ticks = time.Second / 100

// OwnCPU is the processor time of this process, all threads.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ProcessCPU is the processor time of another process.
func ProcessCPU(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may contain anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const utime, stime = 11, 12
	if len(fields) <= stime {
		return 0
	}
	return time.Duration(number(fields[utime])+number(fields[stime])) * ticks
}

// ProcessMemory is what is resident of a process, now and at most so far, in
// bytes.
func ProcessMemory(pid int) (rss, peak float64) {
	status := lines(fmt.Sprintf("/proc/%d/status", pid))
	kib := func(key string) float64 {
		return 1024 * float64(number(strings.TrimSuffix(status[key], " kB")))
	}
	return kib("VmRSS"), kib("VmHWM")
}

// processor is the model's name.
func processor() string { return lines("/proc/cpuinfo")["model name"] }

// memory is the machine's, in GiB.
func memory() float64 {
	return float64(number(strings.TrimSuffix(lines("/proc/meminfo")["MemTotal"], " kB"))) / (1 << 20)
}

// lines reads a file of "key: value" lines; the first of a key counts.
func lines(path string) map[string]string {
	found := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return found
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		key = strings.TrimSpace(key)
		if _, ok := found[key]; !ok {
			found[key] = strings.TrimSpace(value)
		}
	}
	return found
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// A System measures the other work on the machine during a benchmark. The zero value counts only
// this process as a part of the benchmark.
type System struct{ pids []int }

// Watch counts a process as a part of the benchmark.
func (s *System) Watch(pid int) { s.pids = append(s.pids, pid) }

// A Usage is processor time so far: of the benchmark, of all processes, and including idle time.
type Usage struct{ own, busy, all time.Duration }

// Now returns the usage so far.
func (s *System) Now() Usage {
	u := Usage{own: OwnCPU()}
	for _, pid := range s.pids {
		u.own += ProcessCPU(pid)
	}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u
	}
	first, _, _ := strings.Cut(string(b), "\n")
	// cpu user nice system idle iowait irq softirq steal guest …
	const idle, iowait, guest = 4, 5, 9
	for i, f := range strings.Fields(first) {
		if i == 0 || i >= guest {
			continue
		}
		t := time.Duration(number(f)) * ticks
		u.all += t
		if i != idle && i != iowait {
			u.busy += t
		}
	}
	return u
}

// Foreign returns the share of the machine that other processes have used since then.
func (s *System) Foreign(since Usage) float64 {
	now := s.Now()
	all := now.all - since.all
	if all <= 0 {
		return 0
	}
	return max(0, float64(now.busy-since.busy-(now.own-since.own))/float64(all))
}
