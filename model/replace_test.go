package model

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// In one copy's memory: images wait while a version takes another one's place,
// and none fails.
func TestOneCopy(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var most atomic.Int64
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				b.serves()
				most.Store(max(most.Load(), int64(time.Since(begun))))
			}
		})
	}
	loadedAtOnce := func() (n int) {
		for _, s := range b.Versions() {
			if s.State == StateServing || s.State == StateWarm {
				n++
			}
		}
		return n
	}
	for v := int64(2); v <= 6; v++ {
		b.put(v, tinyOf(v))
		b.await("swap", func() bool {
			if n := loadedAtOnce(); n > 1 {
				t.Errorf("%d versions are loaded", n)
			}
			return b.serves() == v
		})
	}
	// What fails after the old one is gone brings that back.
	b.put(7, tiny{bias: 7, golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("refusal", func() bool { return len(b.refusals(7)) > 0 })
	b.awaitVersion(6)
	// What can be refused before does not cost a pause.
	write(t, filepath.Join(b.dir(8), "saved_model.pb"), nil)
	b.await("refusal", func() bool { return len(b.refusals(8)) > 0 })
	if b.serves() != 6 {
		t.Error("version 6 does not serve any more")
	}
	cancel()
	load.Wait()
	t.Logf("an image waited for %v at most", time.Duration(most.Load()))
}

// What comes while images wait does not keep them waiting: what they wait for
// answers first.
func TestOneCopyOvertaken(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	b.put(2, tiny{bias: 2, slow: 3000})
	b.await("pause", func() bool { return b.routes.Load().paused != nil })
	write(t, filepath.Join(b.dir(7), "saved_model.pb"), []byte("half a model"))
	if v := b.serves(); v != 2 { // once the pause is over
		t.Errorf("version %d serves", v)
	}
	b.await("refusal", func() bool { return len(b.refusals(7)) > 0 })
	b.awaitVersion(2)
}

// A run that does not end keeps nobody waiting for ever.
func TestOneCopyHanging(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Copies, c.Gate.Timeout = copiesOne, 2*time.Second })
	b.awaitVersion(1)
	v, _, err := b.acquire(t.Context(), nil) // as an image that is not answered
	b.must(err)
	defer v.drop()
	b.put(2, tinyOf(2))
	b.awaitVersion(2)
}

// A choice by hand that fails after the old one is gone is taken back with it.
func TestOneCopyChoice(t *testing.T) {
	b := runTiny(t, with(t, 3), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(3)
	b.put(2, tiny{bias: 2, golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("found", func() bool { return len(b.Versions()) == 2 })
	b.must(b.Use(t.Context(), 2))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.awaitVersion(3)
	if d := b.choice.now(); d.Use != nil {
		t.Errorf("still chosen: %d", d.Use)
	}
}

// If the old one cannot be brought back either, the next good one serves.
func TestOneCopyNoWayBack(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	b.put(2, tiny{bias: 2, golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.await("nothing serves", func() bool { _, err := b.Serving(); return err != nil })
	b.put(3, tinyOf(3))
	b.awaitVersion(3)
}

// If the old one takes too long to be brought back, it is not loaded again while
// it still loads.
func TestOneCopyLateWayBack(t *testing.T) {
	f := newFileServer(t)
	base := t.TempDir()
	tiny{bias: 1, needs: f.name}.write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, func(c *Config) { c.Copies, c.Gate.Timeout = copiesOne, 3*time.Second })
	b.awaitVersion(1)
	f.vanish()
	b.put(2, tiny{bias: 2, golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.Manager.mu.Lock()
	late := b.known[1].isLate()
	b.Manager.mu.Unlock()
	if !late {
		t.Error("version 1 may be loaded beside itself")
	}
	f.mend()
	b.awaitVersion(1)
}

// A version on probation in one copy's memory is taken back the same way.
func TestOneCopyProbation(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Copies = copiesOne }, onProbation(time.Minute))
	b.awaitVersion(1)
	b.load()
	b.put(2, tiny{bias: 2, picky: true})
	b.awaitStates("2 rejected", "1 serving stable")
}

// Without room for two, a swap is done in place, or refused if that is not
// allowed; and again when there is room.
func TestRoom(t *testing.T) {
	var left atomic.Uint64
	left.Store(1 << 40)
	tight := func(m *Manager) {
		m.memory = func() (uint64, bool) { return left.Load(), true }
		m.costs = 1000
	}
	t.Run("auto", func(t *testing.T) {
		b := runTinyOn(t, with(t, 1), tight, func(c *Config) { c.Copies = copiesAuto })
		b.awaitVersion(1)
		b.put(2, tinyOf(2))
		b.awaitVersion(2)
		if b.paused() != 0 {
			t.Error("it paused, and there was room")
		}
		left.Store(100)
		b.put(3, tinyOf(3))
		b.awaitVersion(3)
		if b.paused() != 1 {
			t.Error("it did not pause, and there was no room")
		}
	})
	t.Run("two", func(t *testing.T) {
		left.Store(100)
		b := runTinyOn(t, with(t, 1), tight, func(c *Config) { c.Copies = copiesTwo })
		b.awaitVersion(1)
		b.put(2, tinyOf(2))
		b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
		if s := b.Versions()[0]; s.Gate != GateMemory || s.Retry.IsZero() || !strings.Contains(s.Reason, "MiB") {
			t.Errorf("got %+v", s)
		}
		left.Store(1 << 40)
		b.awaitVersion(2)
	})
}

func TestAvailableMemory(t *testing.T) {
	if left, ok := availableMemory(); !ok || left < 10<<20 {
		t.Errorf("got %d, %v", left, ok)
	}
	if used := privateMemory(); used < 1<<20 {
		t.Errorf("private memory: got %d", used)
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
		write(t, filepath.Join(dir, name), []byte(content))
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

// The limit is the least of the machine's memory and of the groups that the
// process is in, whatever is used.
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
				write(t, filepath.Join(root, name), []byte(content))
			}
			got, ok := leastMemory(root, "MemTotal:", limitOf)
			if ok != test.ok || ok && got != test.want {
				t.Errorf("got %d, %v, want %d, %v", got, ok, test.want, test.ok)
			}
		})
	}
}
