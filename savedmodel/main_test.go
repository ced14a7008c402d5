package savedmodel

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// Every test must end its goroutines and close its tensors.
func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		os.Exit(helper(os.Args[1:]))
	}
	// An example cannot skip itself.
	if err := OpenLibrary(""); errors.Is(err, ErrNoRuntime) {
		_ = flag.Set("test.skip", "^ExampleLoad$")
	}
	testenv.Main(m, func() error {
		if live, leaked := LiveTensors(), LeakedTensors(); live != 0 || leaked != 0 {
			return fmt.Errorf("%d tensors are not closed, %d were lost", live, leaked)
		}
		return nil
	})
}

// openLibrary opens TensorFlow's library, and skips the test if there is none.
func openLibrary(tb testing.TB) {
	tb.Helper()
	err := OpenLibrary(testenv.TensorFlow(tb))
	if errors.Is(err, ctf.ErrNoRuntime) {
		tb.Skip(err)
	}
	must(tb, err)
}

// newSession returns a session of nodes until the test ends.
func newSession(tb testing.TB, nodes ...*tfpb.NodeDef) *Session {
	tb.Helper()
	openLibrary(tb)
	s, err := NewSession(&tfpb.GraphDef{Node: nodes}, Options{})
	must(tb, err)
	tb.Cleanup(func() { must(tb, s.Close()) })
	return s
}

// node returns an operation with the given type as its attribute T, or as dtype if it has no
// inputs.
func node(name, op string, dtype DataType, inputs ...string) *tfpb.NodeDef {
	attr := "T"
	if len(inputs) == 0 {
		attr = "dtype"
	}
	return &tfpb.NodeDef{Name: name, Op: op, Input: inputs, Attr: map[string]*tfpb.AttrValue{
		attr: {Value: &tfpb.AttrValue_Type{Type: tfpb.DataType(dtype)}},
	}}
}

func function(tb testing.TB, s *Session, feeds, fetches []string) *Function {
	tb.Helper()
	f, err := s.Function(feeds, fetches)
	must(tb, err)
	return f
}

// run runs f and closes the results when the test ends.
func run(tb testing.TB, f *Function, inputs ...*Tensor) []*Tensor {
	tb.Helper()
	out, err := f.Run(tb.Context(), inputs...)
	must(tb, err)
	for _, t := range out {
		tb.Cleanup(t.Close)
	}
	return out
}

// tensorOf returns a tensor of data until the test ends.
func tensorOf[T Number](tb testing.TB, dtype DataType, data []T, shape ...int64) *Tensor {
	tb.Helper()
	t, err := NewTensor(dtype, shape...)
	must(tb, err)
	tb.Cleanup(t.Close)
	view, err := Data[T](t)
	must(tb, err)
	if copy(view, data) != len(data) {
		tb.Fatalf("%d elements do not fit into shape %v", len(data), t.Shape())
	}
	return t
}

func stringsOf(tb testing.TB, values [][]byte, shape ...int64) *Tensor {
	tb.Helper()
	t, err := NewStringTensor(values, shape...)
	must(tb, err)
	tb.Cleanup(t.Close)
	return t
}

// resident returns the resident memory of the process in bytes, without free memory of Go's heap.
func resident(tb testing.TB) int {
	tb.Helper()
	debug.FreeOSMemory()
	return residentNow(tb)
}

func residentNow(tb testing.TB) int {
	tb.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	must(tb, err)
	return pages * os.Getpagesize()
}
