//go:build !race

package zoo

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"inceptor/model"
	"inceptor/savedmodel"
)

// A load may take this many times the size of the version's files, and a constant for the runs of
// its warm-up and for what TensorFlow keeps.
const (
	memoryTimes    = 3
	memoryConstant = 512 << 20
)

// load is m.Load, within bounds of time and memory.
func (s specimen) load(t *testing.T, m *model.Manager, dir string) error {
	t.Helper()
	debug.FreeOSMemory()
	savedmodel.TrimMemory()
	measured := resetPeak()
	before := peakMemory()
	start := time.Now()
	err := m.Load(t.Context())
	took, peak := time.Since(start), peakMemory()
	if took > gateTimeout {
		t.Errorf("the load took %v, longer than its gate's %v", took, gateTimeout)
	}
	if most := memoryTimes*size(t, dir) + memoryConstant; measured && peak-before > most {
		t.Errorf("the load took %d MiB of memory, want %d MiB at most", (peak-before)>>20, most>>20)
	}
	t.Logf("%v, %d MiB of memory, %d MiB of files", took.Round(time.Millisecond), (peak-before)>>20, size(t, dir)>>20)
	return err
}

// warm loads a model once, so that the library's own pages do not count as a model's.
func warm(t *testing.T) {
	t.Helper()
	s := specimen{model: "tf1_ref"}
	m, err := model.New(model.Config{Name: "zoo", Dir: s.place(t), MaxPixels: 40e6, Poll: time.Second, Gate: model.Gate{Timeout: gateTimeout}},
		slog.New(slog.DiscardHandler), model.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// size returns the size of the files that the links in dir lead to.
func size(t *testing.T, dir string) int64 {
	t.Helper()
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(path)
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
