package model

import (
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// sizesSeen records the sizes of a version's runs.
type sizesSeen struct {
	Unobserved
	mu    sync.Mutex
	sizes map[int]int
}

func (s *sizesSeen) BatchRun(_ int64, r infer.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[r.Size]++
}

// A version with batches of fixed size is loaded, tuned, checked and asked like any other.
func TestFixedBatchVersion(t *testing.T) {
	modeltest.OpenLibrary(t)
	base := t.TempDir()
	modeltest.Tiny{Bias: 7, Batch: 8}.Write(t, filepath.Join(base, "1"))
	c := tinyConfig(base)
	log, seen := &modeltest.Log{}, &sizesSeen{sizes: map[int]int{}}
	m, err := New(c, slog.New(slog.NewTextHandler(log, nil)), seen)
	if err == nil {
		err = m.Load(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if told := log.Lines("every run takes a batch of one size"); len(told) != 1 || !strings.Contains(told[0], "records=8") {
		t.Errorf("the log says %q", told)
	}
	if e := infer.Explain(filepath.Join(base, "1"), infer.Images, infer.SpecOverrides{}); e.Refused != "" || !strings.Contains(strings.Join(e.Notes, "\n"), "every run takes 8 records") {
		t.Errorf("it is explained as %+v", e)
	}
	if n := m.MaxBatch(); n != 8 {
		t.Errorf("a run takes %d records, want 8", n)
	}
	var callers sync.WaitGroup
	for range 40 {
		callers.Go(func() {
			if p, err := m.Classify(t.Context(), nil, modeltest.BlackImage); err != nil || p.Classes[0].Score != 7 {
				t.Errorf("got %+v, %v", p.Classes, err)
			}
		})
	}
	callers.Wait()
	records := 0
	for size, n := range seen.sizes {
		records += size * n
	}
	if records != 40 || slices.Max(slices.Collect(maps.Keys(seen.sizes))) > 8 {
		t.Errorf("40 records in runs of %v", seen.sizes)
	}

	found, err := tune(t.Context(), c, time.Millisecond, leastRounds, notShown)
	if err != nil {
		t.Fatal(err)
	}
	if sizes := slices.Collect(maps.Keys(found.Measurements[0].Rounds[0])); !slices.Equal(sizes, []int{8}) {
		t.Errorf("it is tuned in batches of %v, want 8", sizes)
	}
	c.Optimize = optimizeAuto
	if measurement, err := CompareGraphs(t.Context(), c, 1); err != nil {
		t.Errorf("got %+v, %v", measurement, err)
	}
}
