package remote

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// tolerance is how much a remote score may differ from the local one.
const tolerance = 1e-4

// A server with TensorFlow Serving's official Python messages understands this client. Its
// scores are the local ones, and its refusals have the right kinds.
func TestServing(t *testing.T) {
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir() // the model as version 3
	if err := os.Symlink(filepath.Join(testenv.Model(t), "1"), filepath.Join(base, "3")); err != nil {
		t.Fatal(err)
	}
	server := testenv.StartServing(t, "inception", base, "--label", "stable=3")
	config := testConfig(server.Addr())
	config.Timeout, config.Budget = 2*time.Minute, 2*time.Minute
	c, _ := newClient(t, config)
	local, err := savedmodel.Load(t.Context(), filepath.Join(base, "3"), savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()

	versions, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []VersionStatus{{3, "AVAILABLE", ""}}; !slices.Equal(versions, want) {
		t.Errorf("status: got %v, want %v", versions, want)
	}
	for _, label := range []string{"", "stable"} {
		m, err := c.Metadata(t.Context(), 3, label)
		if err != nil {
			t.Fatal(err)
		}
		if m.Version != 3 || len(m.Signatures) != 2 {
			t.Errorf("metadata: got version %d with %d signatures", m.Version, len(m.Signatures))
		}
		for key, want := range local.Signatures {
			got := m.Signatures[key]
			for in, info := range want.Inputs {
				if got := got.Inputs[in]; got.DType != info.DType || !slices.Equal(got.Shape, info.Shape) {
					t.Errorf("%s: input %q is %v%v, locally %v%v", key, in, got.DType, got.Shape, info.DType, info.Shape)
				}
			}
		}
	}

	photos := readPhotos(t, "china.jpg", "logo2.png", "astronaut.png")
	t.Run("strings", func(t *testing.T) {
		b := Batch{Signature: "serving_bytes", Inputs: encoded(photos...), Output: "scores", Version: 3, Classes: 5}
		compare(t, c, local, b)
	})
	size := 299 * 299 * 3 * 4
	pixels := make([][]byte, 3)
	for i := range pixels {
		image := make([]byte, 0, size)
		for at := range 299 * 299 * 3 { // something of all values from 0 to 1
			image = append(image, float32Bytes(float32((at*(i+7))%1000)/1000)...)
		}
		pixels[i] = image
	}
	images, err := Numbers(savedmodel.Float32, savedmodel.Shape{299, 299, 3}, pixels...)
	if err != nil {
		t.Fatal(err)
	}
	b := Batch{Signature: "serving_default", Inputs: map[string]*tfpb.TensorProto{"images": images}, Output: "scores", Version: 3, Classes: 5}
	t.Run("pixels", func(t *testing.T) { compare(t, c, local, b) })

	t.Run("bad image", func(t *testing.T) {
		bad := Batch{Signature: "serving_bytes", Inputs: encoded(photos[0], []byte("no image")), Output: "scores", Version: NoVersion}
		bad.Blank = func() (map[string]*tfpb.TensorProto, error) { return encoded(photos[0]), nil }
		_, err := c.Predict(t.Context(), bad)
		wantKind(t, err, KindInput)
		bad.Inputs = encoded([]byte("no image"))
		_, err = c.Predict(t.Context(), bad)
		wantKind(t, err, KindInput)
	})
	for _, test := range []struct {
		name   string
		change func(*Batch)
		kind   Kind
	}{
		{"no such version", func(b *Batch) { b.Version = 4 }, KindVersion},
		{"no such label", func(b *Batch) { b.Label = "canary" }, KindRefused},
		{"no such signature", func(b *Batch) { b.Signature = "none" }, KindRefused},
		{"no such input", func(b *Batch) { b.Inputs = map[string]*tfpb.TensorProto{"none": b.Inputs["images"]} }, KindRefused},
		{"no such output", func(b *Batch) { b.Output = "none" }, KindRefused},
		{"wrong type", func(b *Batch) { b.Inputs["images"] = Strings(nil, photos[0]) }, KindRefused},
		{"wrong size", func(b *Batch) {
			b.Inputs["images"], _ = Numbers(savedmodel.Float32, savedmodel.Shape{1, 1, 3}, make([]byte, 12))
		}, KindRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := b
			b.Inputs["images"], _ = Numbers(savedmodel.Float32, savedmodel.Shape{299, 299, 3}, pixels[0])
			test.change(&b)
			b.Blank = func() (map[string]*tfpb.TensorProto, error) { return zeros(b.Inputs), nil }
			_, err := c.Predict(t.Context(), b)
			wantKind(t, err, test.kind)
			t.Log(err)
		})
	}

	config.Timeout, config.Budget, config.Breaker = 5*time.Second, 8*time.Second, Breaker{Failures: 2, Open: time.Second}
	c, o := newClient(t, config)
	t.Run("frozen and killed", func(t *testing.T) {
		b := b
		b.Inputs["images"], _ = Numbers(savedmodel.Float32, savedmodel.Shape{299, 299, 3}, pixels[0])
		predict := func() bool {
			_, err := c.Predict(t.Context(), b)
			return err == nil
		}
		if !soon(predict) {
			t.Fatal("it does not answer")
		}
		server.Freeze()
		_, err := c.Predict(t.Context(), b)
		wantKind(t, err, KindUnavailable, "DeadlineExceeded")
		server.Thaw()
		if !soon(predict) {
			t.Fatal("it does not come back")
		}
		server.Kill()
		_, err = c.Predict(t.Context(), b)
		wantKind(t, err, KindUnavailable)
		server.Restart()
		if !soon(predict) {
			t.Fatal("it does not come back")
		}
		if _, states := o.all(); states[len(states)-1] != "closed" {
			t.Errorf("breaker: %q", states)
		}
	})
}

func encoded(images ...[]byte) map[string]*tfpb.TensorProto {
	return map[string]*tfpb.TensorProto{"image_bytes": Strings(nil, images...)}
}

// compare compares the server's scores with those of the local model.
func compare(t *testing.T, c *Client, local *savedmodel.Model, b Batch) {
	t.Helper()
	a, err := c.Predict(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if a.Version != 3 {
		t.Errorf("version %d has answered", a.Version)
	}
	inputs := map[string]*savedmodel.Tensor{}
	for key, value := range b.Inputs {
		in, err := savedmodel.TensorOf(value)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		inputs[key] = in
	}
	out, err := local.Run(t.Context(), b.Signature, inputs)
	if err != nil {
		t.Fatal(err)
	}
	defer out[b.Output].Close()
	want, err := savedmodel.Data[float32](out[b.Output])
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Concat(a.Scores...)
	if len(got) != len(want) {
		t.Fatalf("%d scores, locally %d", len(got), len(want))
	}
	most := 0.0
	for i := range want {
		most = max(most, math.Abs(float64(got[i]-want[i])))
	}
	t.Logf("%d images, largest difference %.2g", len(a.Scores), most)
	if !(most <= tolerance) {
		t.Errorf("scores differ by %v: %v, locally %v", most, got, want)
	}
}

func readPhotos(t *testing.T, names ...string) [][]byte {
	t.Helper()
	var photos [][]byte
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(testenv.Photos(t), name))
		if err != nil {
			t.Fatal(err)
		}
		photos = append(photos, b)
	}
	return photos
}

// The same model behind the Go server gives the same scores. The benchmark uses it as the best
// case of a remote call.
func TestOverGo(t *testing.T) {
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	local, err := savedmodel.Load(t.Context(), filepath.Join(testenv.Model(t), "1"), savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	fake := remotetest.NewFake("inception")
	fake.Versions = []int64{3}
	fake.SetHook(func(ctx context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return remotetest.Run(ctx, local, 3, r)
	})
	server := remotetest.Serve(t, fake)
	config := testConfig(server.Addr())
	config.Timeout, config.Budget = 2*time.Minute, 2*time.Minute
	c, _ := newClient(t, config)
	compare(t, c, local, Batch{Signature: "serving_bytes", Inputs: encoded(readPhotos(t, "china.jpg", "flower.jpg")...), Output: "scores", Version: 3})
}

// zeros returns inputs of the same types and shapes, all zeros or empty.
func zeros(inputs map[string]*tfpb.TensorProto) map[string]*tfpb.TensorProto {
	blank := map[string]*tfpb.TensorProto{}
	for key, t := range inputs {
		blank[key] = &tfpb.TensorProto{
			Dtype: t.GetDtype(), TensorShape: t.GetTensorShape(),
			TensorContent: make([]byte, len(t.GetTensorContent())), StringVal: make([][]byte, len(t.GetStringVal())),
		}
	}
	return blank
}
