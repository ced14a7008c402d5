//go:build !race

package savedmodel

import (
	"encoding/binary"
	"flag"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
	"inceptor/testenv/augment"
)

// reweighted returns a copy of the version in dir, whose variables have the values that value
// returns for their names and shapes, or their own where it returns nil.
func reweighted(tb testing.TB, dir string, value func(name string, shape Shape) []float32) string {
	tb.Helper()
	to := tb.TempDir()
	must(tb, os.Mkdir(filepath.Join(to, "variables"), 0o700))
	must(tb, os.Symlink(filepath.Join(dir, graphFile), filepath.Join(to, graphFile)))
	values, err := openCheckpoint(tb.Context(), dir)
	must(tb, err)
	defer values.close()
	names := make(map[string]string) // of variables, by their keys in the checkpoint
	for name, w := range frozenOf(tb, dir, KernelsOneDNN).weights {
		if w.scale == nil {
			names[w.entry.key] = name
		}
	}
	table := []tableEntry{header(1)}
	var data []byte
	for _, key := range sortedKeys(values.entries) {
		e := values.entries[key]
		if e.dtype != Float32 { // the description of Python's objects, which nothing here reads
			continue
		}
		b := make([]byte, e.size)
		numbers := []float32(nil)
		if name := names[key]; name != "" {
			numbers = value(name, e.shape)
		}
		if numbers == nil {
			must(tb, values.read(e, b))
		}
		for i, v := range numbers {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
		}
		table = append(table, tableEntry{key, message(&tfpb.BundleEntryProto{
			Dtype: tfpb.DataType(e.dtype), Shape: shapeMessage(e.shape), Offset: int64(len(data)), Size: e.size,
			Crc32C: maskCRC(crc32.Checksum(b, castagnoli)),
		})})
		data = append(data, b...)
	}
	index := new(tableBuilder).data(blockOf(table), tableUncompressed)
	index.handles[0].key = "~" // not before the last key, or TensorFlow does not look there
	must(tb, os.WriteFile(filepath.Join(to, indexFile), index.finish(), 0o600))
	must(tb, os.WriteFile(filepath.Join(to, variablesPrefix+".data-00000-of-00001"), data, 0o600))
	return to
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// A network is an Inception with random weights, in dir.
type network struct{ dir string }

// randomInception returns an Inception of 1001 classes with random weights. Filters are normal,
// with the deviation by which a Relu keeps the size of values; batch norms add a little. The last
// layer is normal, too, with as much deviation as an initializer gives it.
func randomInception(tb testing.TB) network {
	tb.Helper()
	random := rand.New(rand.NewPCG(7, 8))
	normal := func(n int64, deviation float64) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(deviation * random.NormFloat64())
		}
		return values
	}
	return network{reweighted(tb, filepath.Join(testenv.Zoo(tb), "keras_inception_v3/1"), func(name string, shape Shape) []float32 {
		n, _ := shape.Elements()
		switch {
		case len(shape) == 4:
			return normal(n, math.Sqrt(2*float64(shape[3])/float64(n)))
		case len(shape) == 2:
			return normal(n, math.Sqrt(2/float64(shape[0]+shape[1])))
		case strings.HasSuffix(name, "/beta"):
			return normal(n, 0.05)
		case strings.HasSuffix(name, "/moving_variance"):
			return slices.Repeat([]float32{1}, int(n))
		}
		return make([]float32, n)
	})}
}

func (n network) load(tb testing.TB, p Precision, r Ranges) *Model {
	tb.Helper()
	return loadWith(tb, n.dir, Options{Optimize: true, Kernels: KernelsOneDNN, Precision: p, Ranges: r, Signature: defaultSignature})
}

// pixels returns a photo, augmented in one way, as the network's input.
func pixels(tb testing.TB, photo augment.Photo, way augment.Way) *Tensor {
	tb.Helper()
	const side = 299
	return tensorOf(tb, Float32, augment.Append(nil, way.Picture(photo, side), 1/127.5, -1), 1, side, side, 3)
}

// ranges returns the largest result of each layer that these photos give.
func (n network) ranges(tb testing.TB, m *Model, photos []augment.Photo) Ranges {
	tb.Helper()
	var names []string
	for _, layer := range m.Layers() {
		names = append(names, layer.Name)
	}
	f, err := m.LayerFunction(defaultSignature, []string{"keras_tensor"}, []string{"output_0"}, names)
	must(tb, err)
	r := make(Ranges)
	for _, photo := range photos {
		for _, way := range augment.Ways[:2] {
			results := run(tb, f, pixels(tb, photo, way))
			for i, name := range names {
				values, err := Data[float32](results[1+i])
				must(tb, err)
				r[name] = max(r[name], slices.Max(values))
			}
			for _, t := range results {
				t.Close()
			}
		}
	}
	return r
}

// fetcher returns a function that returns scores, and the layer before the classes.
func (n network) fetcher(tb testing.TB, m *Model) func(*Tensor) (scores, features []float32) {
	tb.Helper()
	before := ""
	for _, node := range frozenOf(tb, n.dir, KernelsOneDNN).nodes {
		if _, err := m.output(node.GetName()); err == nil && node.GetOp() == fusedProduct {
			before = node.GetInput()[0]
		}
	}
	s := m.Signatures[defaultSignature]
	f := function(tb, m.Session, []string{s.Inputs["keras_tensor"].Name}, []string{s.Outputs["output_0"].Name, before})
	return func(x *Tensor) (scores, features []float32) {
		var all [2][]float32
		for i, t := range run(tb, f, x) {
			values, err := Data[float32](t)
			must(tb, err)
			all[i] = slices.Clone(values)
			t.Close()
		}
		return all[0], all[1]
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// nightly asks for all pictures.
var nightly = flag.Bool("nightly", false, "compare int8 with float32 on all pictures, not on three of each photo")

// An Inception of 1001 classes with random weights gives nearly the same scores in int8.
//
// All its photos look alike to it: the scores of its classes differ by chance, and several are
// about as high as the best one. Where float32 itself has two classes whose scores differ by less
// than 5 %, either counts as the best.
func TestInt8RandomInception(t *testing.T) {
	openLibrary(t)
	files := testenv.Originals(t)
	photos, err := augment.Read(files)
	must(t, err)
	n := randomInception(t)
	single := n.load(t, PrecisionFloat32, nil)
	want := n.fetcher(t, single)
	var pictures, same, alike int
	var difference, similar, most, top float64
	least := 1.0
	classes := make(map[int]int)
	for half := range 2 {
		m := n.load(t, PrecisionInt8, n.ranges(t, single, photos[10-10*half:20-10*half]))
		if m.Precision != PrecisionInt8 || !(m.Int8 >= 0.9) {
			t.Errorf("runs in %v: %q, %.3f of the multiplications in int8", m.Precision, m.WhyFloat32, m.Int8)
		}
		got := n.fetcher(t, m)
		for i, photo := range photos[10*half : 10*half+10] {
			for j, way := range augment.Ways {
				if ways := len(augment.Ways); !*nightly && (j+ways-3*(10*half+i)%ways)%ways >= 3 {
					continue
				}
				x := pixels(t, photo, way)
				a, before := want(x)
				b, before8 := got(x)
				x.Close()
				best, now := slices.Index(a, slices.Max(a)), slices.Index(b, slices.Max(b))
				pictures++
				classes[best]++
				if best == now {
					same++
				}
				if a[now] >= 0.95*a[best] {
					alike++
				}
				d := math.Abs(float64(a[best] - b[best]))
				difference, most, top = difference+d, max(most, d), top+float64(a[best])
				c := cosine(before, before8)
				similar, least = similar+c, min(least, c)
			}
		}
		must(t, m.Close())
	}
	count := float64(pictures)
	t.Logf("%d pictures of %d best classes: %d have the same one, %d the same or one that is as good within 5 %%", pictures, len(classes), same, alike)
	t.Logf("the best class's score is %.4f in the mean, and differs by %.5f, %.5f at most; cosine similarity before the classes %.5f in the mean, %.5f at least",
		top/count, difference/count, most, similar/count, least)
	if !(float64(alike) >= 0.99*count) || !(difference <= min(0.01*count, 0.05*top)) || !(least >= 0.99) {
		t.Errorf("want at least 99 %%, at most 0.01 and 5 %% of the score, and at least 0.99")
	}
}
