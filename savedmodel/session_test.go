package savedmodel

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/savedmodel/tfpb"
)

// product returns a graph that multiplies the matrices a and b.
func product() []*tfpb.NodeDef {
	return []*tfpb.NodeDef{
		node("a", "Placeholder", Float32), node("b", "Placeholder", Float32), node("ab", "MatMul", Float32, "a", "b"),
	}
}

func TestNewSessionRefuses(t *testing.T) {
	openLibrary(t)
	tests := []struct {
		name  string
		nodes []*tfpb.NodeDef
		code  Code
		want  string
	}{
		{"unknown operation", []*tfpb.NodeDef{node("x", "NoSuchOp", Float32)}, NotFound, "NoSuchOp"},
		{"missing input", []*tfpb.NodeDef{node("x", "Identity", Float32, "nothing")}, InvalidArgument, "nothing"},
		{"missing attribute", []*tfpb.NodeDef{{Name: "x", Op: "Placeholder"}}, InvalidArgument, "dtype"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewSession(&tfpb.GraphDef{Node: test.nodes}, Options{})
			var status *Error
			if !errors.As(err, &status) || status.Code != test.code || !strings.Contains(status.Message, test.want) {
				t.Errorf("got %v, want %v about %s", err, test.code, test.want)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "import graph: "+test.code.String()+": ") {
				t.Errorf("error reads %v", err)
			}
		})
	}
	t.Run("empty", func(t *testing.T) { newSession(t) })
}

func TestFunctionNames(t *testing.T) {
	s := newSession(t, product()...)
	tests := []struct {
		name           string
		feeds, fetches []string
		want           string // "": it works
	}{
		{"no index is the first", []string{"a", "b"}, []string{"ab"}, ""},
		{"index", []string{"a:0", "b:0"}, []string{"ab:0", "a"}, ""},
		{"missing feed", []string{"a", "c"}, []string{"ab"}, `feed: graph has no tensor "c"`},
		{"missing fetch", []string{"a"}, []string{"ab", ""}, `fetch: graph has no tensor ""`},
		{"index too high", []string{"a:1"}, nil, `feed: graph has no tensor "a:1"`},
		{"index too low", []string{"a:-1"}, nil, `feed: graph has no tensor "a:-1"`},
		{"index far too high", nil, []string{"a:4294967296"}, `fetch: graph has no tensor "a:4294967296"`},
		{"no index", nil, []string{"a:x"}, `fetch: tensor name "a:x": index is not a number`},
		{"two indexes", nil, []string{"a:0:0"}, `fetch: tensor name "a:0:0": index is not a number`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Function(test.feeds, test.fetches)
			if got := fmt.Sprint(err); err != nil && got != test.want || err == nil && test.want != "" {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestRunErrors(t *testing.T) {
	s := newSession(t, product()...)
	names := []string{"a", "b"}
	f := function(t, s, names, []string{"ab"})
	names[0] = "changed"
	a, wrong := tensorOf(t, Float32, []float32{1, 2}, 1, 2), tensorOf(t, Float32, []float32{1, 2, 3}, 3, 1)
	integers := tensorOf(t, Int32, []int32{1, 2}, 2, 1)
	code := func(err error) Code {
		var status *Error
		errors.As(err, &status)
		if status == nil {
			return -1
		}
		return status.Code
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()

	if _, err := f.Run(t.Context(), a, wrong); code(err) != InvalidArgument {
		t.Errorf("wrong shape: %v", err)
	}
	if _, err := f.Run(t.Context(), a, integers); code(err) != InvalidArgument {
		t.Errorf("wrong dtype: %v", err)
	}
	if _, err := f.Run(t.Context(), a); err == nil || err.Error() != "run: 1 tensors for the feeds [a b]" {
		t.Errorf("too few: %v", err)
	}
	if _, err := f.Run(t.Context(), a, a, a); err == nil || err.Error() != "run: 3 tensors for the feeds [a b]" {
		t.Errorf("too many: %v", err)
	}
	if _, err := f.Run(t.Context(), a, nil); err == nil || err.Error() != "run: feed b: no tensor" {
		t.Errorf("nil: %v", err)
	}
	if _, err := f.Run(cancelled, a, wrong); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// The first fetch succeeds before the second fails. Its tensor must not leak.
	both := function(t, s, []string{"a", "b"}, []string{"a", "ab"})
	if _, err := both.Run(t.Context(), a, wrong); code(err) != InvalidArgument {
		t.Errorf("one of two fetches: %v", err)
	}
	if _, err := function(t, s, []string{"a"}, nil).Run(t.Context(), a); code(err) != InvalidArgument {
		t.Errorf("no fetch: %v", err)
	}
	if _, err := function(t, s, []string{"a", "a"}, []string{"a"}).Run(t.Context(), a, a); code(err) != InvalidArgument {
		t.Errorf("fed twice: %v", err)
	}
	if _, err := function(t, s, []string{"a"}, []string{"ab"}).Run(t.Context(), a); code(err) != InvalidArgument {
		t.Errorf("not fed: %v", err)
	}
	if n := LiveTensors(); n != 3 {
		t.Errorf("%d tensors live, not 3", n)
	}
}

// A run may have more feeds and fetches than maxStack, one of them twice.
func TestRunManyFetches(t *testing.T) {
	const n = maxStack + 3
	var nodes []*tfpb.NodeDef
	var feeds, fetches []string
	var inputs []*Tensor
	for i := range n {
		in, out := fmt.Sprint("in", i), fmt.Sprint("out", i)
		nodes = append(nodes, node(in, "Placeholder", Int32), node(out, "Neg", Int32, in))
		feeds, fetches = append(feeds, in), append(fetches, out)
	}
	fetches = append(fetches, "out0")
	s := newSession(t, nodes...)
	for i := range int32(n) {
		inputs = append(inputs, tensorOf(t, Int32, []int32{i + 1}))
	}
	for i, out := range run(t, function(t, s, feeds, fetches), inputs...) {
		got, err := Data[int32](out)
		if want := int32(-(i%n + 1)); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("fetch %d is %v, %v, want %d", i, got, err, want)
		}
	}
}

func TestTwoSessions(t *testing.T) {
	openLibrary(t)
	var group sync.WaitGroup
	for _, op := range []string{"Neg", "Square"} {
		group.Go(func() {
			for range 5 {
				def := &tfpb.GraphDef{Node: []*tfpb.NodeDef{node("in", "Placeholder", Float32), node("out", op, Float32, "in")}}
				s, err := NewSession(def, Options{IntraOpThreads: 1, InterOpThreads: 1, OwnThreads: op == "Neg"})
				if err != nil {
					t.Error(err)
					return
				}
				f, err := s.Function([]string{"in"}, []string{"out"})
				if err != nil {
					t.Error(err)
				}
				for range 20 {
					in := tensorOf(t, Float32, []float32{3})
					out, err := f.Run(t.Context(), in)
					in.Close()
					if err != nil {
						t.Error(err)
						break
					}
					got, _ := Data[float32](out[0])
					if want := map[string]float32{"Neg": -3, "Square": 9}[op]; !slices.Equal(got, []float32{want}) {
						t.Errorf("%s gives %v", op, got)
					}
					out[0].Close()
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestSessionClose(t *testing.T) {
	openLibrary(t)
	s, err := NewSession(&tfpb.GraphDef{Node: product()}, Options{})
	must(t, err)
	f := function(t, s, []string{"a", "b"}, []string{"ab"})
	const n = 1500 // some 100 ms
	a := tensorOf(t, Float32, make([]float32, n*n), n, n)

	ended := make(chan error)
	go func() {
		out, err := f.Run(t.Context(), a, a)
		for _, o := range out {
			o.Close()
		}
		ended <- err
	}()
	for s.running.TryLock() { // until the run holds it
		s.running.Unlock()
		runtime.Gosched()
	}
	closed := make(chan error)
	for range 2 {
		go func() { closed <- s.Close() }()
	}
	if err := <-ended; err != nil {
		t.Errorf("run while Close waits: %v", err)
	}
	for range 2 {
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := f.Run(t.Context(), a, a); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	if _, err := s.Function([]string{"a"}, []string{"ab"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Function after Close: %v", err)
	}
}

// Runs from many goroutines race with Close. Each gives an answer or ErrClosed, and none gives an
// answer after Close has returned.
func TestSessionCloseRace(t *testing.T) {
	openLibrary(t)
	for range 10 {
		s, err := NewSession(&tfpb.GraphDef{Node: product()}, Options{})
		must(t, err)
		f := function(t, s, []string{"a", "b"}, []string{"ab"})
		a := tensorOf(t, Float32, make([]float32, 64*64), 64, 64)
		var gone atomic.Bool
		var answers atomic.Int64
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for {
					late := gone.Load()
					out, err := f.Run(t.Context(), a, a)
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("run: %v", err)
						}
						return
					}
					answers.Add(1)
					out[0].Close()
					if late {
						t.Error("a closed session answers")
						return
					}
				}
			})
		}
		for answers.Load() < 20 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		gone.Store(true)
		group.Wait()
	}
}

// Several runs may use a tensor or a function at once.
func TestRunConcurrently(t *testing.T) {
	s := newSession(t, product()...)
	f := function(t, s, []string{"a", "b"}, []string{"ab"})
	shared := tensorOf(t, Float32, []float32{1, 2, 3, 4}, 2, 2)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			x := float32(g)
			b := tensorOf(t, Float32, []float32{x, 0, 0, x}, 2, 2)
			for range 100 {
				out, err := f.Run(t.Context(), shared, b)
				if err != nil {
					t.Error(err)
					return
				}
				if got, _ := Data[float32](out[0]); !slices.Equal(got, []float32{x, 2 * x, 3 * x, 4 * x}) {
					t.Errorf("goroutine %d got %v", g, got)
				}
				out[0].Close()
			}
		})
	}
	group.Wait()
}

// runAllocs bounds the allocations of a run with one feed and one fetch.
const runAllocs = 4

func TestRunAllocs(t *testing.T) {
	s := newSession(t, node("in", "Placeholder", Float32), node("out", "Neg", Float32, "in"))
	f := function(t, s, []string{"in"}, []string{"out"})
	in := tensorOf(t, Float32, []float32{1}, 1, 1, 1, 1)
	ctx := t.Context()
	got := testing.AllocsPerRun(200, func() {
		out, err := f.Run(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		out[0].Close()
	})
	if got > runAllocs {
		t.Errorf("%v allocations a run, the budget is %d", got, runAllocs)
	}
	t.Logf("%v allocations a run", got)
}

func BenchmarkRun(b *testing.B) {
	s := newSession(b, node("in", "Placeholder", Float32), node("out", "Neg", Float32, "in"))
	f := function(b, s, []string{"in"}, []string{"out"})
	in := tensorOf(b, Float32, []float32{1}, 1, 1, 1, 1)
	b.ReportAllocs()
	for b.Loop() {
		out, err := f.Run(b.Context(), in)
		must(b, err)
		out[0].Close()
	}
}
