package service

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A killCount is how many processes of a cgroup the kernel has killed for want of
// memory.
type killCount struct {
	cgroup uint64 // 0: not known
	kills  uint64
}

// risenSince tells whether the count has risen since before, in the same cgroup.
// Another cgroup, such as that of a restarted container, counts from zero.
func (c killCount) risenSince(before killCount) bool {
	return c.cgroup != 0 && c.cgroup == before.cgroup && c.kills > before.kills
}

// A killCounter reads the count of this process's cgroup.
type killCounter struct {
	cgroup uint64
	file   string // empty: there is none
}

// newKillCounter finds the counter of this process, in /proc and /sys below root.
func newKillCounter(root string) killCounter {
	memberships, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return killCounter{}
	}
	var files []string
	for line := range strings.Lines(string(memberships)) {
		// A number, the controllers, and the path. In a container that sees no
		// cgroup but its own, the path is still that on the host.
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[0] == "0" && fields[1] == "": // version 2
			for _, path := range []string{fields[2], "/"} {
				files = append(files, filepath.Join(root, "sys/fs/cgroup", path, "memory.events"))
			}
		case slices.Contains(strings.Split(fields[1], ","), "memory"): // version 1
			for _, path := range []string{fields[2], "/"} {
				files = append(files, filepath.Join(root, "sys/fs/cgroup/memory", path, "memory.oom_control"))
			}
		}
	}
	boot, _ := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	for _, file := range files {
		if _, err := readKills(file); err == nil {
			h := fnv.New64a()
			fmt.Fprintf(h, "%s %s %d", boot, file, inode(filepath.Dir(file)))
			return killCounter{h.Sum64(), file}
		}
	}
	return killCounter{}
}

func (c killCounter) read() killCount {
	kills, err := readKills(c.file)
	if err != nil {
		return killCount{}
	}
	return killCount{c.cgroup, kills}
}

// readKills reads the line "oom_kill N".
func readKills(file string) (kills uint64, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "oom_kill %d", &kills); err == nil {
			return kills, nil
		}
	}
	return 0, fmt.Errorf("%s has no line oom_kill", file)
}
