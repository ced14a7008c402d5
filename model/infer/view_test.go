package infer

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

func TestSpecView(t *testing.T) {
	for _, c := range []struct{ name, spec, want string }{ // want: words of the error; empty: none
		{"nothing", "input: {size: [2, 2]}", ""},
		{"both", "input: {orientation: exif, background: white}", ""},
		{"black", "input: {background: black}", ""},
		{"colour", "input: {background: '#30A0ff'}", ""},
		{"another orientation", "input: {orientation: upright}", `inceptor.yaml: line 1: input.orientation: "upright" is not exif`},
		{"another colour", "input: {background: red}", `inceptor.yaml: line 1: input.background: "red" is neither white, black nor #rrggbb`},
		{"short colour", "input: {background: '#fff'}", `input.background: "#fff" is neither`},
		{"no hexadecimal", "input: {background: '#gggggg'}", `input.background: "#gggggg" is neither`},
		{"colour without its sign", "input: {background: ffffff}", `input.background: "ffffff" is neither`},
		{"colour that is a comment", "input:\n  background: #ffffff\n", "inceptor.yaml: line 2: input.background has no value; a # begins a comment"},
		{"both wrong", "input: {orientation: 6, background: none}", `input.background: "none" is neither`},
	} {
		dir := t.TempDir()
		modeltest.Write(t, filepath.Join(dir, SpecFile), []byte(c.spec))
		_, err := readSpec(dir)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// If the model's graph decodes, a spec cannot say how. A model server's signature of encoded images
// is then passed over for one of pixels.
func TestBindView(t *testing.T) {
	scores := map[string]savedmodel.TensorInfo{"scores": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 2}}}
	take := func(dtype savedmodel.DataType, shape ...int64) savedmodel.Signature {
		return savedmodel.Signature{Inputs: map[string]savedmodel.TensorInfo{"in": {DType: dtype, Shape: shape}}, Outputs: scores}
	}
	signatures := map[string]savedmodel.Signature{
		"serving_default": take(savedmodel.Float32, -1, 2, 2, 3), bytesSignature: take(savedmodel.String, -1), "rows": take(savedmodel.Float32, -1, 4),
	}
	for _, c := range []struct {
		name, signature         string
		orientation, background string
		content                 Content
		want                    string
	}{
		{name: "pixels", signature: "serving_default", orientation: "exif", background: "white"},
		{name: "encoded, plain", signature: bytesSignature},
		{name: "encoded, orientation", signature: bytesSignature, orientation: "exif", want: SpecFile + ": input.orientation: "},
		{name: "encoded, background", signature: bytesSignature, background: "white", want: SpecFile + ": input.background: "},
		{name: "examples", signature: bytesSignature, background: "white", content: Examples, want: SpecFile + ": input.background: "},
		{name: "rows", signature: "rows", orientation: "exif", content: Rows, want: SpecFile + ": input.orientation: "},
	} {
		spec := defaultSpec()
		spec.Signature, spec.Input.Orientation, spec.Input.Background = c.signature, c.orientation, c.background
		if _, err := spec.bind(modelMetadata{signatures: signatures}, c.content); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	for orientation, want := range map[string]string{"": bytesSignature, "exif": "serving_default"} {
		spec := defaultSpec()
		spec.Input.Orientation = orientation
		sig, err := bindRemote(spec, modelMetadata{signatures: signatures, server: true}, Images)
		if err != nil || sig.Signature != want {
			t.Errorf("model server, orientation %q: got %q, %v, want %q", orientation, sig.Signature, err, want)
		}
	}
}

// If no local version names a signature, the server's only one that certainly takes images is used:
// TensorFlow Serving's Inception takes tf.Examples by default.
func TestBindServerOnlyFit(t *testing.T) {
	strs := savedmodel.TensorInfo{DType: savedmodel.String, Shape: savedmodel.Shape{-1}}
	outputs := map[string]savedmodel.TensorInfo{
		"scores": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1, 5}}, "classes": {DType: savedmodel.String, Shape: savedmodel.Shape{-1, 5}},
	}
	signatures := map[string]savedmodel.Signature{
		"serving_default": {Method: methodClassify, Inputs: map[string]savedmodel.TensorInfo{"inputs": strs}, Outputs: outputs},
		"predict_images":  {Inputs: map[string]savedmodel.TensorInfo{"images": strs}, Outputs: outputs},
	}
	sig, err := bindRemote(defaultSpec(), modelMetadata{signatures: signatures, server: true}, Images)
	if err != nil || sig.Signature != "predict_images" || sig.Output.Classes != "classes" {
		t.Errorf("got %q, %v", sig.Signature, err)
	}
	if _, err := bindRemote(defaultSpec(), modelMetadata{signatures: signatures, server: true, file: "a version's"}, Images); err == nil {
		t.Error("another signature than the version's was taken")
	}
	signatures["more_images"] = signatures["predict_images"]
	if sig, err := bindRemote(defaultSpec(), modelMetadata{signatures: signatures, server: true}, Images); err == nil {
		t.Errorf("of two that fit %q was taken", sig.Signature)
	}
}

// photo returns an image with four different corners, transparent on the right.
func photo(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{byte(255 * x / w), byte(255 * y / h), 60, byte(255 - 200*x/w)})
		}
	}
	return img
}

// exif returns EXIF data with an orientation.
func exif(orientation byte) []byte {
	return []byte{'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0}
}

func orientedPNG(t *testing.T, img image.Image, orientation byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	chunk := append([]byte("eXIf"), exif(orientation)...)
	whole := binary.BigEndian.AppendUint32(nil, uint32(len(chunk)-4))
	whole = binary.BigEndian.AppendUint32(append(whole, chunk...), crc32.ChecksumIEEE(chunk))
	return bytes.Join([][]byte{b.Bytes()[:33], whole, b.Bytes()[33:]}, nil)
}

func orientedJPEG(t *testing.T, img image.Image, orientation byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	segment := append([]byte("\xff\xe1\x00\x22Exif\x00\x00"), exif(orientation)...)
	return bytes.Join([][]byte{b.Bytes()[:2], segment, b.Bytes()[2:]}, nil)
}

// TensorFlow and Go turn images and put backgrounds behind them in the same way. For a turned
// image, height and width of the input are swapped.
func TestViewEverywhere(t *testing.T) {
	modeltest.OpenLibrary(t)
	opaque := photo(200, 120)
	for i := 3; i < len(opaque.Pix); i += 4 {
		opaque.Pix[i] = 255
	}
	for name, c := range map[string]struct {
		file  []byte
		in    Input
		fast  bool
		limit float64 // levels of 255, of the largest difference
	}{
		"png, as it is":         {orientedPNG(t, photo(40, 30), 6), Input{}, false, 0},
		"png, turned":           {orientedPNG(t, photo(40, 30), 6), Input{Orientation: "exif"}, false, 0},
		"png, on white":         {orientedPNG(t, photo(40, 30), 6), Input{Background: "white"}, false, 0},
		"png, both":             {orientedPNG(t, photo(40, 30), 7), Input{Orientation: "exif", Background: "#102030"}, false, 0},
		"jpeg, turned":          {orientedJPEG(t, opaque, 8), Input{Orientation: "exif"}, false, 6},
		"jpeg, turned and fast": {orientedJPEG(t, opaque, 8), Input{Orientation: "exif"}, true, 6},
	} {
		in := c.in
		in.Size, in.Resize, in.Scale, in.HalfPixelCenters = [2]int{10, 6}, "bilinear", new(same(1)), new(true)
		how, _ := in.preprocessing(evidence{})
		h, err := ParseHeader(c.file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := newDecoder(how, savedmodel.Float32, c.fast, savedmodel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		here, err := d.item(t.Context(), c.file, h)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer here.pixels.Close()
		inGo, err := decodeInGo(how.recipe(savedmodel.Float32))(t.Context(), c.file, h)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := savedmodel.Data[float32](here.pixels)
		if err != nil || len(got) != 10*6*3 {
			t.Fatalf("%s: %d numbers, %v", name, len(got), err)
		}
		most := 0.0
		for i, v := range got {
			want := math.Float32frombits(binary.LittleEndian.Uint32(inGo.plain[4*i:]))
			most = max(most, math.Abs(float64(v-want)))
		}
		if most > c.limit+1e-4 {
			t.Errorf("%s: differs by %v", name, most)
		}
		if h.Width < h.Height {
			t.Errorf("%s: the header says %d×%d, want the file's own", name, h.Width, h.Height)
		}
	}
}
