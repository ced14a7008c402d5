package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKillCounter(t *testing.T) {
	const one, two = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "low 0\noom 7\noom_kill 5\noom_group_kill 1\n"
	for _, test := range []struct {
		name  string
		files map[string]string
		kills uint64
		known bool
	}{
		{"version 2", map[string]string{
			"proc/self/cgroup": "0::/system.slice/x.service\n", "sys/fs/cgroup/system.slice/x.service/memory.events": two,
		}, 5, true},
		{"version 2 in a container", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.events": two}, 5, true},
		{"version 1", map[string]string{
			"proc/self/cgroup": "5:cpu:/\n4:hugetlb,memory:/a:b\n0::/\n", "sys/fs/cgroup/memory/a:b/memory.oom_control": one,
		}, 3, true},
		{"version 1 in a container", map[string]string{
			"proc/self/cgroup": "4:memory:/docker/1234\n", "sys/fs/cgroup/memory/memory.oom_control": one,
		}, 3, true},
		{"an old kernel", map[string]string{
			"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n",
		}, 0, false},
		{"no cgroups", map[string]string{"proc/self/cgroup": "nothing\n"}, 0, false},
		{"no /proc", nil, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range test.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := newKillCounter(root).read()
			if got.kills != test.kills || got.cgroup != 0 != test.known {
				t.Errorf("got %+v", got)
			}
			if again := newKillCounter(root).read(); again != got {
				t.Errorf("of another process in the same cgroup: %+v, want %+v", again, got)
			}
			for name := range test.files { // as after a restart of the container
				if !strings.HasPrefix(name, "sys") || !test.known {
					continue
				}
				dir := filepath.Join(root, filepath.Dir(name))
				if err := errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old"))); err != nil {
					t.Fatal(err)
				}
				if other := newKillCounter(root).read(); other.cgroup == got.cgroup || other.cgroup == 0 {
					t.Errorf("another cgroup of that name: %+v", other)
				}
			}
		})
	}
}
