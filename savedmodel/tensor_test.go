package savedmodel

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"inceptor/savedmodel/tfpb"
)

// views calls Data with each Go type.
var views = map[string]func(*Tensor) (int, error){
	"bool": view[bool], "int8": view[int8], "int16": view[int16], "int32": view[int32], "int64": view[int64],
	"uint8": view[uint8], "uint16": view[uint16], "uint32": view[uint32], "uint64": view[uint64],
	"float32": view[float32], "float64": view[float64], "complex64": view[complex64], "complex128": view[complex128],
}

func view[T Number](t *Tensor) (int, error) {
	data, err := Data[T](t)
	return len(data), err
}

// goTypes are the Go types of dtypes with another name; empty if Data does not support the dtype.
var goTypes = map[DataType]string{
	QInt8: "int8", QUInt8: "uint8", QInt16: "int16", QUInt16: "uint16", QInt32: "int32",
	Float16: "uint16", BFloat16: "uint16",
	Float8E5M2: "", Float8E4M3FN: "", Float8E4M3FNUZ: "", Float8E4M3B11FNUZ: "", Float8E5M2FNUZ: "",
	Int4: "", UInt4: "", Int2: "", UInt2: "", Float4E2M1FN: "",
}

func TestFixedTypes(t *testing.T) {
	var dtypes []DataType
	var nodes []*tfpb.NodeDef
	for i := range dataTypes {
		if d := DataType(i); d.Size() > 0 {
			dtypes = append(dtypes, d)
			nodes = append(nodes, node("in-"+d.String(), "Placeholder", d), node("out-"+d.String(), "Identity", d, "in-"+d.String()))
		}
	}
	s := newSession(t, nodes...)
	for _, d := range dtypes {
		t.Run(d.String(), func(t *testing.T) {
			in, err := NewTensor(d, 2, 3)
			must(t, err)
			defer in.Close()
			if len(in.Bytes()) != 6*d.Size() {
				t.Fatalf("%d bytes", len(in.Bytes()))
			}
			for i := range in.Bytes() {
				in.Bytes()[i] = byte(37*i + 1)
				if d == Bool {
					in.Bytes()[i] = byte(i % 2)
				}
			}
			want := bytes.Clone(in.Bytes())
			out := run(t, function(t, s, []string{"in-" + d.String()}, []string{"out-" + d.String()}), in)[0]
			in.Close() // out must not need it
			if out.DType() != d || !slices.Equal(out.Shape(), Shape{2, 3}) || !bytes.Equal(out.Bytes(), want) {
				t.Errorf("got %v %v % x, want % x", out.DType(), out.Shape(), out.Bytes(), want)
			}
			goType, renamed := goTypes[d]
			if !renamed {
				goType = d.String()
			}
			for name, view := range views {
				n, err := view(out)
				if name == goType && (err != nil || n != 6) {
					t.Errorf("as %s: %d elements, %v", name, n, err)
				}
				if name != goType && (err == nil || err.Error() != fmt.Sprintf("tensor holds %v, not %s", d, name)) {
					t.Errorf("as %s: %v", name, err)
				}
			}
			if _, err := out.Strings(); err == nil {
				t.Error("it holds strings")
			}
		})
	}
}

func TestData(t *testing.T) {
	s := newSession(t, node("in", "Placeholder", Float64), node("out", "Neg", Float64, "in"))
	in := tensorOf(t, Float64, []float64{1, math.Inf(-1), math.MaxFloat64, 0.1}, 4)
	got, err := Data[float64](run(t, function(t, s, []string{"in"}, []string{"out"}), in)[0])
	if want := []float64{-1, math.Inf(1), -math.MaxFloat64, -0.1}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestStrings(t *testing.T) {
	s := newSession(t,
		node("in", "Placeholder", String), node("out", "Identity", String, "in"),
		&tfpb.NodeDef{Name: "length", Op: "StringLength", Input: []string{"in"}})
	// TensorFlow stores up to 22 bytes in the element itself.
	var values [][]byte
	for _, n := range []int{0, 1, 22, 23, 24, 25, 1 << 20} {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(i * 7) // with NULs
		}
		values = append(values, v)
	}
	values = append(values, nil)
	in := stringsOf(t, values, 4, 2)
	out := run(t, function(t, s, []string{"in"}, []string{"out", "length"}), in)
	in.Close()
	got, err := out[0].Strings()
	must(t, err)
	lengths, err := Data[int32](out[1])
	must(t, err)
	for i, v := range values {
		if !bytes.Equal(got[i], v) || int(lengths[i]) != len(v) {
			t.Errorf("string of %d bytes comes back with %d, and TensorFlow sees %d", len(v), len(got[i]), lengths[i])
		}
	}
	if len(got) != len(values) || out[0].DType() != String || !slices.Equal(out[0].Shape(), Shape{4, 2}) {
		t.Errorf("%d strings, %v %v", len(got), out[0].DType(), out[0].Shape())
	}
	if out[0].Bytes() != nil {
		t.Error("it has bytes")
	}
	if _, err := Data[uint8](out[0]); err == nil {
		t.Error("it has data")
	}
}

func TestScalarsAndEmptyTensors(t *testing.T) {
	s := newSession(t,
		node("in", "Placeholder", Int64), node("out", "Identity", Int64, "in"),
		node("texts", "Placeholder", String), node("same", "Identity", String, "texts"))
	for _, shape := range []Shape{{}, {0}, {3, 0}, {0, 1 << 40, 1 << 40}, {2, 1, 1, 1, 1, 1, 1}, make(Shape, maxRank)} {
		t.Run(shape.String(), func(t *testing.T) {
			n, _ := shape.Elements()
			in := tensorOf(t, Int64, []int64{5, 6}[:n], shape...)
			texts := stringsOf(t, [][]byte{[]byte("a"), []byte("b")}[:n], shape...)
			for i, out := range run(t, function(t, s, []string{"in", "texts"}, []string{"out", "same"}), in, texts) {
				for _, tensor := range []*Tensor{in, texts, out} {
					if tensor.Shape() == nil || !slices.Equal(tensor.Shape(), shape) {
						t.Errorf("shape is %v", tensor.Shape())
					}
				}
				if i == 0 {
					got, err := Data[int64](out)
					if err != nil || !slices.Equal(got, []int64{5, 6}[:n]) {
						t.Errorf("got %v, %v", got, err)
					}
				} else if got, err := out.Strings(); err != nil || string(bytes.Join(got, nil)) != "ab"[:n] {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
}

func TestNewTensorRefuses(t *testing.T) {
	openLibrary(t)
	tests := []struct {
		name  string
		dtype DataType
		shape []int64
		want  string
	}{
		{"negative", Float32, []int64{2, -1}, "shape [2, ?] is not possible"},
		{"overflow", UInt8, []int64{math.MaxInt64, 2}, "is not possible"},
		{"overflow before nothing", UInt8, []int64{1 << 33, 1 << 33, 0}, "is not possible"},
		{"overflow in bytes", Float32, []int64{math.MaxInt64 / 2}, "is too large"},
		{"rank", Float32, make([]int64, maxRank+1), "255 dimensions are too many"},
		{"string", String, []int64{1}, "string has no fixed size"},
		{"resource", Resource, nil, "resource has no fixed size"},
		{"reference", Float32 + refOffset, nil, "float32_ref has no fixed size"},
		{"invalid", Invalid, nil, "no fixed size"},
		{"unknown", 99, nil, "no fixed size"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewTensor(test.dtype, test.shape...)
			if err == nil || !strings.HasPrefix(err.Error(), "new tensor: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	for name, shape := range map[string][]int64{"few": {3}, "many": {1}, "scalar": {}, "negative": {-2}, "rank": make([]int64, maxRank+1)} {
		if _, err := NewStringTensor(make([][]byte, 2), shape...); err == nil {
			t.Errorf("%s: two strings have the shape %v", name, shape)
		}
	}
	if n := LiveTensors(); n != 0 {
		t.Errorf("%d tensors are left", n)
	}
}

// TensorFlow waits 10 s for memory and then returns a tensor without memory.
func TestNewTensorWithoutMemory(t *testing.T) {
	t.Parallel()
	openLibrary(t)
	_, err := NewTensor(Float32, 1<<50)
	var status *Error
	if !errors.As(err, &status) || status.Code != ResourceExhausted {
		t.Errorf("4 PiB: %v", err)
	}
}

func TestTensorClose(t *testing.T) {
	s := newSession(t, node("in", "Placeholder", Float32), node("out", "Identity", Float32, "in"))
	f := function(t, s, []string{"in"}, []string{"out"})
	live := LiveTensors()
	number, err := NewTensor(Float32, 2)
	must(t, err)
	text, err := NewStringTensor([][]byte{[]byte("a")})
	must(t, err)
	if n := LiveTensors() - live; n != 2 {
		t.Errorf("%d tensors live", n)
	}
	for range 2 {
		number.Close()
		text.Close()
		if n := LiveTensors() - live; n != 0 {
			t.Errorf("%d tensors live after Close", n)
		}
	}
	if number.Bytes() != nil || text.Bytes() != nil {
		t.Error("a closed tensor has bytes")
	}
	if _, err := Data[float32](number); !errors.Is(err, errTensorClosed) {
		t.Errorf("Data: %v", err)
	}
	if _, err := text.Strings(); !errors.Is(err, errTensorClosed) {
		t.Errorf("Strings: %v", err)
	}
	if _, err := f.Run(t.Context(), number); !errors.Is(err, errTensorClosed) || !strings.Contains(err.Error(), "feed in") {
		t.Errorf("Run: %v", err)
	}
	if number.DType() != Float32 || !slices.Equal(number.Shape(), Shape{2}) {
		t.Errorf("it was %v %v", number.DType(), number.Shape())
	}
}

// Slices from Bytes and Data do not keep a tensor alive: a lost tensor is freed and counted.
func TestLostTensors(t *testing.T) {
	openLibrary(t)
	live, leaked := LiveTensors(), LeakedTensors()
	const lost = 8
	for i := range lost {
		if _, err := NewStringTensor([][]byte{make([]byte, 1<<uint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); LeakedTensors()-leaked < lost && time.Now().Before(deadline); {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if n := LeakedTensors() - leaked; n != lost {
		t.Errorf("%d of %d lost tensors are counted", n, lost)
	}
	if n := LiveTensors(); n != live {
		t.Errorf("%d tensors live, were %d", n, live)
	}
	leakedTensors.Store(leaked) // these were on purpose
}

// Closed tensors never count as leaked.
func TestClosedTensorsAreNotLost(t *testing.T) {
	openLibrary(t)
	leaked := LeakedTensors()
	for range 1000 {
		tensor, err := NewTensor(Float32, 100)
		must(t, err)
		tensor.Close()
	}
	for range 3 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if n := LeakedTensors() - leaked; n != 0 {
		t.Errorf("%d are", n)
	}
}

// Strings are outside Go's heap. Tensors with 2 GB of strings, one after the other, must not leak.
func TestStringMemoryIsGivenBack(t *testing.T) {
	s := newSession(t, node("in", "Placeholder", String), node("out", "Identity", String, "in"))
	f := function(t, s, []string{"in"}, []string{"out"})
	value := [][]byte{bytes.Repeat([]byte("x"), 1<<20)}
	once := func() {
		in, err := NewStringTensor(value)
		must(t, err)
		defer in.Close()
		out, err := f.Run(t.Context(), in)
		must(t, err)
		out[0].Close()
	}
	for range 100 {
		once()
	}
	before := resident(t)
	for range 2000 {
		once()
	}
	grown := resident(t) - before
	t.Logf("resident %d MiB, %+d KiB in 2000 runs", before>>20, grown>>10)
	if grown > 16<<20 {
		t.Errorf("resident memory grew by %d MiB", grown>>20)
	}
}
