package pixels

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// maxApart is how much a number may differ from Python's. The largest numbers are 255.
const maxApart = 1e-4

// TestPreprocessingEqualsPython compares with tf.image, Keras and slim for pictures of odd sizes.
// For a JPEG it starts from TensorFlow's pixels, since decoders differ, so that every later
// step is compared as closely.
func TestPreprocessingEqualsPython(t *testing.T) {
	tf := openTensorFlow(t)
	decoded := map[string]picture{}
	worst := 0.0
	for _, c := range testenv.Preprocessing(t) {
		r := recipeFor(t, c)
		got, err := r.Append(nil, c.File, Header{c.Format, c.Width, c.Height})
		if err != nil {
			t.Fatalf("%s: %v", c.Picture, err)
		}
		if c.Format == "jpeg" {
			checkPreprocessedJPEG(t, c, r, got)
			p, ok := decoded[c.Picture]
			if !ok {
				p, _ = tf.picture(c.File)
				decoded[c.Picture] = p
			}
			r.input(got, p)
		}
		apart := apart(t, got, c.Tensor, r.DType)
		worst = max(worst, apart)
		if !(apart <= maxApart) {
			t.Errorf("%s of %s, %s %s %s: differs by %v", c.Name, c.Picture, c.Input, c.Layout, c.DType, apart)
		}
	}
	t.Logf("largest difference %.2g", worst)
}

// checkPreprocessedJPEG checks that the input from Go's decoding of a JPEG differs by no more
// than the decoders do.
func checkPreprocessedJPEG(t *testing.T, c testenv.Preprocessed, r Recipe, got []byte) {
	t.Helper()
	const overshoot = 2 // of a bicubic resize, which sharpens
	most := 1e-4
	for _, scale := range r.Scale {
		most = max(most, overshoot*jpegMost*float64(scale))
	}
	if r.DType.Size() == 1 || r.DType == savedmodel.Int16 {
		most++ // the fraction that is cut off
	}
	if apart := apart(t, got, c.Tensor, r.DType); !(apart <= most) {
		t.Errorf("%s of %s, decoded in Go: differs by %v, want at most %v", c.Name, c.Picture, apart, most)
	}
}

// recipeFor returns the recipe of inceptor.yaml and the model's signature.
func recipeFor(t testing.TB, c testenv.Preprocessed) Recipe {
	t.Helper()
	var in struct {
		Size             [2]int
		Crop             float64
		Fit              Fit
		Resize           string
		Align            bool `json:"align_corners"`
		HalfPixelCenters bool `json:"half_pixel_centers"`
		Channels         Channels
		Scale            *float64
		Offset           float64
		Mean, Std        []float64
	}
	if err := json.Unmarshal(c.Input, &in); err != nil {
		t.Fatalf("%s: %s: %v", c.Name, c.Input, err)
	}
	r := Recipe{
		Frame:  Frame{Crop: in.Crop, Fit: in.Fit, Height: in.Size[0], Width: in.Size[1]},
		Resize: in.Resize, AlignCorners: in.Align, HalfPixelCenters: in.HalfPixelCenters,
		Channels: in.Channels, Layout: Layout(c.Layout), DType: dtypeOf(t, c.DType),
	}
	for i := range r.Scale {
		scale, offset := 1.0, in.Offset
		if in.Scale != nil {
			scale = *in.Scale
		}
		if in.Std != nil {
			scale /= in.Std[i]
		}
		if in.Mean != nil {
			offset = -in.Mean[i]
			if in.Std != nil {
				offset /= in.Std[i]
			}
		}
		r.Scale[i], r.Offset[i] = float32(scale), float32(offset)
	}
	return r
}

func dtypeOf(t testing.TB, name string) savedmodel.DataType {
	t.Helper()
	for d := savedmodel.Float32; d <= savedmodel.UInt64; d++ {
		if d.String() == name {
			return d
		}
	}
	t.Fatalf("unknown type %s", name)
	return savedmodel.Invalid
}

// apart returns the largest difference between the numbers of two tensors.
func apart(t testing.TB, a, b []byte, d savedmodel.DataType) float64 {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d bytes, want %d", len(a), len(b))
	}
	most := 0.0
	for i := 0; i < len(a); i += d.Size() {
		most = max(most, math.Abs(number(a[i:], d)-number(b[i:], d))) // NaN stays
	}
	return most
}

// number returns the first number in some bytes.
func number(b []byte, d savedmodel.DataType) float64 {
	switch d {
	case savedmodel.Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	case savedmodel.BFloat16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
	case savedmodel.Float16:
		bits := binary.LittleEndian.Uint16(b)
		exponent, mantissa := int(bits>>10&31), int(bits&1023)
		if exponent > 0 {
			mantissa += 1024
			exponent--
		}
		return math.Copysign(math.Ldexp(float64(mantissa), exponent-24), 1-2*float64(bits>>15))
	case savedmodel.Int8:
		return float64(int8(b[0]))
	case savedmodel.UInt8:
		return float64(b[0])
	case savedmodel.Int16:
		return float64(int16(binary.LittleEndian.Uint16(b)))
	case savedmodel.UInt16:
		return float64(binary.LittleEndian.Uint16(b))
	case savedmodel.Int32:
		return float64(int32(binary.LittleEndian.Uint32(b)))
	case savedmodel.UInt32:
		return float64(binary.LittleEndian.Uint32(b))
	case savedmodel.Int64, savedmodel.UInt64:
		return float64(int64(binary.LittleEndian.Uint64(b)))
	}
	return float64(float32At(b))
}
