package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// However few records there are, and whichever of them the model refuses: each run has
// as many as the model takes, and each record gets its own answer.
func TestFixedBatchAnswers(t *testing.T) {
	openLibrary(t)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom([]int{1, 2, 8, 64}).Draw(rt, "size")
		values := rapid.SliceOfN(rapid.SampledFrom([]float32{1, 2, 3, 4, poison}), 1, size).Draw(rt, "values")
		model, seen := &fakeModel{}, &runs{}
		r := runnerOf(model)
		r.sig.batch = size
		b := &batcher{run: r.batch, Batch: Batch{Max: size}, observer: seen}
		batch := make([]item, len(values))
		for i, v := range values {
			batch[i] = pixel(t, v)
			batch[i].result = make(chan result, 1)
			defer batch[i].close()
		}
		b.answer(batch, batch)
		for i, v := range values {
			r := <-batch[i].result
			guilty := (*InputError)(nil)
			if bad := errors.As(r.err, &guilty); bad != (v == poison) || !bad && (r.err != nil || !slices.Equal(r.scores, []float32{v})) {
				rt.Fatalf("record %d of %v: got %v, %v", i, values, r.scores, r.err)
			}
		}
		for _, n := range model.sizes {
			if n != size {
				rt.Fatalf("runs of %v, want %d in each", model.sizes, size)
			}
		}
		if first := seen.all[0]; first.Size != len(values) {
			rt.Fatalf("a run of %d records was counted as one of %d", len(values), first.Size)
		}
	})
}

// A record that comes alone does not wait for a batch to fill, and as many as the model
// takes gather while it runs, whatever the settings say.
func TestFixedBatchGathers(t *testing.T) {
	openLibrary(t)
	synctest.Test(t, func(t *testing.T) {
		model, seen := &fakeModel{hold: make(chan struct{})}, &runs{}
		r := runnerOf(model)
		r.sig.batch = 4
		b := newBatcher(r.batch, 1, true, signature{batch: 4}.batching(Batch{Max: 2, LatencyBudget: time.Nanosecond}), seen)
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
		send(1)
		if n := b.running.Load(); n != 1 {
			t.Errorf("%d runs with one record, want 1", n)
		}
		send(6)
		close(model.hold)
		wg.Wait()
		b.close()
		var sizes []int
		for _, run := range seen.all {
			sizes = append(sizes, run.Size)
		}
		if !slices.Equal(sizes, []int{1, 4, 2}) || !slices.Equal(model.sizes, []int{4, 4, 4}) {
			t.Errorf("runs of %v records, the model saw %v, want 1 4 2 and 4 4 4", sizes, model.sizes)
		}
	})
}

// A model that does not answer each record of its batch is not believed.
func TestFixedBatchRows(t *testing.T) {
	openLibrary(t)
	model := &fakeModel{}
	r := runnerOf(model)
	r.sig.batch = 4
	r.run = func(ctx context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
		one := pixel(t, 1)
		defer one.close()
		return model.run(ctx, one.pixels)
	}
	it := pixel(t, 7)
	defer it.close()
	if got, err := r.batch([]item{it}); err == nil || !strings.Contains(err.Error(), "answered 1 records in a batch of 4") {
		t.Errorf("got %v, %v", got.rows, err)
	}
}

// Rows and tf.Examples fill a batch up as images do, in each of the inputs, and what comes
// back must be all of it.
func TestFixedBatchInputs(t *testing.T) {
	openLibrary(t)
	feeds := []feed{
		{key: "a", dtype: savedmodel.UInt8, shape: savedmodel.Shape{2}, n: 2, from: fromRow},
		{key: "b", dtype: savedmodel.String, shape: savedmodel.Shape{}, n: 1, from: fromRow},
	}
	row := func(text string) *row {
		r := blankRow(feeds, nil)
		copy(r.numbers, text)
		r.strings[0] = []byte(text)
		return r
	}
	examples := []feed{{key: "x", dtype: savedmodel.String, shape: savedmodel.Shape{1}, from: fromImage}}
	place := feed{key: "p", dtype: savedmodel.Int64, shape: savedmodel.Shape{}, from: fromPlace}
	for _, test := range []struct {
		name  string
		feeds []feed
		items []item
		want  string
	}{
		{"rows", append(feeds, place), []item{{row: row("ab")}, {row: row("cd")}}, `[[4, 2] "abcdcdcd" [4] ["ab" "cd" "cd" "cd"] [4] 4 places]`},
		{"tf.Examples", append(examples, place), []item{{encoded: []byte("e")}}, `[[4, 1] ["e" "e" "e" "e"] [4] 4 places]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			sig := signature{
				Spec: Spec{Output: Output{Scores: "s"}}, feeds: test.feeds, batch: 4,
				returned: []returned{{"p", len(test.feeds) - 1}},
			}
			r := newRunner(sig, func(_ context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
				for _, tensor := range in {
					got = append(got, tensor.Shape().String())
					switch tensor.DType() {
					case savedmodel.String:
						all, err := tensor.Strings()
						got = append(got, fmt.Sprintf("%q", all))
						if err != nil {
							return nil, err
						}
					case savedmodel.UInt8:
						got = append(got, fmt.Sprintf("%q", tensor.Bytes()))
					default:
						got = append(got, fmt.Sprint(len(tensor.Bytes())/8, " places"))
					}
				}
				scores, err := savedmodel.NewTensor(savedmodel.Float32, 4, 1)
				if err != nil {
					return nil, err
				}
				clear(scores.Bytes())
				back, err := copyOf(in[len(in)-1])
				return []*savedmodel.Tensor{scores, back}, err
			})
			scored, err := r.batch(test.items)
			if text := fmt.Sprint(got); err != nil || text != test.want || len(scored.rows) != len(test.items) {
				t.Errorf("got %s, %d rows, %v, want %s", text, len(scored.rows), err, test.want)
			}
		})
	}
}

// What fills a batch up costs as little memory as any of its records, and as the filler
// where there is one.
func TestPadded(t *testing.T) {
	of := func(names ...string) (items []item) {
		for _, name := range names {
			items = append(items, item{encoded: []byte(name)})
		}
		return items
	}
	for _, test := range []struct {
		items  []item
		size   int
		filler string
		want   []item
	}{
		{of("aaa", "b", "cc"), 5, "", of("aaa", "b", "cc", "b", "b")},
		{of("a"), 3, "", of("a", "a", "a")},
		{of("a"), 3, "few", of("a", "few", "few")},
		{of("a", "b"), 2, "few", of("a", "b")},
		{of("a", "b"), 0, "few", of("a", "b")},
	} {
		filler := []byte(nil)
		if test.filler != "" {
			filler = []byte(test.filler)
		}
		if got := padded(test.items, test.size, filler); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%d of %v: got %v, want %v", test.size, test.items, got, test.want)
		}
	}
}

// An encoded image that comes alone is decoded once, not as often as the batch has
// places: a made-up one that the model takes fills the others.
func TestFillerOfEncodedImages(t *testing.T) {
	openLibrary(t)
	var last atomic.Pointer[[][]byte] // images of the last run; the warm-up has several at once
	sig := signature{
		Spec: Spec{Output: Output{Scores: "scores"}}, feeds: []feed{{dtype: savedmodel.String, from: fromImage}},
		content: Images, dtype: savedmodel.String, batch: 4,
	}
	v := &version{log: slog.New(slog.DiscardHandler)}
	v.run = newRunner(sig, func(_ context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
		images, err := in[0].Strings()
		if err != nil {
			return nil, err
		}
		last.Store(&images)
		if slices.ContainsFunc(images, func(b []byte) bool { format, _ := FormatOf(b); return format != "png" }) {
			return nil, &savedmodel.Error{Code: savedmodel.InvalidArgument, Message: "no PNG"}
		}
		scores, err := savedmodel.NewTensor(savedmodel.Float32, 4, 2)
		if err == nil {
			clear(scores.Bytes())
		}
		return []*savedmodel.Tensor{scores}, err
	})
	v.batcher = newBatcher(v.run.batch, Lanes, true, sig.batching(Batch{Max: 2}), unwatched{})
	defer v.batcher.close()
	if _, err := v.warmUp(t.Context(), t.TempDir(), sig); err != nil {
		t.Fatal(err)
	}
	photo := drawing{9, 9, texture(9, 9)}.encode("png")
	if _, err := v.run.batch([]item{{encoded: photo}}); err != nil {
		t.Fatal(err)
	}
	made, images := usualSamples()[1].bytes, *last.Load() // a PNG
	for i, want := range [][]byte{photo, made, made, made} {
		if !bytes.Equal(images[i], want) {
			t.Errorf("place %d of the batch has an image of %d bytes, want %d", i, len(images[i]), len(want))
		}
	}
}

// Which batches of one size are taken, and how the others are refused.
func TestBindBatch(t *testing.T) {
	float, whole := savedmodel.Float32, savedmodel.Int64
	for _, test := range []struct {
		name    string
		content Content
		yaml    string
		inputs  infos
		outputs infos // nil: scores of any number of records
		batch   int
		failure string
	}{
		{name: "any", inputs: infos{"x": tensor(float, -1, 4, 4, 3)}},
		{name: "one", inputs: infos{"x": tensor(float, 1, 4, 4, 3)}, batch: 1},
		{name: "images", inputs: infos{"x": tensor(float, 64, 224, 224, 3)}, batch: 64},
		{name: "rows", content: Rows, inputs: infos{"a": tensor(float, 8, 2), "b": tensor(whole, 8)}, batch: 8},
		{name: "rows, one input of any number", content: Rows, inputs: infos{"a": tensor(float, -1, 2), "b": tensor(whole, 8)}, batch: 8},
		{name: "tf.Examples", content: Examples, inputs: infos{"x": tensor(savedmodel.String, 8)}, batch: 8},
		{name: "with their scores", inputs: infos{"x": tensor(float, 8, 4, 4, 3)}, outputs: infos{"s": tensor(float, 8, 10)}, batch: 8},
		{name: "two sizes", content: Rows, inputs: infos{"a": tensor(float, 8, 2), "b": tensor(whole, 4)},
			failure: `input "b" takes batches of exactly 4, and another input batches of 8`},
		{name: "too many", inputs: infos{"x": tensor(float, 1025, 4, 4, 3)}, failure: `input "x" takes batches of exactly 1025, which is over 1024`},
		{name: "too large", inputs: infos{"x": tensor(float, 1024, 299, 299, 3)},
			failure: `it takes batches of exactly 1024, and 1024 records of 1072812 bytes each are over 256 MiB`},
		{name: "one answer for all", inputs: infos{"x": tensor(float, 8, 4, 4, 3)}, outputs: infos{"s": tensor(float, 1, 10)},
			failure: `output "s" has the shape [1, 10], but the inputs take batches of exactly 8`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.outputs == nil {
				test.outputs = infos{"s": tensor(float, -1, 10)}
			}
			bound, err := defaultSpec().bind(offer{signatures: map[string]savedmodel.Signature{
				defaultSignature: {Inputs: test.inputs, Outputs: test.outputs},
			}}, test.content)
			if test.failure != "" {
				if err == nil || !strings.Contains(err.Error(), test.failure) {
					t.Errorf("got %v, want %s", err, test.failure)
				}
				return
			}
			if err != nil || bound.batch != test.batch {
				t.Errorf("got %d, %v, want %d", bound.batch, err, test.batch)
			}
		})
	}
}

// sizesSeen notes the sizes of a version's runs.
type sizesSeen struct {
	Unobserved
	mu    sync.Mutex
	sizes map[int]int
}

func (s *sizesSeen) BatchRun(_ int64, r Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[r.Size]++
}

// A version of one size of batch is loaded, tuned, checked and asked as any other one.
func TestFixedBatchVersion(t *testing.T) {
	openLibrary(t)
	base := t.TempDir()
	tiny{bias: 7, batch: 8}.write(t, filepath.Join(base, "1"))
	c := tinyConfig(base)
	log, seen := &logged{}, &sizesSeen{sizes: map[int]int{}}
	m, err := New(c, slog.New(slog.NewTextHandler(log, nil)), seen)
	if err == nil {
		err = m.Load(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if told := log.lines("every run takes a batch of one size"); len(told) != 1 || !strings.Contains(told[0], "records=8") {
		t.Errorf("the log says %q", told)
	}
	if e := Explain(filepath.Join(base, "1"), Images); e.Refused != "" || !strings.Contains(strings.Join(e.Notes, "\n"), "every run takes 8 records") {
		t.Errorf("it is explained as %+v", e)
	}
	if n := m.Records(); n != 8 {
		t.Errorf("a run takes %d records, want 8", n)
	}
	var callers sync.WaitGroup
	for range 40 {
		callers.Go(func() {
			if p, err := m.Classify(t.Context(), nil, blackPixel); err != nil || p.Classes[0].Score != 7 {
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

	trials, err := tune(t.Context(), c, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if sizes := slices.Collect(maps.Keys(trials[0].Runs)); !slices.Equal(sizes, []int{8}) {
		t.Errorf("it is tuned in batches of %v, want 8", sizes)
	}
	c.Optimize = optimizeAuto
	if trial, err := CompareGraphs(t.Context(), c, 1); err != nil {
		t.Errorf("got %+v, %v", trial, err)
	}
}

// A fixed is a model server whose model takes so many records at a time.
type fixed struct {
	*remotetest.Fake
	size int

	mu    sync.Mutex
	sizes []int
}

func (f *fixed) GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	n := int64(f.size)
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: map[string]*tfpb.SignatureDef{"serving_bytes": {
		Inputs:  map[string]*tfpb.TensorInfo{remotetest.BytesInput: info("a:0", tfpb.DataType_DT_STRING, n)},
		Outputs: map[string]*tfpb.TensorInfo{remotetest.Output: info("b:0", tfpb.DataType_DT_FLOAT, n, int64(f.Classes))},
	}}})
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: &tfpb.ModelSpec{Name: f.Model, VersionChoice: version1()}, Metadata: map[string]*anypb.Any{"signature_def": signatures},
	}, err
}

func (f *fixed) Predict(ctx context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	n := len(r.GetInputs()[remotetest.BytesInput].GetStringVal())
	f.mu.Lock()
	f.sizes = append(f.sizes, n)
	f.mu.Unlock()
	if n != f.size {
		return nil, remotetest.Invalid(fmt.Sprintf("got %d records, want %d", n, f.size))
	}
	return f.Fake.Predict(ctx, r)
}

// A model server gets full batches as well; a record that its model refuses costs the
// others nothing, and is to blame only since a blank one is answered.
func TestFixedBatchServer(t *testing.T) {
	fake := &fixed{Fake: remotetest.NewFake("tiny"), size: 8}
	c := tinyConfig("")
	c.Backend = OnlyRemote
	r := remoteConfig(remotetest.Serve(t, fake))
	r.Timeout, r.Budget, r.Concurrency = 10*time.Second, 10*time.Second, 1
	s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	d := &s.distant
	b, err := d.bind(t.Context(), remote.NoVersion)
	if err != nil {
		t.Fatal(err)
	}
	defer b.drop()
	if n := s.Records(); n != 8 {
		t.Errorf("a call takes %d records, want 8", n)
	}
	var callers sync.WaitGroup
	for _, first := range []byte{1, 2, remotetest.Poison, 3, 4, 5, 6, 7, 8, 9, remotetest.Poison} {
		callers.Go(func() {
			got, err := b.batcher.submit(t.Context(), item{encoded: []byte{first, 0}})
			guilty := (*InputError)(nil)
			switch bad := errors.As(err, &guilty); {
			case bad != (first == remotetest.Poison):
				t.Errorf("record %d: got %v, %v", first, got.scores, err)
			case !bad && (err != nil || got.scores[0] != float32(first)):
				t.Errorf("record %d: got %v, %v", first, got.scores, err)
			}
		})
	}
	callers.Wait()
	fake.Fail(remotetest.InvalidArgument, "whatever it is")
	if got, err := b.batcher.submit(t.Context(), item{encoded: []byte{1, 0}}); err == nil || errors.As(err, new(*InputError)) {
		t.Errorf("a record is blamed, though a blank one is refused as well: got %v, %v", got.scores, err)
	}
	if slices.Min(fake.sizes) != 8 || slices.Max(fake.sizes) != 8 {
		t.Errorf("calls with %v records, want 8 in each", fake.sizes)
	}
}
