package infer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/internal/settings"
	"inceptor/model/internal/modeltest"
	"inceptor/model/pixels"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// The blank image that shows whether a record is to blame has the size of the model's input.
func TestBlankItemFits(t *testing.T) {
	for channels, count := range map[pixels.Channels]int64{"": 3, pixels.RGB: 3, pixels.Gray: 1} {
		for _, layout := range []pixels.Layout{pixels.ChannelsLast, pixels.ChannelsFirst} {
			shape := savedmodel.Shape{5, 7, count}
			if layout == pixels.ChannelsFirst {
				shape = savedmodel.Shape{count, 5, 7}
			}
			sig := signature{dtype: savedmodel.Float16, layout: layout, channels: channels}
			sig.Input.Size = [2]int{5, 7}
			sig.feeds = []feed{{key: "images", dtype: sig.dtype, shape: shape, from: fromImage}}
			if _, err := message(sig.feeds, []item{blankItem(sig)}, false); err != nil {
				t.Errorf("channels %q, %s: %v", channels, layout, err)
			}
		}
	}
}

// A fixedServer is a model server whose model takes that many records at a time.
type fixedServer struct {
	*remotetest.Fake
	size int

	mu    sync.Mutex
	sizes []int
}

func (f *fixedServer) GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	n := int64(f.size)
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: map[string]*tfpb.SignatureDef{"serving_bytes": {
		Inputs:  map[string]*tfpb.TensorInfo{remotetest.BytesInput: modeltest.TensorInfo("a:0", tfpb.DataType_DT_STRING, n)},
		Outputs: map[string]*tfpb.TensorInfo{remotetest.Output: modeltest.TensorInfo("b:0", tfpb.DataType_DT_FLOAT, n, int64(f.Classes))},
	}}})
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: &tfpb.ModelSpec{Name: f.Model, VersionChoice: &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(1)}}, Metadata: map[string]*anypb.Any{"signature_def": signatures},
	}, err
}

func (f *fixedServer) Predict(ctx context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	n := len(r.GetInputs()[remotetest.BytesInput].GetStringVal())
	f.mu.Lock()
	f.sizes = append(f.sizes, n)
	f.mu.Unlock()
	if n != f.size {
		return nil, remotetest.Invalid(fmt.Sprintf("got %d records, want %d", n, f.size))
	}
	return f.Fake.Predict(ctx, r)
}

// remoteModelOf returns the model of a server that is called once at a time, with batches of two
// unless the model says otherwise.
func remoteModelOf(t *testing.T, server *remotetest.Server) *RemoteModel {
	t.Helper()
	c := settings.Default[remote.Config]()
	c.Model, c.Address = "tiny", server.Addr()
	c.Timeout, c.Budget, c.Concurrency = 2*time.Minute, 2*time.Minute, 1
	o := Options{Model: "tiny", Batch: Batch{Max: 2}, MaxPixels: 1e6}
	m, err := NewRemoteModel(o, foldersOf(), c, NewDecodeLimits(o.MaxPixels), slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// Images go to the server in batches, fallback.concurrency of them at a time.
func TestServerBatches(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	m := remoteModelOf(t, remotetest.Serve(t, fake))
	var mu sync.Mutex
	var sizes []int
	entered, hold := make(chan struct{}, 10), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		mu.Lock()
		sizes = append(sizes, len(r.GetInputs()[remotetest.BytesInput].GetStringVal()))
		mu.Unlock()
		entered <- struct{}{}
		<-hold
		return nil, nil //nolint:nilnil // it goes on with the request
	})
	var callers sync.WaitGroup
	ask := func() {
		callers.Go(func() {
			if _, err := m.Classify(t.Context(), modeltest.BlackImage, remote.NoVersion); err != nil {
				t.Error(err)
			}
		})
	}
	ask()
	<-entered
	for range 4 { // they gather meanwhile, two in a batch
		ask()
	}
	slots := m.current().slots // for two batches, the one under way included
	for end := time.Now().Add(time.Minute); len(slots) < cap(slots); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the others do not wait")
		}
	}
	release()
	callers.Wait()
	mu.Lock()
	defer mu.Unlock()
	if sizes[0] != 1 || slices.Max(sizes) != 2 || fake.Most.Load() != 1 {
		t.Errorf("batches of %v, %d at once", sizes, fake.Most.Load())
	}
}

// A model server gets full batches too. A record that its model refuses costs the others nothing,
// and is blamed only because the model answers a blank one.
func TestFixedBatchServer(t *testing.T) {
	fake := &fixedServer{Fake: remotetest.NewFake("tiny"), size: 8}
	d := remoteModelOf(t, remotetest.Serve(t, fake))
	b, err := d.bind(t.Context(), remote.NoVersion)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	if n := d.MaxBatch(); n != 8 {
		t.Errorf("a call takes %d records, want 8", n)
	}
	var callers sync.WaitGroup
	for _, first := range []byte{1, 2, remotetest.Poison, 3, 4, 5, 6, 7, 8, 9, remotetest.Poison} {
		callers.Go(func() {
			got, err := b.submit(t.Context(), item{encoded: []byte{first, 0}})
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
	if got, err := b.submit(t.Context(), item{encoded: []byte{1, 0}}); err == nil || errors.As(err, new(*InputError)) {
		t.Errorf("a record is blamed, though a blank one is refused as well: got %v, %v", got.scores, err)
	}
	if slices.Min(fake.sizes) != 8 || slices.Max(fake.sizes) != 8 {
		t.Errorf("calls with %v records, want 8 in each", fake.sizes)
	}
}
