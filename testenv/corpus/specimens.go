package corpus

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
)

// specimens are images of all formats, small, with all kinds of blocks.
func specimens() []specimen {
	exif := "Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
	segments := slices.Concat(
		segment(0xe1, exif), segment(0xe2, "ICC_PROFILE\x00\x01\x01"+strings.Repeat("x", 20)), segment(0xee, "Adobe\x00\x64\x00\x00\x00\x00\x01"),
		segment(0xfe, "a comment"), segment(0xdd, "\x00\x00"),
	)
	j := jpegImage()
	texts := [][]byte{
		chunk("gAMA", []byte{0, 0, 0xb1, 0x8f}), chunk("cHRM", make([]byte, 32)), chunk("sBIT", []byte{8, 8, 8}), chunk("iCCP", append([]byte("k\x00\x00"), deflated(make([]byte, 200))...)),
		chunk("bKGD", make([]byte, 6)), chunk("pHYs", []byte{0, 0, 0, 1, 0, 0, 0, 1, 0}), chunk("oFFs", make([]byte, 9)), chunk("sPLT", append([]byte("k\x00\x08"), make([]byte, 12)...)),
		chunk("pCAL", []byte("k\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x02u\x000\x001")), chunk("sCAL", []byte("\x011\x001")), chunk("tIME", []byte{7, 0xe0, 1, 1, 1, 1, 1}),
		chunk("tEXt", []byte("k\x00text")), chunk("zTXt", append([]byte("k\x00\x00"), deflated([]byte("text"))...)), chunk("iTXt", append([]byte("k\x00\x01\x00\x00\x00"), deflated([]byte("text"))...)),
		chunk("eXIf", []byte(exif[6:])), chunk("abCd", []byte("private")),
	}
	rows := func(bits int) []byte { return deflated(make([]byte, (1+(width*bits+7)/8)*height)) }
	palette := [][]byte{chunk("PLTE", make([]byte, 12)), chunk("hIST", make([]byte, 8)), chunk("tRNS", []byte{0, 128, 255})}
	interlaced := pngOf(width, height, 8, 2, deflated(make([]byte, 2000)))
	interlaced[28] = 1
	mendPNG(interlaced)

	frames := gifImage(3)
	var gif strings.Builder
	gif.WriteString("\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00\x21\xfe\x09a comment\x00\x21\xf9\x04\x05\x0a\x00\x01\x00")
	gif.WriteString("\x2c\x00\x00\x00\x00\x02\x00\x02\x00\xc1\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\xff\x00\x02\x02\x84\x51\x00") // interlaced, with colours of its own
	gif.WriteString("\x21\x01\x0c\x00\x00\x00\x00\x01\x00\x01\x00\x01\x01\x00\x01\x02hi\x00" + gifFrame(1, 1))

	still := func(flags byte, chunks ...[]byte) []byte {
		x := []byte{flags, 0, 0, 0, width - 1, 0, 0, height - 1, 0, 0}
		return riff(append([][]byte{riffChunk("VP8X", x)}, chunks...)...)
	}
	lossy := webpLossy()[12:]
	grey := bmpHeader(width, height, 8, 54+1024+width*height)
	binary.LittleEndian.PutUint32(grey[10:], 54+1024)
	grey = append(grey, make([]byte, 1024+width*height)...)
	fromTop := bmpImage(24)
	binary.LittleEndian.PutUint32(fromTop[22:], 1<<32-height)

	return []specimen{
		jpegSpecimen("jpeg", j),
		jpegSpecimen("jpeg with segments", slices.Concat(j[:2], segments, j[2:])),
		jpegSpecimen("jpeg, progressive", progressive()),
		pngSpecimen("png", pngImage()),
		pngSpecimen("png with all chunks", pngOf(width, height, 8, 2, rows(24), texts...)),
		pngSpecimen("png, palette", pngOf(width, height, 2, 3, rows(2), palette...)),
		pngSpecimen("png, 16 bits", pngOf(width, height, 16, 6, rows(64))),
		pngSpecimen("png, interlaced", interlaced),
		gifSpecimen("gif", gifImage(1)),
		gifSpecimen("gif, frames", frames),
		gifSpecimen("gif with all blocks", gifOf(2, 2, gif.String())),
		bmpSpecimen("bmp", bmpImage(24)),
		bmpSpecimen("bmp, 32 bits", bmpImage(32)),
		bmpSpecimen("bmp, 8 bits", grey),
		bmpSpecimen("bmp, from the top", fromTop),
		webpSpecimen("webp", webpLossy()),
		webpSpecimen("webp, lossless", webpLossless()),
		webpSpecimen("webp, extended", still(0x2c, riffChunk("ICCP", make([]byte, 30)), lossy, riffChunk("EXIF", []byte(exif[6:])), riffChunk("XMP ", []byte("<x/>")))),
		webpSpecimen("webp, extended lossless", still(0, webpLossless()[12:])),
		webpSpecimen("webp, alpha", webpAlpha()),
		webpSpecimen("webp, animated", webpAnimated()),
	}
}

func segment(marker byte, data string) []byte {
	n := len(data) + 2
	return append([]byte{0xff, marker, byte(n >> 8), byte(n)}, data...)
}

func jpegSpecimen(name string, whole []byte) specimen {
	b := &builder{specimen{name: name, bytes: whole}}
	b.every(1, "SOI")
	for at := 2; at+4 <= len(whole) && whole[at] == 0xff && whole[at+1] != 0xd9; {
		marker, n, data := whole[at+1], int(binary.BigEndian.Uint16(whole[at+2:])), at+4
		end := at + 2 + n
		b.every(at+1, "marker %#x", marker)
		b.big(at+2, 2, "length of %#x", marker)
		switch marker {
		case 0xc0, 0xc2:
			b.little(data, 1, "precision")
			b.big(data+1, 2, "height")
			b.big(data+3, 2, "width")
			b.little(data+5, 1, "components")
			for c := data + 6; c < end; c += 3 {
				b.bytes(c, c+1, "component")
				b.little(c+1, 1, "sampling")
				b.little(c+2, 1, "quantization")
			}
		case 0xda:
			b.little(data, 1, "scan's components")
			b.bytes(data+1, end, "scan's")
			for end < len(whole)-1 && (whole[end] != 0xff || whole[end+1] == 0) { // to the next marker
				end++
			}
		case 0xc4:
			b.little(data, 1, "table")
			b.bytes(data+1, data+17, "codes")
		case 0xdb:
			b.little(data, 1, "table")
			b.bytes(data+1, data+3, "quantum")
		case 0xdd:
			b.big(data, 2, "restart interval")
		default:
			b.bytes(data, min(end, data+30), "data of %#x", marker)
		}
		b.block("segment", at, end)
		at = end
	}
	return b.s
}

var pngKinds = []string{
	"IHDR", "PLTE", "IDAT", "IEND", "tRNS", "gAMA", "cHRM", "sRGB", "iCCP", "sBIT", "bKGD", "hIST", "pHYs", "sPLT", "tIME", "tEXt", "zTXt", "iTXt",
	"eXIf", "oFFs", "pCAL", "sCAL", "cICP", "acTL", "fdAT", "abCd", "ABCD", "AbCd", "\x00\x00\x00\x00", "a1b2", "IDAt", "iDAT", "CgBI",
}

func pngSpecimen(name string, whole []byte) specimen {
	b := &builder{specimen{name: name, bytes: whole, mend: mendPNG}}
	b.bytes(0, 8, "signature")
	for at := 8; at+12 <= len(whole); {
		n, kind := int(binary.BigEndian.Uint32(whole[at:])), string(whole[at+4:at+8])
		data, end := at+8, at+12+n
		b.big(at, 4, "length of %s", kind)
		b.word(at+4, pngKinds, "kind of %s", kind)
		b.big(end-4, 4, "checksum of %s", kind)
		if kind == "IHDR" {
			b.big(data, 4, "width")
			b.big(data+4, 4, "height")
			for i, what := range []string{"depth", "colour", "compression", "filter", "interlace"} {
				b.little(data+8+i, 1, "%s", what)
			}
		} else {
			b.bytes(data, min(data+12, end-4), "data of %s", kind)
		}
		b.block(kind, at, end)
		at = end
	}
	return b.s
}

// mendPNG makes the checksums right, of the chunks that can be found.
func mendPNG(b []byte) {
	for at := 8; at+12 <= len(b); {
		n := int(binary.BigEndian.Uint32(b[at:]))
		if n > len(b)-at-12 {
			return
		}
		binary.BigEndian.PutUint32(b[at+8+n:], crc32.ChecksumIEEE(b[at+4:at+8+n]))
		at += 12 + n
	}
}

func gifSpecimen(name string, whole []byte) specimen {
	b := &builder{specimen{name: name, bytes: whole}}
	b.word(0, []string{"GIF87a", "GIF89a", "GIF88a", "GIF8\x00\x00", "GIF90a", "gif89a", "GIG89a"}, "signature")
	b.little(6, 2, "screen's width")
	b.little(8, 2, "screen's height")
	b.little(10, 1, "screen's flags")
	b.bytes(11, 13, "screen's")
	at := 13
	colours := func(flags byte) int { return int(flags>>7) * 3 << (flags&7 + 1) }
	data := func() {
		for whole[at] != 0 {
			b.little(at, 1, "data block's length")
			at += 1 + int(whole[at])
		}
		b.little(at, 1, "end of data")
		at++
	}
	for at += colours(whole[10]); whole[at] != 0x3b; {
		start := at
		b.every(at, "block %#x", whole[at])
		if whole[at] == 0x21 {
			b.every(at+1, "extension's kind")
			b.bytes(at+3, at+3+int(whole[at+2]), "extension's")
			at += 2
			data()
			b.block("extension", start, at)
			continue
		}
		for i, what := range []string{"left", "top", "width", "height"} {
			b.little(at+1+2*i, 2, "frame's %s", what)
		}
		b.little(at+9, 1, "frame's flags")
		at += 10 + colours(whole[at+9])
		b.little(at, 1, "code size")
		b.bytes(at+2, at+5, "codes")
		at++
		data()
		b.block("frame", start, at)
	}
	b.little(at, 1, "trailer")
	return b.s
}

func bmpSpecimen(name string, whole []byte) specimen {
	b := &builder{specimen{name: name, bytes: whole}}
	b.word(0, []string{"BM", "BA", "CI", "MB", "bm", "B\x00"}, "signature")
	at := 2
	for _, f := range []struct {
		name string
		size int
	}{
		{"file's size", 4}, {"reserved", 4}, {"offset", 4}, {"header's size", 4}, {"width", 4}, {"height", 4}, {"planes", 2}, {"bits", 2},
		{"compression", 4}, {"data's size", 4}, {"x resolution", 4}, {"y resolution", 4}, {"colours", 4}, {"important colours", 4},
	} {
		b.little(at, f.size, "%s", f.name)
		b.little(at, 1, "%s, low byte", f.name)
		at += f.size
	}
	b.block("header", 0, at)
	b.block("data", at, len(whole))
	return b.s
}

var webpKinds = []string{"VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "ICCP", "EXIF", "XMP ", "abcd", "\x00\x00\x00\x00"}

func webpSpecimen(name string, whole []byte) specimen {
	b := &builder{specimen{name: name, bytes: whole}}
	b.word(0, []string{"RIFF", "RIFX", "riff"}, "container")
	b.little(4, 4, "container's size")
	b.word(8, []string{"WEBP", "WAVE", "webp"}, "signature")
	b.webp(12, len(whole))
	return b.s
}

// webp goes through chunks, and through those that hold others.
func (b *builder) webp(at, end int) {
	whole := b.s.bytes
	for at+8 <= end {
		kind, n, data := string(whole[at:at+4]), int(binary.LittleEndian.Uint32(whole[at+4:])), at+8
		b.word(at, webpKinds, "kind of %s", kind)
		b.little(at+4, 4, "size of %s", kind)
		switch kind {
		case "VP8 ":
			b.little(data, 1, "frame's first byte")
			b.little(data, 3, "frame's tag")
			b.bytes(data+3, data+6, "start code")
			b.little(data+6, 2, "width")
			b.little(data+8, 2, "height")
			b.bytes(data+10, data+14, "data")
		case "VP8L":
			b.little(data, 1, "lossless signature")
			b.little(data+1, 4, "lossless size")
			b.little(data+4, 1, "lossless flags")
			b.bytes(data+5, data+9, "data")
		case "VP8X":
			b.little(data, 1, "flags")
			b.bytes(data+1, data+4, "reserved")
			b.little(data+4, 3, "canvas' width")
			b.little(data+7, 3, "canvas' height")
		case "ANIM":
			b.bytes(data, data+6, "animation's")
		case "ANMF":
			for i, what := range []string{"x", "y", "width", "height", "duration"} {
				b.little(data+3*i, 3, "frame's %s", what)
			}
			b.little(data+15, 1, "frame's flags")
			b.webp(data+16, data+n)
		case "ALPH":
			b.little(data, 1, "alpha's flags")
			b.bytes(data+1, data+5, "alpha's data")
		}
		next := data + n + n%2
		b.block(kind, at, min(next, end))
		at = next
	}
}
