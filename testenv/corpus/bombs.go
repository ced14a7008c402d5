package corpus

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// bombs adds small values that would become large pictures or cost much work.
func (c *cases) bombs() {
	c.bombsJPEG()
	c.bombsPNG()
	c.bombsGIF()
	for _, d := range [][2]int32{
		{1 << 30, 1 << 30}, {1<<31 - 1, 1<<31 - 1}, {1<<31 - 1, -1 << 31}, {65536, 65536},
		{-1 << 31, -1 << 31}, {46341, 46341}, {65536, -65536}, {1 << 28, 16},
	} {
		v := append(bmpHeader(d[0], d[1], 24, 1000), make([]byte, 1000)...)
		c.add(fmt.Sprintf("bomb bmp/%d×%d", d[0], d[1]), v, either(broken, bomb)...)
	}
	c.bombsWebP()
}

func (c *cases) bombsJPEG() {
	j := jpegImage()
	sof := bytes.Index(j, []byte("\xff\xc0"))
	for _, d := range [][2]uint16{{65535, 65535}, {65500, 65500}, {65535, 20000}, {30000, 30000}} {
		v := patched(j, sof+5, byte(d[1]>>8), byte(d[1]), byte(d[0]>>8), byte(d[0]))
		c.add(fmt.Sprintf("bomb jpeg/%d×%d", d[0], d[1]), v, bomb...)
	}
	p := progressive()
	last := bytes.LastIndex(p, []byte("\xff\xda"))
	scans := slices.Concat(p[:len(p)-2], bytes.Repeat(p[last:len(p)-2], 1000), p[len(p)-2:])
	c.add("bomb jpeg/1000 scans", scans, "too-complex")
	psof := bytes.Index(scans, []byte("\xff\xc2"))
	c.add("bomb jpeg/1000 scans of 8000×8000", patched(scans, psof+5, 0x1f, 0x40, 0x1f, 0x40), bomb...)
}

func (c *cases) bombsPNG() {
	few := deflated([]byte("x"))
	for _, d := range [][2]uint32{
		{60000, 60000}, {1 << 30, 1}, {1, 1 << 30}, {1<<31 - 1, 1<<31 - 1}, {1000000, 1000000}, {40000, 40000}, {65536, 65536}, {46341, 46341},
	} {
		for _, colour := range []byte{0, 2, 6} {
			c.add(fmt.Sprintf("bomb png/%d×%d, colour %d", d[0], d[1], colour), pngOf(d[0], d[1], 8, colour, few), bomb...)
		}
	}
	c.add("bomb png/really 40000×40000", pngOf(40000, 40000, 1, 0, deflatedRun(0, 5001*200, 200)), bomb...)
	text := deflatedRun('a', 100_000, 79)
	c.add("bomb png/1000 texts", pngOf(1, 1, 8, 0, deflated([]byte{0, 0}), bytes.Repeat(chunk("zTXt", append([]byte("k\x00\x00"), text...)), 1000)), "too-complex")
	c.add("bomb png/100 long texts", pngOf(1, 1, 8, 0, deflated([]byte{0, 0}), bytes.Repeat(chunk("iTXt", append([]byte("k\x00\x01\x00\x00\x00"), text...)), 100)), "too-complex")

	for _, kind := range []string{"tEXt", "zTXt", "iTXt", "sPLT", "pCAL", "sCAL", "eXIf", "iCCP", "abCd"} {
		long := append(binary.BigEndian.AppendUint32(nil, 0x7ffffff0), kind+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
		whole := pngOf(1, 1, 8, 0, deflated([]byte{0, 0}))
		end := len(whole) - len(chunk("IEND", nil))
		c.add("bomb png/"+kind+" of 2 GiB", slices.Concat(whole[:33], long), broken...)
		c.add("bomb png/"+kind+" of 2 GiB behind the data", slices.Concat(whole[:end], long, whole[end:]), broken...)
	}
}

func (c *cases) bombsGIF() {
	frames := func(n int, w, h uint16) []byte { return gifOf(w, h, strings.Repeat(gifFrame(w, h), n)) }
	c.add("bomb gif/65535×65535", frames(1, 65535, 65535), bomb...)
	c.add("bomb gif/400 frames of 4000×4000", frames(400, 4000, 4000), bomb...)
	c.add("bomb gif/5000 frames of 1000×1000", frames(5000, 1000, 1000), bomb...)
	c.add("bomb gif/100000 frames of a pixel", frames(100_000, 1, 1), bomb...)
	c.add("bomb gif/wide and high", gifOf(1, 1, gifFrame(65535, 1), gifFrame(1, 65535)), bomb...)
	c.add("bomb gif/second frame", gifOf(1, 1, gifFrame(1, 1), gifFrame(65535, 65535)), bomb...)
	// An extension does not end with its first block if that is empty. So what looks like a small
	// frame and the end of the file is a block of 44 bytes, 0x2c.
	inside := gifFrame(1, 1) + ";" + strings.Repeat("\x00", 29)
	c.add("bomb gif/hidden frames", gifOf(1, 1, "\x21\xfe\x00"+inside+"\x00", strings.Repeat(gifFrame(65535, 65535), 4)), bomb...)
	c.add("bomb gif/1000000 extension blocks", gifOf(1, 1, "\x21\xfe"+strings.Repeat("\x01x", 1_000_000)+"\x00", gifFrame(1, 1)), "too-complex")
}

func (c *cases) bombsWebP() {
	for _, d := range [][2]int{{1 << 24, 1 << 24}, {1 << 24, 1 << 7}, {100000, 100000}} {
		for name, flags := range ordered(map[string]byte{"": 0, ", alpha": 0x10, ", animated": 0x02}) {
			x := binary.LittleEndian.AppendUint32([]byte{flags, 0, 0, 0}, uint32(d[0]-1))[:7]
			x = binary.LittleEndian.AppendUint32(x, uint32(d[1]-1))[:10]
			v := riff(riffChunk("VP8X", x), riffChunk("VP8 ", webpLossy()[20:]))
			c.add(fmt.Sprintf("bomb webp/%d×%d%s", d[0], d[1], name), v, either(bomb, []string{"undecodable"})...)
		}
	}
	l := webpLossless()
	c.add("bomb webp/lossless 16384×16384", patched(l, 21, 0xff, 0xff, 0xff, l[24]|0x0f), either(bomb, broken)...)
	c.add("bomb webp/lossy 16383×16383", patched(webpLossy(), 26, 0xff, 0x3f, 0xff, 0x3f), either(bomb, broken)...)
}

// deflatedRun returns n×times equal bytes, deflated. It deflates n of them and repeats the block.
func deflatedRun(b byte, n, times int) []byte {
	block := encoded(func(out *bytes.Buffer) error {
		z := zlib.NewWriter(out)
		if _, err := z.Write(fill(n, b)); err != nil {
			return err
		}
		return z.Flush()
	})
	const header, mod = 2, 65521
	run := slices.Concat(block[:header], bytes.Repeat(block[header:], times), []byte{3, 0}) // an empty last block
	total, v := uint64(n)*uint64(times), uint64(b)
	sum1, sum2 := (1+total*v)%mod, (total+total*(total+1)/2%mod*v)%mod
	return binary.BigEndian.AppendUint32(run, uint32(sum2<<16|sum1))
}

func deflated(b []byte) []byte {
	return encoded(func(out *bytes.Buffer) error {
		z := zlib.NewWriter(out)
		if _, err := z.Write(b); err != nil {
			return err
		}
		return z.Close()
	})
}

// polyglots adds values that begin like one kind of file and are another, or both.
func (c *cases) polyglots() {
	js := "=1;alert(1);/*" + strings.Repeat("x", 200) + "*/"
	zip := "PK\x03\x04\x14\x00\x00\x00\x08\x00" + strings.Repeat("\x00", 40) + "PK\x05\x06" + strings.Repeat("\x00", 18)
	pdf := "%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
	html := "<html><script>alert(1)</script></html>"
	svg := `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 60)
	for name, rest := range ordered(map[string]string{"script": js, "zip": zip, "pdf": pdf, "html": html, "svg": svg, "elf": elf}) {
		for kind, signature := range ordered(map[string]string{
			"jpeg": "\xff\xd8\xff", "png": pngSignature, "gif": "GIF89a", "webp": "RIFF\x00\x01\x00\x00WEBP",
		}) {
			c.add("polyglot/"+name+" behind "+kind+" signature", []byte(signature+rest), either(broken, bomb)...)
		}
		c.add("polyglot/"+name+" behind BM", []byte("BM"+rest), either(noText, broken)...)
		c.add("polyglot/jpeg signature behind "+name, []byte(rest+"\xff\xd8\xff\xe0"), either(noText, []string{"unsupported-format"})...)
		c.either("polyglot/"+name+" behind a whole jpeg", append(jpegImage(), rest...), broken...)
		c.either("polyglot/"+name+" behind a whole png", append(pngImage(), rest...), broken...)
		c.either("polyglot/"+name+" behind a whole gif", append(gifImage(1), rest...), broken...)
	}
	for name, b := range ordered(map[string]string{
		"JPEG XL": "\xff\x0a\xfa\x1f\x41\x91", "JPEG XL in a box": "\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a",
		"JPEG 2000": "\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a", "JPEG 2000 codestream": "\xff\x4f\xff\x51",
		"TIFF": "II*\x00\x08\x00\x00\x00", "TIFF, big-endian": "MM\x00*\x00\x00\x00\x08", "CR2": "II*\x00\x10\x00\x00\x00CR\x02\x00",
		"ICO":  "\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x20\x00\x68\x04\x00\x00\x16\x00\x00\x00",
		"HEIC": "\x00\x00\x00\x18ftypheic", "AVIF": "\x00\x00\x00\x1cftypavif", "PSD": "8BPS\x00\x01", "SVG": svg, "PDF": pdf,
	}) {
		c.add("unsupported/"+name, append([]byte(b), make([]byte, 100)...), "unsupported-format")
		c.add("unsupported/"+name+" in an envelope", inEnvelope([]byte(b)), "unsupported-format")
	}
	for name, b := range ordered(map[string]string{
		"MP4": "\x00\x00\x00\x20ftypisom", "gzip": "\x1f\x8b\x08\x00", "zip": zip, "ELF": elf, "WAV": "RIFF\x24\x00\x00\x00WAVEfmt ", "pickle": "\x80\x04\x95",
	}) {
		c.add("other kind/"+name, append([]byte(b), make([]byte, 100)...), "unknown-format")
		c.add("other kind/"+name+" in an envelope", inEnvelope([]byte(b)), "not-an-image")
	}
	c.add("other kind/HTML", []byte(html), noText...)
}
