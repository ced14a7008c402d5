package main

import (
	"bytes"
	"context"
	"encoding/binary"
	imaging "image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// A model server gets the pixels that inceptor.yaml asks for, with TensorFlow's library and without
// it.
func TestRemotePreprocessing(t *testing.T) {
	t.Parallel()
	// In the middle of a picture, 4×4 pixels of one colour; around them red.
	framed := func(width, height int) []byte {
		img := imaging.NewNRGBA(imaging.Rect(0, 0, width, height))
		middle := imaging.Rect(0, 0, 4, 4).Add(imaging.Pt(width/2-2, height/2-2))
		for y := range height {
			for x := range width {
				img.SetNRGBA(x, y, color.NRGBA{255, 0, 0, 255})
				if imaging.Pt(x, y).In(middle) {
					img.SetNRGBA(x, y, color.NRGBA{10, 100, 200, 255})
				}
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	libraries := map[string][]string{"with TensorFlow": {"--tensorflow.library", testenv.TensorFlow(t)}, "without": nil}
	for name, test := range map[string]struct {
		width, height int
		input         string
		want          [3]float64
	}{
		"Caffe's": {
			8, 8, "{crop: 0.5, resize: bicubic, half_pixel_centers: true, channels: bgr, mean: [103.939, 116.779, 123.68]}",
			[3]float64{200 - 103.939, 100 - 116.779, 10 - 123.68},
		},
		"PyTorch's": {
			12, 4, "{fit: crop, resize: nearest, scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
			[3]float64{(10.0/255 - 0.485) / 0.229, (100.0/255 - 0.456) / 0.224, (200.0/255 - 0.406) / 0.225},
		},
		"slim's": {
			8, 8, "{crop: 0.5, resize: area, scale: 1/127.5, offset: -1}",
			[3]float64{10/127.5 - 1, 100/127.5 - 1, 200/127.5 - 1},
		},
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "models/1/assets.extra/inceptor.yaml"), []byte("input: "+test.input+"\n"))
		// The server has the model. The version here says what it takes.
		writeFile(t, filepath.Join(dir, "models/1/saved_model.pb"), nil)
		file := filepath.Join(dir, "picture.png")
		writeFile(t, file, framed(test.width, test.height))
		for where, library := range libraries {
			t.Run(name+", "+where, func(t *testing.T) {
				fake := remotetest.NewFake("inception")
				var got []byte
				fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
					got = bytes.Clone(r.GetInputs()[remotetest.PixelsInput].GetTensorContent())
					return nil, nil //nolint:nilnil // it goes on with the request
				})
				cmd := program(append([]string{
					"classify", file, "--model.backend", "remote", "--fallback.address", remotetest.Serve(t, fake).Addr(), "--model.dir", filepath.Join(dir, "models"),
				}, library...)...)
				cmd.Dir = dir // not the checkout
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if len(got) != 12 {
					t.Fatalf("the server got %d bytes, want 3 numbers", len(got))
				}
				for i, want := range test.want {
					if v := float64(math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:]))); !(math.Abs(v-want) < 1e-4) {
						t.Errorf("channel %d is %v, want %v", i, v, want)
					}
				}
			})
		}
	}
}

func writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
