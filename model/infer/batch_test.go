package infer

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

const poison = 13

// runs records the runs of a batcher.
type runs struct{ all []Run }

func (r *runs) runDone(last Run) { r.all = append(r.all, last) }

func (r *runs) runOverdue(ActiveRun, bool) {}

// A fakeModel scores an image of one pixel by its value, and refuses a batch with poison.
type fakeModel struct {
	mu    sync.Mutex
	sizes []int
	hold  chan struct{} // if not nil, a run waits for it
	err   error
	odd   bool // poison gives scores that are not finite
}

func (f *fakeModel) run(_ context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
	if f.hold != nil {
		<-f.hold
	}
	pixels, err := savedmodel.Data[float32](in[0])
	if err != nil {
		return nil, err
	}
	n := int64(len(pixels))
	f.mu.Lock()
	f.sizes = append(f.sizes, int(n))
	f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	switch found := slices.Contains(pixels, poison); {
	case found && f.odd:
		return nil, savedmodel.ErrNotFinite
	case found:
		return nil, &savedmodel.Error{Code: savedmodel.InvalidArgument, Message: "poison"}
	}
	out, err := savedmodel.NewTensor(savedmodel.Float32, n, 1)
	if err != nil {
		return nil, err
	}
	scores, err := savedmodel.Data[float32](out)
	copy(scores, pixels)
	return []*savedmodel.Tensor{out}, err
}

func pixel(t testing.TB, value float32) item {
	t.Helper()
	p, err := savedmodel.NewTensor(savedmodel.Float32, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := savedmodel.Data[float32](p)
	if err != nil {
		t.Fatal(err)
	}
	data[0] = value
	return item{pixels: p}
}

// runnerOf returns a runner of a fake model.
func runnerOf(f *fakeModel) runner {
	return newRunner(signature{
		Spec: Spec{Output: Output{Scores: "scores"}}, feeds: []feed{{dtype: savedmodel.Float32, shape: savedmodel.Shape{1}, from: fromImage}},
	}, f.run)
}

func TestBatcherIsolatesPoison(t *testing.T) {
	modeltest.OpenLibrary(t)
	for _, test := range []struct {
		name   string
		values []float32
		reason string
	}{
		{"alone", []float32{poison}, ReasonModelRefused},
		{"first", []float32{poison, 1, 2, 3, 4, 5, 6, 7}, ReasonModelRefused},
		{"last", []float32{0, 1, 2, 3, 4, 5, 6, poison}, ReasonModelRefused},
		{"two", []float32{0, poison, 2, 3, poison, 5, 6, 7}, ReasonModelRefused},
		{"all", []float32{poison, poison, poison}, ReasonModelRefused},
		{"not a number", []float32{1, float32(math.NaN()), 3}, ReasonNotFinite},
		{"infinite", []float32{1, float32(math.Inf(-1)), 3}, ReasonNotFinite},
		{"not finite on the way", []float32{0, poison, 2, 3, 4, 5, 6, poison}, ReasonNotFinite},
	} {
		t.Run(test.name, func(t *testing.T) {
			model := &fakeModel{odd: test.reason == ReasonNotFinite}
			b := &batcher{run: plain(runnerOf(model).batch), config: Batch{Max: 8}, observer: &runs{}}
			batch := make([]item, len(test.values))
			for i, v := range test.values {
				batch[i] = pixel(t, v)
				batch[i].result = make(chan result, 1)
				defer batch[i].close()
			}
			b.answer(batch, batch)
			for i, v := range test.values {
				r := <-batch[i].result
				var guilty *InputError
				bad := v == poison || v != v || math.IsInf(float64(v), 0)
				switch {
				case bad && (!errors.As(r.err, &guilty) || guilty.Reason != test.reason):
					t.Errorf("item %d: got %v, want %s", i, r.err, test.reason)
				case !bad && (r.err != nil || r.scores[0] != v):
					t.Errorf("item %d: got %v, %v, want %v", i, r.scores, r.err, v)
				}
			}
		})
	}
}

// An error that does not blame the input goes to every caller, and may pass.
func TestBatcherFault(t *testing.T) {
	modeltest.OpenLibrary(t)
	fault := &savedmodel.Error{Code: savedmodel.ResourceExhausted, Message: "no memory"}
	model := &fakeModel{err: fault}
	b := newBatcher(plain(runnerOf(model).batch), 1, true, Batch{Max: 4}, &runs{})
	defer b.close()
	_, err := b.submit(t.Context(), pixel(t, 1))
	if guilty := new(InputError); !errors.Is(err, fault) || errors.As(err, &guilty) {
		t.Errorf("got %v, want %v", err, fault)
	}
	if len(model.sizes) != 1 {
		t.Errorf("the model ran %d times", len(model.sizes))
	}
}

// A single image runs at once; others gather while it runs.
func TestBatcherGathers(t *testing.T) {
	modeltest.OpenLibrary(t)
	synctest.Test(t, func(t *testing.T) {
		model := &fakeModel{hold: make(chan struct{})}
		b := newBatcher(plain(runnerOf(model).batch), 1, true, Batch{Max: 4}, &runs{})
		var wg sync.WaitGroup
		send := func(v float32) {
			it := pixel(t, v)
			wg.Go(func() {
				if r, err := b.submit(t.Context(), it); err != nil || r.scores[0] != v {
					t.Errorf("image %v: got %v, %v", v, r.scores, err)
				}
			})
		}
		send(0)
		synctest.Wait() // it runs
		for v := range 6 {
			send(float32(v + 1))
		}
		synctest.Wait()
		close(model.hold)
		wg.Wait()
		b.close()
		if want := []int{1, 4, 2}; !slices.Equal(model.sizes, want) {
			t.Errorf("batches of %v, want %v", model.sizes, want)
		}
	})
}

// While a batch runs, only a full one begins; the rest waits for the end of either.
func TestBatcherLanes(t *testing.T) {
	modeltest.OpenLibrary(t)
	synctest.Test(t, func(t *testing.T) {
		model := &fakeModel{hold: make(chan struct{})}
		b := newBatcher(plain(runnerOf(model).batch), 2, true, Batch{Max: 3}, unobservedRuns{})
		var wg sync.WaitGroup
		send := func(n int) {
			for range n {
				it := pixel(t, 1)
				wg.Go(func() {
					if _, err := b.submit(t.Context(), it); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
		}
		for _, step := range []struct {
			sent    int
			running int32
		}{{1, 1}, {2, 1}, {1, 2}, {2, 2}} {
			if send(step.sent); b.running.Load() != step.running {
				t.Errorf("%d runs after %d more images, want %d", b.running.Load(), step.sent, step.running)
			}
		}
		close(model.hold)
		wg.Wait()
		b.close()
		slices.Sort(model.sizes)
		if want := []int{1, 2, 3}; !slices.Equal(model.sizes, want) {
			t.Errorf("batches of %v, want %v", model.sizes, want)
		}
	})
}

// A caller that gives up does not affect the others.
func TestBatcherAbandoned(t *testing.T) {
	modeltest.OpenLibrary(t)
	synctest.Test(t, func(t *testing.T) {
		model := &fakeModel{hold: make(chan struct{})}
		b := newBatcher(plain(runnerOf(model).batch), 1, true, Batch{Max: 2}, &runs{})
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp atomic.Int32
		var wg sync.WaitGroup
		for range 3 { // one runs, two wait
			it := pixel(t, 1)
			wg.Go(func() {
				if _, err := b.submit(ctx, it); errors.Is(err, context.Canceled) {
					gaveUp.Add(1)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		close(model.hold)
		if _, err := b.submit(t.Context(), pixel(t, 2)); err != nil {
			t.Error(err)
		}
		b.close()
		if gaveUp.Load() != 3 {
			t.Errorf("%d gave up, want 3", gaveUp.Load())
		}
	})
}

func TestTopK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores := rapid.SliceOfN(rapid.Float32Range(0, 3), 1, 50).Draw(t, "scores")
		if rapid.Bool().Draw(t, "ties") {
			for i := range scores {
				scores[i] = float32(math.Floor(float64(scores[i])))
			}
		}
		k := rapid.IntRange(1, 60).Draw(t, "k")
		want := make([]int, len(scores))
		for i := range want {
			want[i] = i
		}
		slices.SortStableFunc(want, func(a, b int) int {
			switch {
			case scores[a] > scores[b]:
				return -1
			case scores[a] < scores[b]:
				return 1
			}
			return 0
		})
		var got []int
		for _, c := range topK(scores, nil, k, []string{"zero", "one"}) {
			got = append(got, c.Index)
			if label := map[int]string{0: "zero", 1: "one"}[c.Index]; c.Label != label || c.Score != scores[c.Index] {
				t.Fatalf("class %d is %+v", c.Index, c)
			}
		}
		if want = want[:min(k, len(want))]; !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// Batches shrink until a run fits the budget, and grow again.
func TestLatencyBudget(t *testing.T) {
	b := &batcher{config: Batch{Max: 8, LatencyBudget: 200 * time.Millisecond}}
	most, each := 8, 30*time.Millisecond
	full := func(n int) {
		for range n {
			most = b.adapt(most, most, time.Duration(most)*each)
		}
	}
	full(20)
	if most < 2 || most > 4 { // three images take 90 ms
		t.Errorf("%d images of 30 ms in 100 ms", most)
	}
	each = 10 * time.Millisecond
	full(20)
	if most != 8 {
		t.Errorf("%d images of 10 ms in 100 ms", most)
	}
	if got := b.adapt(8, 3, time.Millisecond); got != 8 {
		t.Errorf("a small batch changes the size of large ones: got %d", got)
	}
	each = time.Second
	full(20)
	if most != 1 {
		t.Errorf("at least one image: %d", most)
	}
	b.config.LatencyBudget = 0
	if got := b.adapt(8, 8, time.Hour); got != 8 {
		t.Errorf("without a budget: got %d", got)
	}
}
