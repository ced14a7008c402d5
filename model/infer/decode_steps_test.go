package infer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// numberAt returns element i of a tensor.
func numberAt(t *savedmodel.Tensor, i int) float64 {
	n := t.DType().Size()
	b := t.Bytes()[n*i:][:n]
	switch order := binary.NativeEndian; t.DType() {
	case savedmodel.Float32:
		return float64(math.Float32frombits(order.Uint32(b)))
	case savedmodel.Float64:
		return math.Float64frombits(order.Uint64(b))
	case savedmodel.BFloat16:
		return float64(math.Float32frombits(uint32(order.Uint16(b)) << 16))
	case savedmodel.Float16:
		bits := order.Uint16(b)
		x := math.Ldexp(float64(bits&0x3ff|0x400), int(bits>>10&0x1f)-25)
		if bits>>10&0x1f == 0 { // the tests have no other small number
			x = 0
		}
		return x * (1 - 2*float64(bits>>15))
	case savedmodel.UInt8:
		return float64(b[0])
	case savedmodel.Int8:
		return float64(int8(b[0]))
	case savedmodel.UInt16:
		return float64(order.Uint16(b))
	case savedmodel.Int16:
		return float64(int16(order.Uint16(b)))
	case savedmodel.UInt32:
		return float64(order.Uint32(b))
	case savedmodel.Int32:
		return float64(int32(order.Uint32(b)))
	case savedmodel.UInt64:
		return float64(order.Uint64(b))
	case savedmodel.Int64:
		return float64(int64(order.Uint64(b)))
	}
	return math.NaN()
}

// numbers returns all elements of a tensor.
func numbers(t *savedmodel.Tensor) (list []float64) {
	for i := range len(t.Bytes()) / t.DType().Size() {
		list = append(list, numberAt(t, i))
	}
	return list
}

// inputOf returns the input that a preprocessing makes of a picture.
func inputOf(t *testing.T, p Preprocessing, dtype savedmodel.DataType, picture []byte) (savedmodel.Shape, []float64) {
	t.Helper()
	h, err := ParseHeader(picture)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDecoder(p, dtype, false, savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	got, err := d.pixels(t.Context(), picture, h)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.DType() != dtype {
		t.Errorf("%v, want %v", got.DType(), dtype)
	}
	return slices.Clone(got.Shape()), numbers(got)
}

// TestDecodeSteps checks each step of the preprocessing with a picture 4 wide and 2 high, whose
// channel c at x, y is 100y + 10x + c.
func TestDecodeSteps(t *testing.T) {
	modeltest.OpenLibrary(t)
	const width, height = 4, 2
	at := func(x, y, c int) float64 { return float64(100*y + 10*x + c) }
	picture := drawing{width, height, func(x, y, c int) byte { return byte(at(x, y, c)) }}.encode("png")
	// of returns the pixels at these places, row by row.
	of := func(xs, ys []int, channels ...int) (list []float64) {
		for _, y := range ys {
			for _, x := range xs {
				for _, c := range channels {
					list = append(list, at(x, y, c))
				}
			}
		}
		return list
	}
	columns, rows := []int{0, 1, 2, 3}, []int{0, 1}
	all := of(columns, rows, 0, 1, 2)
	each := func(list []float64, f func(i int, v float64) float64) (made []float64) {
		for i, v := range list {
			made = append(made, f(i, v))
		}
		return made
	}
	zeros := func(n int) []float64 { return make([]float64, n) }
	for name, test := range map[string]struct {
		p     Preprocessing
		dtype savedmodel.DataType // Invalid: float32
		want  []float64
		shape savedmodel.Shape // nil: [1, size, 3]
	}{
		"as it is": {p: Preprocessing{}, want: all},
		"scale and offset of each channel": {
			p:    Preprocessing{Scale: PerChannel{1, 2, 0.5}, Offset: PerChannel{0, -1, 7}},
			want: each(all, func(i int, v float64) float64 { return v*[]float64{1, 2, 0.5}[i%3] + []float64{0, -1, 7}[i%3] }),
		},
		"bgr": {p: Preprocessing{Channels: pixels.BGR}, want: of(columns, rows, 2, 1, 0)},
		"bgr, offsets in that order": {
			p:    Preprocessing{Channels: pixels.BGR, Offset: PerChannel{-103.939, -116.779, -123.68}},
			want: each(of(columns, rows, 2, 1, 0), func(i int, v float64) float64 { return v - []float64{103.939, 116.779, 123.68}[i%3] }),
		},
		"gray, then the scale": {
			p: Preprocessing{Channels: pixels.Gray, Scale: same(2)}, shape: savedmodel.Shape{1, 2, 4, 1},
			want: each(of(columns, rows, 0), func(_ int, red float64) float64 { return 2 * (0.2989*red + 0.587*(red+1) + 0.114*(red+2)) }),
		},
		"channels first": {
			p: Preprocessing{Layout: pixels.ChannelsFirst}, shape: savedmodel.Shape{1, 3, 2, 4},
			want: slices.Concat(of(columns, rows, 0), of(columns, rows, 1), of(columns, rows, 2)),
		},
		"channels first, bgr, bytes": {
			p: Preprocessing{Layout: pixels.ChannelsFirst, Channels: pixels.BGR, Resize: "nearest"}, dtype: savedmodel.UInt8, shape: savedmodel.Shape{1, 3, 2, 4},
			want: slices.Concat(of(columns, rows, 2), of(columns, rows, 1), of(columns, rows, 0)),
		},
		"crop": { // of the two rows int((2 - 1) / 2) = 0 are cut off, as tf.image.central_crop does
			p: Preprocessing{Size: [2]int{2, 2}, Crop: 0.5}, want: of([]int{1, 2}, rows, 0, 1, 2),
		},
		"fit: crop": {p: Preprocessing{Size: [2]int{2, 2}, Fit: pixels.Crop}, want: of([]int{1, 2}, rows, 0, 1, 2)},
		"fit: pad": {
			p:    Preprocessing{Size: [2]int{4, 4}, Fit: pixels.Pad},
			want: slices.Concat(zeros(12), all, zeros(12)),
		},
		"fit: pad, with the offset around": {
			p:    Preprocessing{Size: [2]int{4, 4}, Fit: pixels.Pad, Offset: same(-5)},
			want: each(slices.Concat(zeros(12), all, zeros(12)), func(_ int, v float64) float64 { return v - 5 }),
		},
		"crop, then pad, gray, channels first": {
			p:     Preprocessing{Size: [2]int{4, 2}, Crop: 0.5, Fit: pixels.Pad, Channels: pixels.Gray, Layout: pixels.ChannelsFirst},
			shape: savedmodel.Shape{1, 1, 4, 2},
			want: slices.Concat(zeros(2), each(of([]int{1, 2}, rows, 0), func(_ int, red float64) float64 {
				return 0.2989*red + 0.587*(red+1) + 0.114*(red+2)
			}), zeros(2)),
		},
		"nearest":                     {p: Preprocessing{Size: [2]int{2, 2}, Resize: "nearest"}, want: of([]int{0, 2}, rows, 0, 1, 2)},
		"nearest, half-pixel centers": {p: Preprocessing{Size: [2]int{2, 2}, Resize: "nearest", HalfPixelCenters: true}, want: of([]int{1, 3}, rows, 0, 1, 2)},
		"nearest, corners aligned":    {p: Preprocessing{Size: [2]int{2, 2}, Resize: "nearest", AlignCorners: true}, want: of([]int{0, 3}, rows, 0, 1, 2)},
		"nearest, scaled":             {p: Preprocessing{Resize: "nearest", Scale: same(0.5)}, want: each(all, func(_ int, v float64) float64 { return v / 2 })},
		"area": {
			p:    Preprocessing{Size: [2]int{1, 2}, Resize: "area"},
			want: each(of([]int{0, 2}, []int{0}, 0, 1, 2), func(_ int, v float64) float64 { return v + 55 }),
		},
		"bicubic, as large": {p: Preprocessing{Resize: "bicubic", HalfPixelCenters: true}, want: all},
		"float16":           {dtype: savedmodel.Float16, want: all},
		"bfloat16":          {dtype: savedmodel.BFloat16, want: all},
		"float64":           {dtype: savedmodel.Float64, want: all},
		"uint8":             {dtype: savedmodel.UInt8, want: all},
		"uint16":            {dtype: savedmodel.UInt16, want: all},
		"uint32":            {dtype: savedmodel.UInt32, want: all},
		"uint64":            {dtype: savedmodel.UInt64, want: all},
		"int16":             {dtype: savedmodel.Int16, want: all},
		"int32":             {dtype: savedmodel.Int32, want: all},
		"int64":             {dtype: savedmodel.Int64, want: all},
		"int8":              {p: Preprocessing{Offset: same(-128)}, dtype: savedmodel.Int8, want: each(all, func(_ int, v float64) float64 { return v - 128 })},
		"a fraction is cut off": {
			p: Preprocessing{Scale: same(-0.5)}, dtype: savedmodel.Int32, want: each(all, func(_ int, v float64) float64 { return math.Trunc(-v / 2) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := test.p
			if p.Size == [2]int{} {
				p.Size = [2]int{height, width}
			}
			if p.Resize == "" {
				p.Resize = "bilinear"
			}
			if p.Scale == same(0) {
				p.Scale = same(1)
			}
			if test.dtype == savedmodel.Invalid {
				test.dtype = savedmodel.Float32
			}
			if test.shape == nil {
				test.shape = savedmodel.Shape{1, int64(p.Size[0]), int64(p.Size[1]), 3}
			}
			shape, got := inputOf(t, p, test.dtype, picture)
			if !slices.Equal(shape, test.shape) {
				t.Fatalf("the shape is %v, want %v", shape, test.shape)
			}
			if !slices.EqualFunc(got, test.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-4 }) {
				t.Errorf("got\n%v, want\n%v", got, test.want)
			}
		})
	}
}

// Next to a sharp edge, bicubic resizing exceeds the range of a byte. A black pixel must not
// become white by that.
func TestBicubicBytes(t *testing.T) {
	modeltest.OpenLibrary(t)
	picture := drawing{8, 1, func(x, _, _ int) byte { return byte(x / 4 * 255) }}.encode("png")
	p := Preprocessing{Size: [2]int{1, 40}, Resize: "bicubic", HalfPixelCenters: true, Scale: same(1)}
	_, exact := inputOf(t, p, savedmodel.Float32, picture)
	if !(slices.Min(exact) < 0 && slices.Max(exact) > 255) {
		t.Fatalf("from %v to %v: nothing overshoots", slices.Min(exact), slices.Max(exact))
	}
	_, got := inputOf(t, p, savedmodel.UInt8, picture)
	for i, v := range got {
		if want := math.Trunc(min(max(exact[i], 0), 255)); v != want {
			t.Errorf("value %d is %v, want %v", i, v, want)
		}
	}
}

// Pictures of one pixel's width or height decode with every fit.
func TestDecodeThin(t *testing.T) {
	modeltest.OpenLibrary(t)
	for _, size := range [][2]int{{1, 3000}, {3000, 1}, {1, 1}} {
		picture := drawing{size[0], size[1], func(int, int, int) byte { return 200 }}.encode("png")
		for _, fit := range []pixels.Fit{pixels.Stretch, pixels.Pad, pixels.Crop} {
			for _, crop := range []float64{1, 0.875, 0.01} {
				for resize := range resizeOps {
					t.Run(fmt.Sprint(size, fit, crop, resize), func(t *testing.T) {
						p := Preprocessing{Size: [2]int{5, 7}, Crop: crop, Fit: fit, Resize: resize, Scale: same(1)}
						shape, got := inputOf(t, p, savedmodel.Float32, picture)
						if !slices.Equal(shape, savedmodel.Shape{1, 5, 7, 3}) {
							t.Fatalf("the shape is %v", shape)
						}
						shown := 0
						for _, v := range got {
							switch {
							case math.Abs(v-200) < 1e-3:
								shown++
							case v != 0 || fit != pixels.Pad:
								t.Fatalf("a pixel is %v", v)
							}
						}
						if shown == 0 {
							t.Error("nothing of the picture is left")
						}
					})
				}
			}
		}
	}
}

// The frame takes the same part of a picture that is scaled while it is decoded, or turned
// before the resize, as of the picture itself.
func TestDecodeFramed(t *testing.T) {
	modeltest.OpenLibrary(t)
	upright := drawing{1600, 1200, func(x, y, c int) byte { return byte([3]int{x * 255 / 1600, y * 255 / 1200, (x + y) * 255 / 2800}[c]) }}
	turned := drawing{1200, 1600, func(x, y, c int) byte { return upright.channel(y, 1199-x, c) }} // stored so, and 8: to the left
	view := func(p Preprocessing) Preprocessing {
		p.view = pixels.View{Upright: true}
		return p
	}
	exact, fast := upright.encode("png"), upright.encode("jpeg")
	turnedPNG, turnedJPEG := orientedPNG(t, turned, 8), orientedJPEG(t, turned, 8)
	for name, frame := range map[string]pixels.Frame{
		"crop": {Crop: 0.5}, "fit: crop": {Fit: pixels.Crop}, "fit: pad": {Fit: pixels.Pad}, "crop, pad": {Crop: 0.3, Fit: pixels.Pad},
	} {
		p := Preprocessing{Size: [2]int{40, 60}, Crop: frame.Crop, Fit: frame.Fit, Resize: "bilinear", HalfPixelCenters: true, Scale: same(1)}
		_, want := inputOf(t, p, savedmodel.Float32, exact)
		for how, test := range map[string]struct {
			picture []byte
			p       Preprocessing
			fast    bool
		}{
			"fast":         {fast, p, true},
			"turned":       {turnedPNG, view(p), false},
			"turned, fast": {turnedJPEG, view(p), true},
		} {
			h, err := ParseHeader(test.picture)
			if err != nil {
				t.Fatal(err)
			}
			d, err := newDecoder(test.p, savedmodel.Float32, test.fast, savedmodel.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if test.fast && d.ratio(h) == 0 {
				t.Errorf("%s, %s: it is not scaled", name, how)
			}
			got, err := d.pixels(t.Context(), test.picture, h)
			if err != nil {
				t.Fatal(err)
			}
			limit := 1e-4 // levels
			if test.fast {
				limit = 4 // of JPEG, and of the side's last pixels
			}
			for i, v := range numbers(got) {
				if math.Abs(v-want[i]) > limit {
					t.Errorf("%s, %s: value %d is %v, want %v", name, how, i, v, want[i])
					break
				}
			}
			got.Close()
			if err := d.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The graph for the usual kind of pixels has no needless operation, since each costs time for
// every record.
func TestDecodeGraphOfPlain(t *testing.T) {
	ops := func(p Preprocessing, dtype savedmodel.DataType) (list []string) {
		g := decodeGraph(p, dtype, false)
		at := slices.IndexFunc(g.Node, func(n *tfpb.NodeDef) bool { return n.Name == "pixels1" })
		for n := g.Node[at]; ; {
			list = append(list, n.Op)
			if len(n.Input) == 0 {
				slices.Reverse(list)
				return list
			}
			n = g.Node[slices.IndexFunc(g.Node, func(from *tfpb.NodeDef) bool { return from.Name == n.Input[0] })]
		}
	}
	for name, test := range map[string]struct {
		in    Input
		dtype savedmodel.DataType
		want  []string // between DecodeImage and the end
	}{
		"scaled":         {Input{Scale: new(same(1)), Offset: new(same(-1))}, savedmodel.Float32, []string{"ExpandDims", "ResizeBilinear", "AddV2"}},
		"both":           {Input{}, savedmodel.Float32, []string{"ExpandDims", "ResizeBilinear", "Mul", "AddV2"}},
		"bytes":          {Input{}, savedmodel.UInt8, []string{"ExpandDims", "ResizeBilinear", "Cast"}},
		"bytes, nearest": {Input{Resize: "nearest"}, savedmodel.UInt8, []string{"ExpandDims", "ResizeNearestNeighbor"}},
	} {
		in := test.in
		in.Size, in.Resize = [2]int{2, 2}, cmp.Or(in.Resize, "bilinear")
		p, _ := in.preprocessing(evidence{dtype: test.dtype})
		want := slices.Concat([]string{"Placeholder", "DecodeImage"}, test.want, []string{"Identity"})
		if got := ops(p, test.dtype); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
