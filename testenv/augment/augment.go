// Package augment makes many pictures of few photos, the same ones every time: crops, turns,
// other light, blur, noise and compression. Tests compare two ways of computing on them.
package augment

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // some photos are PNGs
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"
)

// A Photo is an original, in full size.
type Photo struct {
	Name  string // of its file
	Image image.Image
}

// Read returns the photos in these files.
func Read(files []string) ([]Photo, error) {
	photos := make([]Photo, 0, len(files))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m, _, err := image.Decode(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		photos = append(photos, Photo{filepath.Base(file), m})
	}
	return photos, nil
}

// A Way is one augmentation.
type Way struct {
	Name string
	make func(source image.Image, side int) *image.RGBA
}

// Ways are all augmentations. The first one only resizes.
var Ways = []Way{
	{"whole", whole},
	{"mirrored", func(m image.Image, side int) *image.RGBA { return mirror(whole(m, side)) }},
	{"middle, 70 %", cropped(0.15, 0.15, 0.7)},
	{"top left, 60 %", cropped(0, 0, 0.6)},
	{"bottom right, 60 %", cropped(0.4, 0.4, 0.6)},
	{"top right, 40 %", cropped(0.6, 0, 0.4)},
	{"turned by 15°", turned(15)},
	{"turned by -10°", turned(-10)},
	{"turned by 90°", turned(90)},
	{"darker", lit(func(v float64) float64 { return 0.5 * v })},
	{"brighter", lit(func(v float64) float64 { return 1.5 * v })},
	{"half the contrast", lit(func(v float64) float64 { return 0.5 + 0.5*(v-0.5) })},
	{"double contrast", lit(func(v float64) float64 { return 0.5 + 2*(v-0.5) })},
	{"gamma 2", lit(func(v float64) float64 { return v * v })},
	{"warmer", coloured(1.2, 1, 0.7)},
	{"colder", coloured(0.7, 0.95, 1.25)},
	{"gray", gray},
	{"blurred", blurred(1)},
	{"blurred much", blurred(4)},
	{"from 64 × 64 pixels", func(m image.Image, side int) *image.RGBA { return whole(whole(m, 64), side) }},
	{"noise", noisy},
	{"JPEG quality 30", compressed(30)},
	{"JPEG quality 8", compressed(8)},
}

// Picture returns the photo, changed in this way, as side × side pixels.
func (w Way) Picture(photo Photo, side int) *image.RGBA { return w.make(photo.Image, side) }

// Append appends the pixels of a picture as red, green and blue, each times scale plus offset.
func Append(to []float32, m *image.RGBA, scale, offset float32) []float32 {
	to = slices.Grow(to, len(m.Pix)/4*3)
	for i := 0; i < len(m.Pix); i += 4 {
		for _, v := range m.Pix[i : i+3] {
			to = append(to, float32(v)*scale+offset)
		}
	}
	return to
}

func whole(m image.Image, side int) *image.RGBA { return scaled(m, m.Bounds(), side) }

func scaled(m image.Image, part image.Rectangle, side int) *image.RGBA {
	to := image.NewRGBA(image.Rect(0, 0, side, side))
	draw.ApproxBiLinear.Scale(to, to.Bounds(), m, part, draw.Src, nil)
	return to
}

// cropped keeps a part of the photo, of which left, top and size are shares of the photo's sides.
func cropped(left, top, size float64) func(image.Image, int) *image.RGBA {
	return func(m image.Image, side int) *image.RGBA {
		b := m.Bounds()
		w, h := float64(b.Dx()), float64(b.Dy())
		at := b.Min.Add(image.Pt(int(left*w), int(top*h)))
		return scaled(m, image.Rectangle{at, at.Add(image.Pt(int(size*w), int(size*h)))}.Intersect(b), side)
	}
}

func mirror(m *image.RGBA) *image.RGBA {
	b := m.Bounds()
	to := image.NewRGBA(b)
	for y := range b.Dy() {
		for x := range b.Dx() {
			to.SetRGBA(x, y, m.RGBAAt(b.Dx()-1-x, y))
		}
	}
	return to
}

// turned turns the picture around its middle. The corners that this leaves empty are gray.
func turned(degrees float64) func(image.Image, int) *image.RGBA {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	return func(m image.Image, side int) *image.RGBA {
		from, half := whole(m, side), float64(side)/2
		to := image.NewRGBA(from.Bounds())
		draw.Draw(to, to.Bounds(), image.NewUniform(color.Gray{128}), image.Point{}, draw.Src)
		draw.ApproxBiLinear.Transform(to, f64.Aff3{
			cos, -sin, half - cos*half + sin*half,
			sin, cos, half - sin*half - cos*half,
		}, from, from.Bounds(), draw.Over, nil)
		return to
	}
}

// lit applies curve, which maps 0 to 1, to all channels.
func lit(curve func(float64) float64) func(image.Image, int) *image.RGBA {
	var table [256]uint8
	for v := range table {
		table[v] = level(255 * curve(float64(v)/255))
	}
	return func(m image.Image, side int) *image.RGBA {
		to := whole(m, side)
		for i, v := range to.Pix {
			if i%4 < 3 {
				to.Pix[i] = table[v]
			}
		}
		return to
	}
}

func coloured(factors ...float64) func(image.Image, int) *image.RGBA {
	return func(m image.Image, side int) *image.RGBA {
		to := whole(m, side)
		for i, v := range to.Pix {
			if i%4 < 3 {
				to.Pix[i] = level(float64(v) * factors[i%4])
			}
		}
		return to
	}
}

func gray(m image.Image, side int) *image.RGBA {
	to := whole(m, side)
	for i := 0; i < len(to.Pix); i += 4 {
		p := to.Pix[i : i+3]
		v := level(0.299*float64(p[0]) + 0.587*float64(p[1]) + 0.114*float64(p[2]))
		p[0], p[1], p[2] = v, v, v
	}
	return to
}

// blurred replaces each pixel by the mean of those that are at most radius away, twice.
func blurred(radius int) func(image.Image, int) *image.RGBA {
	return func(m image.Image, side int) *image.RGBA {
		to := whole(m, side)
		for range 2 {
			for i := range side { // rows, columns
				average(to.Pix[i*to.Stride:], 4, side, radius)
				average(to.Pix[4*i:], to.Stride, side, radius)
			}
		}
		return to
	}
}

// average blurs a line of n pixels, which are stride bytes apart.
func average(pix []uint8, stride, n, radius int) {
	line := make([]int, n)
	for channel := range 3 {
		for i := range line {
			line[i] = int(pix[i*stride+channel])
		}
		for i := range line {
			sum, from, to := 0, max(0, i-radius), min(n, i+radius+1)
			for _, v := range line[from:to] {
				sum += v
			}
			pix[i*stride+channel] = uint8(sum / (to - from))
		}
	}
}

func noisy(m image.Image, side int) *image.RGBA {
	to := whole(m, side)
	random := rand.New(rand.NewPCG(1, 2))
	for i, v := range to.Pix {
		if i%4 < 3 {
			to.Pix[i] = level(float64(v) + 16*random.NormFloat64())
		}
	}
	return to
}

func compressed(quality int) func(image.Image, int) *image.RGBA {
	return func(m image.Image, side int) *image.RGBA {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, whole(m, side), &jpeg.Options{Quality: quality}); err != nil {
			panic(err) // a buffer takes all
		}
		decoded, err := jpeg.Decode(&b)
		if err != nil {
			panic(err)
		}
		return whole(decoded, side)
	}
}

func level(v float64) uint8 { return uint8(min(max(math.Round(v), 0), 255)) }
