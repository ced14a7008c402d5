package host

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// AvailableMemory returns how many bytes this process may still take, by its control groups,
// version 1 or 2, and by the machine; false: unknown. Page cache that is not in use counts as
// available.
func AvailableMemory() (uint64, bool) { return leastMemory("/", "MemAvailable:", leftIn) }

// MemoryLimit returns how many bytes this process may take at most, whatever others use now: the
// least limit of its control groups, version 1 or 2, or the machine's memory; false: unknown.
func MemoryLimit() (uint64, bool) { return leastMemory("/", "MemTotal:", limitOf) }

// leastMemory returns the least of the numbers in a line of /proc/meminfo and in each control
// group, in /proc and /sys below root.
func leastMemory(root, line string, group func(dir string) uint64) (uint64, bool) {
	least := uint64(math.MaxUint64)
	if b, err := os.ReadFile(filepath.Join(root, "proc/meminfo")); err == nil {
		if kb, ok := field(b, line); ok {
			least = kb << 10
		}
	}
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err == nil {
		for line := range strings.Lines(string(groups)) {
			if mount, path, ok := memoryGroup(strings.TrimSpace(line)); ok {
				least = min(least, groupMemory(filepath.Join(root, mount), path, group))
			}
		}
	}
	return least, least != math.MaxUint64
}

// memoryGroup reads a line of /proc/self/cgroup: number, controllers, path.
func memoryGroup(line string) (mount, path string, ok bool) {
	parts := strings.SplitN(line, ":", 3)
	switch {
	case len(parts) != 3:
		return "", "", false
	case parts[0] == "0" && parts[1] == "":
		return "/sys/fs/cgroup", parts[2], true
	}
	for controller := range strings.SplitSeq(parts[1], ",") {
		if controller == "memory" {
			return "/sys/fs/cgroup/memory", parts[2], true
		}
	}
	return "", "", false
}

// groupMemory returns the least number of a group and those above it. In a container the path is
// the host's, and what is mounted is the group itself.
func groupMemory(mount, path string, group func(dir string) uint64) uint64 {
	least := uint64(math.MaxUint64)
	for dir := filepath.Join(mount, path); ; dir = filepath.Dir(dir) {
		least = min(least, group(dir))
		if dir == mount || len(dir) < len(mount) {
			return least
		}
	}
}

// limitOf returns what one group may take.
func limitOf(dir string) uint64 {
	limit, ok := number(filepath.Join(dir, "memory.max"), filepath.Join(dir, "memory.limit_in_bytes"))
	if !ok {
		return math.MaxUint64 // none
	}
	return limit
}

// leftIn returns what one group leaves.
func leftIn(dir string) uint64 {
	limit := limitOf(dir)
	if limit == math.MaxUint64 {
		return limit
	}
	used, ok := number(filepath.Join(dir, "memory.current"), filepath.Join(dir, "memory.usage_in_bytes"))
	if !ok {
		return math.MaxUint64
	}
	if stat, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err == nil {
		for _, name := range []string{"total_inactive_file", "inactive_file"} { // version 1 tells both
			if cache, ok := field(stat, name); ok {
				used -= min(used, cache)
				break
			}
		}
	}
	return limit - min(limit, used)
}

// number reads the first of the files that is there; "max" is no number.
func number(files ...string) (uint64, bool) {
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// field finds a line that begins with the name, and reads the number after it.
func field(b []byte, name string) (uint64, bool) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == name {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// ResidentMemory returns how many bytes this process holds in memory: anonymous ones, that no file
// is behind, and pages of files, such as libraries, which the kernel can read again; 0: unknown.
func ResidentMemory() (anonymous, file uint64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	kilobytes := func(name string) uint64 {
		n, _ := field(b, name)
		return n << 10
	}
	return kilobytes("RssAnon:") + kilobytes("RssShmem:"), kilobytes("RssFile:")
}

// PrivateMemory returns the anonymous bytes of ResidentMemory.
func PrivateMemory() uint64 {
	anonymous, _ := ResidentMemory()
	return anonymous
}
