package infer

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// onWhite returns an image with alpha as a PNG without: TensorFlow's colours and alpha, laid on
// white.
func onWhite(t *testing.T, encoded []byte) []byte {
	t.Helper()
	d, err := newDecoder(Preprocessing{Size: [2]int{1, 1}, Resize: "bilinear", Scale: same(1)}, savedmodel.Float32, false, savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	contents, err := savedmodel.NewStringTensor([][]byte{encoded})
	if err != nil {
		t.Fatal(err)
	}
	defer contents.Close()
	out, err := d.rgba.Run(t.Context(), contents)
	if err != nil {
		t.Fatal(err)
	}
	defer out[0].Close()
	shape, pix := out[0].Shape(), out[0].Bytes()
	img := image.NewNRGBA(image.Rect(0, 0, int(shape[1]), int(shape[0])))
	for i := range pix {
		alpha := float64(pix[i/4*4+3]) / 255
		img.Pix[i] = byte(math.Round(float64(pix[i])*alpha + 255*(1-alpha)))
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A WebP with alpha, and the first frame of an animated one, have the scores of the same picture
// on white.
func TestWebPOnWhite(t *testing.T) {
	v := load(t, filepath.Join(testenv.Model(t), "1"))
	for _, a := range testenv.Answers(t) {
		if a.Format != "webp" || a.Error == "" {
			continue
		}
		name := filepath.Base(a.File)
		file, err := os.ReadFile(a.File)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Classify(t.Context(), file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		announced := bytes.Clone(file)
		announced[20] |= 0x10 // TensorFlow takes no animation without alpha
		want, err := v.Classify(t.Context(), onWhite(t, announced))
		if err != nil {
			t.Fatal(err)
		}
		if h := got.Image; h.Format != "webp" || h.Width != 427 || h.Height != 320 {
			t.Errorf("%s: %+v", name, h)
		}
		for i, c := range want.Classes {
			if d := math.Abs(float64(c.Score - got.Classes[i].Score)); got.Classes[i].Index != c.Index || d > 1e-6 {
				t.Errorf("%s: got %v, want %v", name, got.Classes[i], c)
			}
		}
	}
}

// A graph that decodes images never gets an animated WebP: with the channels that TensorFlow
// chooses, it would end the process.
func TestEncodedAnimation(t *testing.T) {
	dir := filepath.Join(modeltest.CopyVersion(t, testenv.Model(t)), "1")
	modeltest.Write(t, filepath.Join(dir, SpecFile), []byte("signature: serving_bytes\noutput: scores\nlabels: labels.txt\n"))
	v := load(t, dir)
	file, err := os.ReadFile(filepath.Join(testenv.Root(t), ".tools/reference/images/animated.webp"))
	if err != nil {
		t.Skipf("%v: run `make setup`", err)
	}
	_, err = v.Classify(t.Context(), file)
	if bad := new(InputError); !errors.As(err, &bad) || bad.Reason != ReasonAnimated {
		t.Errorf("got %v, want %s", err, ReasonAnimated)
	}
}
