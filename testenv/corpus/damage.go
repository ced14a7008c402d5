package corpus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// truncated adds each kind of image, cut at every kind of place. TensorFlow 2.21 refuses all of
// them, a JPEG even if only half its end marker is missing, except a GIF: it keeps the whole frames
// of that.
func (c *cases) truncated() {
	cut := func(kind string, whole []byte, n int, reasons []string, either bool) {
		c.list = append(c.list, Case{
			Name: fmt.Sprintf("truncated %s/%d of %d", kind, n, len(whole)), Value: slices.Clone(whole[:n]),
			Reasons: reasons, Either: either,
		})
	}
	for kind, whole := range ordered(map[string][]byte{"jpeg": jpegImage(), "jpeg-progressive": progressive()}) {
		scan := bytes.Index(whole, []byte("\xff\xda"))
		end := scan + 2 + int(binary.BigEndian.Uint16(whole[scan+2:]))
		for i := 1; i <= 26; i++ {
			n := 3 + (end-4)*i/27
			cut(kind, whole, n, broken, false)
		}
		for i := range 12 {
			cut(kind, whole, end+(len(whole)-1-end)*i/11, broken, false)
		}
		cut(kind, whole, 2, []string{"unknown-format"}, false)
		cut(kind, whole, 1, []string{"unknown-format"}, false)
	}
	for kind, whole := range ordered(map[string][]byte{"png": pngImage(), "png-palette": pngPalette()}) {
		for i := range 24 {
			cut(kind, whole, 8+(len(whole)-1-8)*i/23, broken, false)
		}
		cut(kind, whole, 7, []string{"unknown-format"}, false)
	}
	for kind, whole := range ordered(map[string][]byte{"gif": gifImage(1), "gif-frames": gifImage(3)}) {
		first := bytes.IndexByte(whole[13:], 0x2c) + 13
		for i := range 24 {
			n := 6 + (len(whole)-1-6)*i/23
			cut(kind, whole, n, broken, n == len(whole)-1 || n > first+100 && kind == "gif-frames")
		}
		cut(kind, whole, 5, noText, false)
	}
	for kind, whole := range ordered(map[string][]byte{"bmp": bmpImage(24), "bmp-alpha": bmpImage(32)}) {
		for _, n := range []int{18, 22, 26, 28, 30, 31, 32, 40, 53, 54, 55, 56, len(whole) / 2, len(whole) - 4, len(whole) - 1} {
			cut(kind, whole, n, broken, false)
		}
		cut(kind, whole, 2, append(noText, "bad-header"), false)
	}
	for kind, whole := range ordered(map[string][]byte{"webp": webpLossy(), "webp-lossless": webpLossless(), "webp-alpha": webpAlpha()}) {
		for i := range 16 {
			cut(kind, whole, 12+(len(whole)-1-12)*i/15, broken, false)
		}
		cut(kind, whole, 11, []string{"unknown-format"}, false)
	}
}

// patched returns an image with some bytes overwritten.
func patched(b []byte, at int, with ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], with)
	return b
}

// replaced returns an image with the first occurrence of old replaced.
func replaced(b []byte, old, with string) []byte {
	if !bytes.Contains(b, []byte(old)) {
		panic(fmt.Sprintf("corpus: %q is not in the image", old))
	}
	return bytes.Replace(b, []byte(old), []byte(with), 1)
}

// damaged adds images with wrong lengths, wrong fields and flipped bits.
func (c *cases) damaged() {
	c.damagedJPEG()
	c.damagedPNG()
	c.damagedGIF()
	c.damagedBMP()
	c.damagedWebP()
	for kind, whole := range ordered(map[string][]byte{
		"jpeg": jpegImage(), "png": pngImage(), "gif": gifImage(3), "webp": webpLossy(), "webp-lossless": webpLossless(),
	}) {
		for i := range 12 {
			v := slices.Clone(whole)
			for range 1 + c.rand.IntN(8) {
				at := 12 + c.rand.IntN(len(v)-12)
				v[at] ^= 1 << c.rand.IntN(8)
			}
			c.either(fmt.Sprintf("flipped %s/%d", kind, i), v, either(broken, bomb)...)
		}
	}
}

func (c *cases) damagedJPEG() {
	j := jpegImage()
	sof := bytes.Index(j, []byte("\xff\xc0"))
	sos := bytes.Index(j, []byte("\xff\xda"))
	dht := bytes.Index(j, []byte("\xff\xc4"))
	dqt := bytes.Index(j, []byte("\xff\xdb"))
	c.add("damaged jpeg/height 0", patched(j, sof+5, 0, 0), broken...)
	c.add("damaged jpeg/width 0", patched(j, sof+7, 0, 0), broken...)
	c.add("damaged jpeg/precision 12", patched(j, sof+4, 12), broken...)
	c.add("damaged jpeg/components 0", patched(j, sof+9, 0), broken...)
	c.add("damaged jpeg/components 255", patched(j, sof+9, 255), broken...)
	c.add("damaged jpeg/sampling 0", patched(j, sof+11, 0), broken...)
	c.add("damaged jpeg/sampling 15", patched(j, sof+11, 0xff), broken...)
	c.add("damaged jpeg/quantization table 9", patched(j, sof+12, 9), broken...)
	for _, n := range []byte{0xc3, 0xc5, 0xc7, 0xcb, 0xcf} {
		c.add(fmt.Sprintf("damaged jpeg/frame of kind %#x", n), patched(j, sof+1, n), broken...)
	}
	c.add("damaged jpeg/two frame headers", slices.Concat(j[:sos], j[sof:]), broken...)
	c.add("damaged jpeg/no frame header", slices.Concat(j[:sof], j[sof+2+int(binary.BigEndian.Uint16(j[sof+2:])):]), broken...)
	c.add("damaged jpeg/no tables", slices.Concat(j[:2], j[sof:dht], j[sos:]), broken...)
	c.add("damaged jpeg/two starts", slices.Concat(j[:2], j), broken...)
	c.add("damaged jpeg/end at once", []byte("\xff\xd8\xff\xd9"), broken...)
	c.add("damaged jpeg/scan at once", slices.Concat(j[:2], j[sos:]), broken...)
	c.add("damaged jpeg/Huffman counts", patched(j, dht+5, fill(16, 255)...), broken...)
	for name, at := range ordered(map[string]int{"quantization": dqt, "Huffman": dht, "frame": sof, "scan": sos}) {
		for _, n := range []uint16{0, 1, 2, 3, 0xffff} {
			v := patched(j, at+2, byte(n>>8), byte(n))
			if name != "frame" { // the decoder may use the standard's tables then
				c.either(fmt.Sprintf("damaged jpeg/%s segment of %d", name, n), v, broken...)
			} else {
				c.add(fmt.Sprintf("damaged jpeg/%s segment of %d", name, n), v, either(broken, bomb)...)
			}
		}
	}
}

func (c *cases) damagedPNG() {
	p := pngImage()
	c.add("damaged png/width 0", pngOf(0, 1, 8, 2, []byte{}), broken...)
	c.add("damaged png/height 0", pngOf(1, 0, 8, 2, []byte{}), broken...)
	c.add("damaged png/width negative", pngOf(1<<31, 1, 8, 2, []byte{}), broken...)
	c.add("damaged png/bits 3", pngOf(1, 1, 3, 2, []byte{}), broken...)
	c.add("damaged png/colour 7", pngOf(1, 1, 8, 7, []byte{}), broken...)
	c.add("damaged png/no data", pngOf(8, 8, 8, 2, nil), broken...)
	c.add("damaged png/data not deflated", pngOf(8, 8, 8, 2, fill(100, 'x')), broken...)
	c.add("damaged png/palette missing", pngOf(8, 8, 8, 3, []byte("\x78\x9c\x63\x00\x00\x00\x01\x00\x01")), broken...)
	c.add("damaged png/header's checksum", patched(p, 29, 1, 2, 3, 4), broken...)
	c.add("damaged png/header of 12 bytes", patched(p, 8, 0, 0, 0, 12), broken...)
	c.add("damaged png/header of 4 GiB", patched(p, 8, 255, 255, 255, 255), broken...)
	c.add("damaged png/first chunk another", replaced(p, "IHDR", "IDAT"), broken...)
	c.add("damaged png/data chunk of 4 GiB", patched(p, 33, 255, 255, 255, 255), broken...)
	c.add("damaged png/data chunk too short", patched(p, 33, 0, 0, 0, 1), broken...)
	c.add("damaged png/critical chunk unknown", replaced(p, "IDAT", "IDAX"), broken...)
	c.add("damaged png/line ends translated", replaced(p, "\r\n", "\n"), "unknown-format")
}

func (c *cases) damagedGIF() {
	g := gifImage(1)
	c.add("damaged gif/no frame", gifOf(10, 10), broken...)
	c.add("damaged gif/frame of 0×0", gifOf(10, 10, gifFrame(0, 0)), broken...)
	c.add("damaged gif/too few pixels", gifOf(10, 10, gifFrame(10, 10)), broken...)
	c.add("damaged gif/unknown block", gifOf(10, 10, "\x99"), broken...)
	c.add("damaged gif/extension without end", gifOf(10, 10, "\x21\xf9\xff"), broken...)
	c.add("damaged gif/no colours", []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00"+gifFrame(1, 1)+";"), broken...)
	c.add("damaged gif/code size 13", bytes.Replace(gifOf(1, 1, gifFrame(1, 1)), []byte("\x02\x02\x44"), []byte("\x0d\x02\x44"), 1), broken...)
	c.either("damaged gif/version 88", replaced(g, "89a", "88a")) // the decoder ignores the version
}

func (c *cases) damagedBMP() {
	m := bmpImage(24)
	for name, v := range ordered(map[string][]byte{
		"width 0": patched(m, 18, 0, 0, 0, 0), "width negative": patched(m, 18, 0xff, 0xff, 0xff, 0xff),
		"height 0": patched(m, 22, 0, 0, 0, 0), "width one more": patched(m, 18, width+2),
		"16 bits": patched(m, 28, 16), "1 bit": patched(m, 28, 1), "0 bits": patched(m, 28, 0), "65535 bits": patched(m, 28, 255, 255),
		"data at 0": patched(m, 10, 0, 0, 0, 0), "data past the end": patched(m, 10, 0xff, 0xff, 0xff, 0x7f),
		"data before the start": patched(m, 10, 0, 0, 0, 0x80),
		"trailing bytes":        append(slices.Clone(m), 1, 2, 3),
	}) {
		c.add("damaged bmp/"+name, v, broken...)
	}
	c.either("damaged bmp/length of a core header", patched(m, 14, 12)) // the decoder ignores it
	core := append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x1a\x00\x00\x00\x0c\x00\x00\x00\x18\x00\x10\x00\x01\x00\x18\x00"), m[54:]...)
	c.add("damaged bmp/core header", core, "bad-header")
}

func (c *cases) damagedWebP() {
	w := webpLossy()
	c.add("damaged webp/start code", replaced(w, "\x9d\x01\x2a", "\x9d\x01\x2b"), broken...)
	c.add("damaged webp/not a key frame", patched(w, 20, w[20]|1), broken...)
	c.add("damaged webp/chunk unknown", replaced(w, "VP8 ", "VP9 "), broken...)
	c.add("damaged webp/chunk of 4 GiB", patched(w, 16, 255, 255, 255, 255), broken...)
	c.add("damaged webp/chunk of 0", patched(w, 16, 0, 0, 0, 0), broken...)
	c.add("damaged webp/container of 4 GiB", patched(w, 4, 255, 255, 255, 255), broken...)
	c.add("damaged webp/container of 0", patched(w, 4, 0, 0, 0, 0), broken...)
	c.add("damaged webp/lossless signature", patched(webpLossless(), 20, 0x2e), broken...)
	c.add("damaged webp/canvas of another size", patched(webpAlpha(), 24, 99), broken...)
	// Models that take encoded images refuse these two. TensorFlow wants alpha in four channels.
	c.either("damaged webp/animated", webpAnimated(), "animated-webp")
	c.either("damaged webp/alpha", webpAlpha(), "model-refused")
}
