package infer

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"sync"
)

// A sampleImage is a made-up picture, to try a model of encoded images with.
type sampleImage struct {
	format string
	bytes  []byte
}

// Samples have the size of small photos, since a model may crop them.
const sampleWidth, sampleHeight = 640, 480

// usualSamples returns the same picture in the formats that nearly all models take.
var usualSamples = sync.OnceValue(func() []sampleImage { return samplesIn("jpeg", "png") })

// rareSamples returns the same picture in other formats.
var rareSamples = sync.OnceValue(func() []sampleImage { return samplesIn("gif", "bmp") })

// sampleFor returns a sample of at most maxPixels.
func sampleFor(maxPixels int64) []byte {
	if maxPixels < sampleWidth*sampleHeight {
		return blackPixel
	}
	return usualSamples()[0].bytes
}

func samplesIn(formats ...string) (list []sampleImage) {
	for _, f := range formats {
		list = append(list, sampleImage{f, drawing{sampleWidth, sampleHeight, texture(sampleWidth, sampleHeight)}.encode(f)})
	}
	return list
}

// texture returns a function that draws gradients and some noise, always the same. No part is
// of one colour, for which a model that divides by the deviation would give NaN. Channels are
// from 16 to 189.
func texture(width, height int) func(x, y, channel int) byte {
	return func(x, y, channel int) byte {
		across, down := 72*x/width, 72*y/height
		noise := (uint32(x)*73856093 ^ uint32(y)*19349663 ^ uint32(channel)*83492791) * 2654435761 >> 27 // it wraps
		return byte(16 + across + down*(channel+1)/3 + int(noise))
	}
}

// A drawing is an opaque image. Its function channel returns a channel of a pixel; 0 is red.
type drawing struct {
	width, height int
	channel       func(x, y, channel int) byte
}

// ColorModel implements image.Image.
func (d drawing) ColorModel() color.Model { return color.RGBAModel }

// Bounds implements image.Image.
func (d drawing) Bounds() image.Rectangle { return image.Rect(0, 0, d.width, d.height) }

// At implements image.Image.
func (d drawing) At(x, y int) color.Color {
	return color.RGBA{d.channel(x, y, 0), d.channel(x, y, 1), d.channel(x, y, 2), 255}
}

// Opaque makes a PNG without alpha.
func (d drawing) Opaque() bool { return true }

// encode returns the drawing as a file: jpeg, png, gif or bmp.
func (d drawing) encode(format string) []byte {
	var (
		b   bytes.Buffer
		err error
	)
	switch format {
	case "jpeg":
		err = jpeg.Encode(&b, d, nil)
	case "png":
		err = png.Encode(&b, d)
	case "gif":
		err = gif.Encode(&b, d, nil)
	default:
		return d.bitmap()
	}
	if err != nil { // a write to memory cannot fail
		panic(err)
	}
	return b.Bytes()
}

// bitmap returns the drawing as a BMP of 24 bits a pixel.
func (d drawing) bitmap() []byte {
	row := (3*d.width + 3) / 4 * 4 // whole 32-bit words
	b := append(bytes.Clone(blackPixel[:54]), make([]byte, row*d.height)...)
	binary.LittleEndian.PutUint32(b[2:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[18:], uint32(d.width))
	binary.LittleEndian.PutUint32(b[22:], uint32(d.height))
	binary.LittleEndian.PutUint32(b[34:], uint32(row*d.height))
	for y := range d.height {
		for x := range d.width {
			for channel := range 3 { // from the bottom up, blue first
				b[54+y*row+3*x+channel] = d.channel(x, d.height-1-y, 2-channel)
			}
		}
	}
	return b
}

// blackPixel is a 1×1 image as small as they get, a 24-bit BMP.
var blackPixel = []byte("BM\x3a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00" +
	"\x28\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\x04\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00")
