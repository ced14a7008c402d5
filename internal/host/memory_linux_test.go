package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAvailableMemory(t *testing.T) {
	if left, ok := AvailableMemory(); !ok || left < 10<<20 {
		t.Errorf("got %d, %v", left, ok)
	}
	if anonymous, file := ResidentMemory(); anonymous < 1<<18 || file < 1<<18 {
		t.Errorf("resident: got %d and %d", anonymous, file)
	}
	if limit, ok := MemoryLimit(); !ok || limit < 100<<20 {
		t.Errorf("limit: got %d, %v", limit, ok)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"memory.max": "max\n", "memory.current": "5000\n", // version 2, no limit
		"a/memory.max": "10000\n", "a/memory.current": "5000\n", "a/memory.stat": "anon 1000\ninactive_file 2000\n",
		"a/b/memory.max": "100000\n", "a/b/memory.current": "4000\n",
		"v1/memory.limit_in_bytes": "1000\n", "v1/memory.usage_in_bytes": "900\n", "v1/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n",
		"full/memory.max": "1000\n", "full/memory.current": "2000\n",
	} {
		writeFile(t, filepath.Join(dir, name), content)
	}
	for path, want := range map[string]uint64{"/a": 7000, "/a/b": 7000, "/v1": 200, "/full": 0, "/none/there": 1<<64 - 1} {
		if got := groupMemory(dir, path, leftIn); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	for path, want := range map[string]uint64{"/a": 10000, "/a/b": 10000, "/v1": 1000, "/none/there": 1<<64 - 1} {
		if got := groupMemory(dir, path, limitOf); got != want {
			t.Errorf("limit of %s: got %d, want %d", path, got, want)
		}
	}
	for line, want := range map[string]string{
		"0::/a/b":                "/sys/fs/cgroup /a/b",
		"4:memory:/x:y":          "/sys/fs/cgroup/memory /x:y",
		"7:cpu,memory:/":         "/sys/fs/cgroup/memory /",
		"5:cpu,cpuacct:/":        "",
		"nonsense":               "",
		"1:name=systemd:/memory": "",
	} {
		mount, path, ok := memoryGroup(line)
		if got := strings.TrimSpace(mount + " " + path); got != want || ok != (want != "") {
			t.Errorf("%s: got %q", line, got)
		}
	}
}

// The limit is the least of the machine's memory and of the limits of the process's groups,
// whatever is used.
func TestMemoryLimit(t *testing.T) {
	const machine = "MemTotal: 1000 kB\nMemAvailable: 10 kB\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  uint64
		ok    bool
	}{
		"unknown":          {nil, 0, false},
		"machine":          {map[string]string{"proc/meminfo": machine}, 1000 << 10, true},
		"version 2":        {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "5000\n"}, 5000, true},
		"version 2, above": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "5000\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 5000, true},
		"version 1":        {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "3:cpu,memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "6000\n"}, 6000, true},
		"no limit":         {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "3:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 1000 << 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range test.files {
				writeFile(t, filepath.Join(root, name), content)
			}
			got, ok := leastMemory(root, "MemTotal:", limitOf)
			if ok != test.ok || ok && got != test.want {
				t.Errorf("got %d, %v, want %d, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}
