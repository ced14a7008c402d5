package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

// Each run has as many records as the model takes, and each record gets its own answer, however few
// records there are and whichever of them the model refuses.
func TestFixedBatchAnswers(t *testing.T) {
	modeltest.OpenLibrary(t)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom([]int{1, 2, 8, 64}).Draw(rt, "size")
		values := rapid.SliceOfN(rapid.SampledFrom([]float32{1, 2, 3, 4, poison}), 1, size).Draw(rt, "values")
		model, seen := &fakeModel{}, &runs{}
		r := runnerOf(model)
		r.sig.batch = size
		b := &batcher{run: plain(r.batch), config: Batch{Max: size}, observer: seen}
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

// A single record does not wait for a full batch. While it runs, as many gather as the model takes,
// whatever the settings are.
func TestFixedBatchGathers(t *testing.T) {
	modeltest.OpenLibrary(t)
	synctest.Test(t, func(t *testing.T) {
		model, seen := &fakeModel{hold: make(chan struct{})}, &runs{}
		r := runnerOf(model)
		r.sig.batch = 4
		b := newBatcher(plain(r.batch), 1, true, signature{batch: 4}.batchConfig(Batch{Max: 2, LatencyBudget: time.Nanosecond}), seen)
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

// A model that does not answer each record of its batch is refused.
func TestFixedBatchRows(t *testing.T) {
	modeltest.OpenLibrary(t)
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
		t.Errorf("got %v, %v", got.scores, err)
	}
}

// Rows and tf.Examples fill a batch as images do, in each of the inputs, and an output that returns
// an input must return all of it.
func TestFixedBatchInputs(t *testing.T) {
	modeltest.OpenLibrary(t)
	feeds := []feed{
		{key: "a", dtype: savedmodel.UInt8, shape: savedmodel.Shape{2}, count: 2, from: fromRow},
		{key: "b", dtype: savedmodel.String, shape: savedmodel.Shape{}, count: 1, from: fromRow},
	}
	row := func(text string) *row {
		r := blankRow(feeds, nil)
		copy(r.numbers, text)
		r.strings[0] = []byte(text)
		return r
	}
	examples := []feed{{key: "x", dtype: savedmodel.String, shape: savedmodel.Shape{1}, from: fromImage}}
	place := feed{key: "p", dtype: savedmodel.Int64, shape: savedmodel.Shape{}, from: fromIndex}
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
			if text := fmt.Sprint(got); err != nil || text != test.want || len(scored.scores) != len(test.items) {
				t.Errorf("got %s, %d rows, %v, want %s", text, len(scored.scores), err, test.want)
			}
		})
	}
}

// A batch is filled with its smallest record, or with the filler if there is one.
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
		if got := pad(test.items, test.size, filler); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%d of %v: got %v, want %v", test.size, test.items, got, test.want)
		}
	}
}

// A single encoded image is decoded once, since made-up ones that the model takes fill the rest of
// the batch.
func TestFillerOfEncodedImages(t *testing.T) {
	modeltest.OpenLibrary(t)
	var last atomic.Pointer[[][]byte] // images of the last run; the warm-up has several at once
	sig := signature{
		Spec: Spec{Output: Output{Scores: "scores"}}, feeds: []feed{{dtype: savedmodel.String, from: fromImage}},
		content: Images, dtype: savedmodel.String, batch: 4,
	}
	v := &Version{log: slog.New(slog.DiscardHandler)}
	v.sig = sig
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
	v.batcher = newBatcher(plain(v.run.batch), Lanes, true, sig.batchConfig(Batch{Max: 2}), unobservedRuns{})
	defer v.batcher.close()
	if _, err := v.warmUp(t.Context(), t.TempDir()); err != nil {
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

// Batches of fixed size are taken or refused.
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
			bound, err := defaultSpec().bind(modelMetadata{signatures: map[string]savedmodel.Signature{
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
