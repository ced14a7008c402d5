package pixels

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// numbers are those at which rounding is decided, and some of every size.
func numbers() []float32 {
	all := []float32{
		0, float32(math.Copysign(0, -1)), 1, -1, 0.5, 254.5, 254.99998, 255, -127.5,
		1<<63 - 1<<39, 1 << 63, 1<<64 - 1<<40, float32(math.Inf(1)), float32(math.Inf(-1)),
		// The largest of float16, and beyond; subnormal there; halfway.
		65504, 65519, 65520, 65536, -65520, 1e38, math.MaxFloat32,
		0x1p-14, 0x1.ffep-15, 0x1p-24, 0x1p-25, 0x1.000002p-25, 0x1.8p-24, 0x1.8p-25, 0x1p-26,
		1 + 0x1p-11, 1 + 0x3p-11, 1 + 0x1p-11 + 0x1p-23, 1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-8 + 0x1p-23,
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		all = append(all, float32(math.Ldexp(random.Float64()*2-1, random.IntN(100)-36)))
	}
	return all
}

func TestCastEqualsTensorFlow(t *testing.T) {
	tf := openTensorFlow(t)
	for _, test := range []struct {
		dtype  savedmodel.DataType
		lo, hi float64 // numbers that it holds
	}{
		{savedmodel.Float16, math.Inf(-1), math.Inf(1)},
		{savedmodel.BFloat16, math.Inf(-1), math.Inf(1)},
		{savedmodel.Float32, math.Inf(-1), math.Inf(1)},
		{savedmodel.Float64, math.Inf(-1), math.Inf(1)},
		{savedmodel.Int8, -128, 127},
		{savedmodel.Int16, -32768, 32767},
		{savedmodel.Int32, -1 << 31, 1<<31 - 1<<7},
		{savedmodel.Int64, -1 << 63, 1<<63 - 1<<39},
		{savedmodel.UInt8, 0, 255},
		{savedmodel.UInt16, 0, 65535},
		{savedmodel.UInt32, 0, 1<<32 - 1<<8},
		{savedmodel.UInt64, 0, 1<<64 - 1<<40},
	} {
		t.Run(test.dtype.String(), func(t *testing.T) {
			var from []float32
			for _, v := range numbers() {
				if float64(v) >= test.lo && float64(v) <= test.hi {
					from = append(from, v)
				}
			}
			want := tf.cast(from, test.dtype)
			each := test.dtype.Size()
			got := make([]byte, each*len(from))
			for i, v := range from {
				Cast(got[i*each:], test.dtype, v)
				if at := got[i*each : (i+1)*each]; !bytes.Equal(at, want[i*each:(i+1)*each]) {
					t.Errorf("%v (%#x) is % x, want % x", v, math.Float32bits(v), at, want[i*each:(i+1)*each])
				}
			}
		})
	}
}

// NaN remains NaN.
func TestCastNaN(t *testing.T) {
	to := make([]byte, 2)
	for _, bits := range []uint32{0x7fc00000, 0x7f800001, 0xffffffff} {
		v := math.Float32frombits(bits)
		Cast(to, savedmodel.Float16, v)
		if half := binary.LittleEndian.Uint16(to); half&0x7c00 != 0x7c00 || half&0x3ff == 0 {
			t.Errorf("%#x as float16: %#x", bits, half)
		}
		Cast(to, savedmodel.BFloat16, v)
		if brain := binary.LittleEndian.Uint16(to); brain&0x7f80 != 0x7f80 || brain&0x7f == 0 {
			t.Errorf("%#x as bfloat16: %#x", bits, brain)
		}
	}
}

func (tf *tensorFlow) cast(from []float32, to savedmodel.DataType) []byte {
	tf.t.Helper()
	session, f := tf.function([]*tfpb.NodeDef{
		node("in", "Placeholder", nil, attrs{"dtype": typeAttr(savedmodel.Float32)}),
		node("out", "Cast", []string{"in"}, attrs{"SrcT": typeAttr(savedmodel.Float32), "DstT": typeAttr(to)}),
	})
	defer session.Close()
	in, err := savedmodel.NewTensor(savedmodel.Float32, int64(len(from)))
	if err != nil {
		tf.t.Fatal(err)
	}
	defer in.Close()
	for i, v := range from {
		binary.LittleEndian.PutUint32(in.Bytes()[4*i:], math.Float32bits(v))
	}
	out, err := f.Run(tf.t.Context(), in)
	if err != nil {
		tf.t.Fatal(err)
	}
	defer out[0].Close()
	return bytes.Clone(out[0].Bytes())
}
