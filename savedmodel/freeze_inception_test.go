package savedmodel

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"inceptor/testenv"
)

// inceptionInputs returns random pixels and photos, in batches of 1 and 8, for both signatures of
// the export.
func inceptionInputs(tb testing.TB) (pixels, photos []*Tensor) {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(testenv.Photos(tb), "*.jpg"))
	must(tb, err)
	if len(names) == 0 {
		tb.Fatal("no photos")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 8} {
		x := make([]float32, n*299*299*3)
		for i := range x {
			x[i] = random.Float32()
		}
		pixels = append(pixels, tensorOf(tb, Float32, x, int64(n), 299, 299, 3))
		images := make([][]byte, n)
		for i := range images {
			images[i], err = os.ReadFile(names[(i+n)%len(names)])
			must(tb, err)
		}
		photos = append(photos, stringsOf(tb, images, int64(n)))
	}
	return pixels, photos
}

// Inception gives the same answers however it is loaded, also in parallel runs.
func TestFreezeInception(t *testing.T) {
	openLibrary(t)
	dir := filepath.Join(testenv.Model(t), "1")
	pixels, photos := inceptionInputs(t)
	answers := func(m *Model) [][]float32 {
		var all [][]float32
		for _, s := range []struct {
			signature, input string
			batches          []*Tensor
		}{{"serving_default", "images", pixels}, {"serving_bytes", "image_bytes", photos}} {
			f, err := m.SignatureFunction(s.signature, []string{s.input}, []string{"scores"})
			must(t, err)
			for _, batch := range s.batches {
				for range 2 { // the first run makes kernels' state
					out, err := f.Run(t.Context(), batch)
					must(t, err)
					scores, err := Data[float32](out[0])
					must(t, err)
					all = append(all, slices.Clone(scores))
					out[0].Close()
				}
			}
		}
		return all
	}
	want := answers(loadWith(t, dir, Options{}))
	for _, k := range []Kernels{KernelsTensorFlow, KernelsOneDNN} {
		t.Run(k.String(), func(t *testing.T) {
			m := loadWith(t, dir, Options{Optimize: true, Kernels: k})
			if !m.Frozen {
				t.Fatal(m.WhyNot)
			}
			largest := 0.0
			var (
				group sync.WaitGroup
				mu    sync.Mutex
			)
			for range 2 {
				group.Go(func() {
					got := answers(m)
					mu.Lock()
					defer mu.Unlock()
					for i := range want {
						if len(got[i]) != len(want[i]) {
							t.Errorf("batch %d: %d scores", i, len(got[i]))
							continue
						}
						for j := range want[i] {
							largest = max(largest, math.Abs(float64(got[i][j]-want[i][j])))
						}
					}
				})
			}
			group.Wait()
			t.Logf("largest difference %.1e", largest)
			if !(largest <= 1e-5) {
				t.Errorf("differs by %g", largest)
			}
		})
	}
	found := kinds(t, dir, KernelsOneDNN)
	if found[oneDNNConv] != 2*94 || found["VarHandleOp"] != 94+6 || found["Relu"]+found["BiasAdd"]+found["Mul"] != 0 {
		t.Errorf("operations: %v", found)
	}
}
