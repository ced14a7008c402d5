package model

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// The command in docs/models.md writes digests that the version passes with,
// and that cover what no other file asks for.
func TestSumsByCommand(t *testing.T) {
	dir := t.TempDir()
	m := tinyOf(1)
	m.golden = "[]\n"
	m.write(t, dir)
	cmd := exec.Command("sh", "-c", "find . -type f ! -name SHA256SUMS | xargs sha256sum > SHA256SUMS")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := checkSums(t.Context(), dir); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"saved_model.pb", "assets/labels.txt", specFile, goldenFile, "assets.extra/golden/black.bmp"} {
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, append(slices.Clone(was), ' '))
		if err := checkSums(t.Context(), dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s has changed: got %v", name, err)
		}
		write(t, path, was)
	}
}

// warmUpOf is a version's own warm-up file with a request of one image, all of
// one grey.
func warmUpOf(t *testing.T, grey float32) []byte {
	t.Helper()
	var content []byte
	for range 2 * 2 * 3 {
		content = binary.NativeEndian.AppendUint32(content, math.Float32bits(grey))
	}
	return tfRecords(t, predictLog("serving_default", map[string]*tfpb.TensorProto{"images": {
		Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shapeOf(1, 2, 2, 3), TensorContent: content,
	}}))
}

// Further versions that are refused, and at which gate.
func TestRefusedAt(t *testing.T) {
	staged := func(b *bench, m tiny, name string, content []byte) {
		dir := filepath.Join(b.TempDir(), "v")
		m.write(b, dir)
		write(b, filepath.Join(dir, name), content)
		b.must(os.Rename(dir, b.dir(2)))
	}
	for name, test := range map[string]struct {
		gate string
		put  func(*bench)
	}{
		"a digest of SHA256SUMS": {GateComplete, func(b *bench) {
			staged(b, tinyOf(2), sumsFile, []byte(strings.Repeat("00", 32)+"  saved_model.pb\n"))
		}},
		"its own warm-up request": {GateWarmUp, func(b *bench) {
			staged(b, tiny{bias: 2, picky: true}, savedmodel.WarmupFile, warmUpOf(b.TB.(*testing.T), 255))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := runTiny(t, with(t, 1))
			b.awaitVersion(1)
			test.put(b)
			b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
			if got := b.refusals(2); !slices.Equal(got, []string{test.gate}) || b.serves() != 1 {
				t.Errorf("refused at %q, want %q; version %d serves", got, test.gate, b.serves())
			}
			b.must(os.RemoveAll(b.dir(2)))
			staged(b, tiny{bias: 2, picky: true}, savedmodel.WarmupFile, warmUpOf(t, 0))
			b.awaitVersion(2)
		})
	}
}

// A version whose fault was the machine's is tried again, with growing pauses,
// until its files change.
func TestRetriesGrow(t *testing.T) {
	m := &Manager{log: slog.New(slog.DiscardHandler), observer: Unobserved{}}
	k := &known{candidate: candidate{2, ""}}
	var pauses []time.Duration
	for range 10 {
		m.refuse(k, atGate(GateMemory, errors.New("no")))
		pauses = append(pauses, time.Until(k.retry))
	}
	for i := range pauses[1:5] { // random by a fifth
		if pauses[i+1] < pauses[i]*5/4 {
			t.Errorf("pause %d does not grow: %v", i+1, pauses)
		}
	}
	if pauses[0] > 2*firstRetry || pauses[9] < maxRetry/2 || pauses[9] > 2*maxRetry {
		t.Errorf("pauses are %v", pauses)
	}
}

// What rests already when the manager begins need not rest again; what comes
// later must.
func TestRestsAtTheStart(t *testing.T) {
	const quiet = 200 * time.Millisecond
	dir := t.TempDir()
	tinyOf(1).write(t, dir)
	time.Sleep(quiet + 100*time.Millisecond)
	for _, scanned := range []bool{false, true} {
		m := &Manager{log: slog.New(slog.DiscardHandler), scanned: scanned}
		if wait := m.rest(&known{candidate: candidate{1, dir}}, quiet, decided{}); (wait > 0) != scanned {
			t.Errorf("looked before: %v; it is tried in %v", scanned, wait)
		}
	}
}

// A load that is late goes on with a gate of its own: another one begins.
func TestGateIsOfOneLoad(t *testing.T) {
	const at = "not here"
	l := loader{at: candidate{1, filepath.Join(t.TempDir(), "none")}, gate: new(atomic.Pointer[string])}
	l.enter(at)
	m := &Manager{config: Config{Gate: Gate{Timeout: time.Minute}}}
	if p := m.gates(t.Context(), l); p.err == nil || *l.gate.Load() != at {
		t.Errorf("another load is at gate %q; %v", *l.gate.Load(), p.err)
	}
}

// A version that hangs, or still loads, is left alone until its files change.
func TestLateUntilFilesChange(t *testing.T) {
	dir := t.TempDir()
	tinyOf(1).write(t, dir)
	m := &Manager{log: slog.New(slog.DiscardHandler), config: Config{Poll: time.Hour}}
	k := &known{candidate: candidate{1, dir}, late: make(chan struct{}), hung: "a run has not ended"}
	k.files, _, _, _ = fingerprintOf(dir)
	k.found = true
	if wait := m.rest(k, 0, decided{}); wait != time.Hour || !k.hangs() {
		t.Errorf("the same files are tried in %v", wait)
	}
	write(t, filepath.Join(dir, "assets/labels.txt"), []byte("other\n"))
	if wait := m.rest(k, 0, decided{}); wait > 0 || k.hangs() {
		t.Errorf("new files are tried in %v; they hang: %v", wait, k.hangs())
	}
}

// A version with the number of the one that serves is not taken.
func TestSameNumber(t *testing.T) {
	b := runTiny(t, with(t, 1))
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	b.put(1, tiny{bias: 5})
	b.put(2, tiny{bias: 2, broken: "weights"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 }) // so both have rested
	if v := b.serves(); v != 1 || !slices.Equal(b.served, []int64{1}) {
		t.Errorf("version %d serves; served %v", v, b.served)
	}
}

// A canary for which there is no room is refused, and comes when there is.
func TestNoRoomForCanary(t *testing.T) {
	room := make(chan bool, 1) // closed: there is
	b := runTinyOn(t, with(t, 1), func(m *Manager) {
		m.memory = func() (uint64, bool) {
			select {
			case <-room:
				return 1 << 40, true
			default:
				return 100, true
			}
		}
		m.costs = 1000
	}, func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 50 })
	b.awaitVersion(1)
	b.put(2, tinyOf(2))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != GateMemory || s.Retry.IsZero() {
		t.Errorf("got %+v", s)
	}
	close(room)
	b.awaitStates("2 serving canary", "1 serving stable")
}

// What a version takes is judged by the most that a byte of the others' files
// has cost, and a tenth more.
func TestRoomInProportion(t *testing.T) {
	left := uint64(0)
	m := &Manager{memory: func() (uint64, bool) { return left, true }}
	next := &known{bytes: 500}
	if err := m.room(next); err != nil {
		t.Errorf("nothing known: %v", err)
	}
	for _, took := range []uint64{4000, 1000} {
		m.learn(&known{bytes: 1000, loaded: &version{took: took}})
	}
	for _, test := range []struct {
		left uint64
		room bool
	}{{2300, true}, {2100, false}, {100, false}} { // it takes 2000
		left = test.left
		if err := m.room(next); (err == nil) != test.room {
			t.Errorf("%d bytes left: %v", test.left, err)
		}
	}
}

// The batches that a version is warmed up with.
func TestBatchSizes(t *testing.T) {
	for most, want := range map[int][]int{1: {1}, 2: {1, 2}, 6: {1, 2, 4, 6}, 8: {1, 2, 4, 8}} {
		if got := batchSizes(most, 0); !slices.Equal(got, want) {
			t.Errorf("up to %d: %v, want %v", most, got, want)
		}
	}
	if got := batchSizes(8, 8); !slices.Equal(got, []int{8}) {
		t.Errorf("exactly 8: %v", got)
	}
}

// A signature has one input, and an output of scores that the spec names if
// there are several.
func TestBindOutputs(t *testing.T) {
	image := savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 4, 5, 3}}
	matrix := savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 7}}
	vector := savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{-1}}
	double := savedmodel.TensorInfo{DType: savedmodel.Float64, Shape: savedmodel.Shape{-1, 7}}
	type infos = map[string]savedmodel.TensorInfo
	for name, test := range map[string]struct {
		content         Content
		output          string
		inputs, outputs infos
		failure         string
		classes         int
	}{
		"one":                {Images, "", infos{"x": image}, infos{"a": matrix}, "", 7},
		"several":            {Images, "", infos{"x": image}, infos{"a": matrix, "b": matrix}, `write "output: a" into`, 0},
		"several, named":     {Images, "a", infos{"x": image}, infos{"a": matrix, "b": vector}, "", 7},
		"vector of images":   {Images, "", infos{"x": image}, infos{"b": vector}, "", 1},
		"vector of rows":     {Rows, "", infos{"x": matrix}, infos{"b": vector}, "", 1},
		"float64":            {Images, "", infos{"x": image}, infos{"a": double}, "", 7},
		"two inputs":         {Images, "", infos{"x": image, "y": image}, infos{"a": matrix}, `each of the inputs ["x" "y"] could take the image`, 0},
		"two inputs of rows": {Rows, "", infos{"x": matrix, "y": vector}, infos{"a": matrix}, "", 7},
	} {
		spec := defaultSpec()
		spec.Output.Scores = test.output
		bound, err := spec.bind(offer{signatures: map[string]savedmodel.Signature{spec.Signature: {Inputs: test.inputs, Outputs: test.outputs}}}, test.content)
		switch {
		case test.failure != "" && (err == nil || !strings.Contains(err.Error(), test.failure)):
			t.Errorf("%s: got %v, want %s", name, err, test.failure)
		case test.failure == "" && (err != nil || bound.classes != test.classes):
			t.Errorf("%s: %d classes, %v, want %d", name, bound.classes, err, test.classes)
		case test.failure == "" && test.content == Images && bound.Input.Size != [2]int{4, 5}:
			t.Errorf("%s: the size is %v, want the signature's", name, bound.Input.Size)
		}
	}
}

// A size that would take too much memory for each image is refused, whoever
// says it.
func TestBindSize(t *testing.T) {
	for _, test := range []struct {
		spec          [2]int
		height, width int64
		ok            bool
	}{
		{[2]int{}, 299, 299, true},
		{[2]int{}, 8192, 8192, true},
		{[2]int{}, 1, 16384, true},
		{[2]int{}, 8192, 8193, false},
		{[2]int{}, 1, 16385, false},
		{[2]int{}, 100_000, 100_000, false},
		{[2]int{}, 1 << 31, 1 << 31, false},
		{[2]int{}, math.MaxInt64, 2, false},
		{[2]int{1 << 31, 1 << 31}, -1, -1, false},
	} {
		spec := defaultSpec()
		spec.Input.Size = test.spec
		_, err := spec.bind(offer{signatures: map[string]savedmodel.Signature{spec.Signature: {
			Inputs:  map[string]savedmodel.TensorInfo{"x": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, test.height, test.width, 3}}},
			Outputs: map[string]savedmodel.TensorInfo{"a": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 7}}},
		}}}, Images)
		if ok := err == nil; ok != test.ok || !ok && !strings.Contains(err.Error(), "on a side") {
			t.Errorf("%d×%d, the spec's %v: got %v", test.height, test.width, test.spec, err)
		}
	}
}

// Pixels may be uint8.
func TestUint8Pixels(t *testing.T) {
	base := t.TempDir()
	tiny{bias: 2, dtype: tfpb.DataType_DT_UINT8}.write(t, filepath.Join(base, "2"))
	runTiny(t, base).awaitVersion(2)
}

// What inceptor.yaml leaves out has its default, as without the file.
func TestReadSpec(t *testing.T) {
	for name, test := range map[string]struct {
		yaml   string
		labels bool // assets/labels.txt is there
		want   Spec
	}{
		"no file":         {want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, TopK: 5}},
		"no file, labels": {labels: true, want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, Labels: Labels{File: "labels.txt"}, TopK: 5}},
		"nothing said":    {yaml: "{}", labels: true, want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, Labels: Labels{File: "labels.txt"}, TopK: 5}},
		"no labels":       {yaml: "{labels: ''}", labels: true, want: Spec{Signature: "serving_default", Input: Input{Resize: "bilinear"}, TopK: 5}},
		"all said": {
			yaml: "{signature: s, input: {size: [3, 4], resize: area, align_corners: true, scale: 2, offset: -3}, output: o, labels: l, top_k: 7}",
			want: Spec{Signature: "s", Input: Input{Size: [2]int{3, 4}, Resize: "area", AlignCorners: new(true), Scale: new(same(2)), Offset: new(same(-3))}, Output: Output{Scores: "o"}, Labels: Labels{File: "l"}, TopK: 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tinyOf(1).write(t, dir)
			var errs []error
			if test.yaml == "" {
				errs = append(errs, os.Remove(filepath.Join(dir, specFile)))
			} else {
				write(t, filepath.Join(dir, specFile), []byte(test.yaml))
			}
			if !test.labels {
				errs = append(errs, os.Remove(filepath.Join(dir, "assets/labels.txt")))
			}
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			got, err := readSpec(dir)
			got.lines = nil
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

// A version's settings of the resize are what TensorFlow is told: its pixels
// are those of package pixels, which is compared with TensorFlow's operations.
func TestDecoderSettings(t *testing.T) {
	openLibrary(t)
	image := pngImage(t, 40, 30)
	h, err := ParseHeader(image)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, in := range map[string]Preprocessing{
		"bilinear":           {Resize: "bilinear", Scale: same(1)},
		"align_corners":      {Resize: "bilinear", Scale: same(1), AlignCorners: true},
		"half_pixel_centers": {Resize: "bilinear", Scale: same(1), HalfPixelCenters: true},
		"area":               {Resize: "area", Scale: same(1)},
		"scale, offset":      {Resize: "bilinear", Scale: same(0.5), Offset: same(-7)},
	} {
		in.Size = [2]int{7, 9}
		d, err := newDecoder(in, savedmodel.Float32, false, savedmodel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.pixels(t.Context(), image, h)
		if err != nil {
			t.Fatal(err)
		}
		want, err := in.recipe(savedmodel.Float32).Append(nil, image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(want); i += 4 {
			a := math.Float32frombits(binary.NativeEndian.Uint32(got.Bytes()[i:]))
			b := math.Float32frombits(binary.NativeEndian.Uint32(want[i:]))
			if !(math.Abs(float64(a-b)) < 1e-3) {
				t.Errorf("%s: value %d is %v, want %v", name, i/4, a, b)
				break
			}
		}
		if other := seen[string(want)]; other != "" {
			t.Errorf("%s and %s give the same pixels", name, other)
		}
		seen[string(want)] = name
		got.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
