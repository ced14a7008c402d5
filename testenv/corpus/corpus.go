// Package corpus makes bad records, from which no image can be read. Tests show with them that each
// becomes one whole dead letter with a true reason, and that no other record is affected.
//
// Bad needs nothing. Files fills a folder, and Serve starts a server: both return the records that
// name what is there. Everything is made from the seed. No file from outside is used.
package corpus

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// A Case is one record.
type Case struct {
	Name  string
	Value []byte

	// Reasons are words of packages input and model. The dead letter may have any of them.
	Reasons []string

	// Either says that an answer is right as well: some decoders read it.
	Either bool
}

// Bad returns more than 500 cases, which need neither files nor a server.
func Bad(seed uint64) []Case {
	c := &cases{rand: rand.New(rand.NewPCG(seed, 3))}
	c.empty()
	c.truncated()
	c.damaged()
	c.bombs()
	c.polyglots()
	c.envelopes()
	c.texts()
	c.urls()
	c.noise()
	return c.list
}

// Good returns images that can be read and decoded, by name: the control group. Each has 24×16
// pixels.
func Good() map[string][]byte {
	return map[string][]byte{
		"jpeg":             jpegImage(),
		"jpeg-progressive": progressive(),
		"png":              pngImage(),
		"png-palette":      pngPalette(),
		"gif":              gifImage(1),
		"gif-frames":       gifImage(3),
		"bmp":              bmpImage(24),
		"bmp-alpha":        bmpImage(32),
		"webp":             webpLossy(),
		"webp-lossless":    webpLossless(),
	}
}

type cases struct {
	rand *rand.Rand
	list []Case
}

func (c *cases) add(name string, value []byte, reasons ...string) {
	c.list = append(c.list, Case{Name: name, Value: value, Reasons: reasons})
}

// either adds a case that may also be answered.
func (c *cases) either(name string, value []byte, reasons ...string) {
	c.list = append(c.list, Case{Name: name, Value: value, Reasons: reasons, Either: true})
}

// both adds a text as it is and in an envelope; the reasons hold for both.
func (c *cases) both(kind, name, text string, reasons ...string) {
	c.add(kind+"/"+name, []byte(text), reasons...)
	c.add(kind+"-envelope/"+name, object(kind, text), append(reasons, "bad-envelope")...)
}

func object(key, text string) []byte {
	b, err := json.Marshal(map[string]string{key: text})
	if err != nil {
		panic(err) // a map of strings
	}
	return b
}

func inEnvelope(image []byte) []byte {
	return []byte(`{"image":"` + base64.StdEncoding.EncodeToString(image) + `"}`)
}

// Lists of reasons that different layers give. Which one comes depends on how far a reader gets.
var (
	broken  = []string{"bad-header", "undecodable"}
	bomb    = []string{"too-many-pixels", "too-complex"}
	noText  = []string{"unknown-format", "bad-path", "path-not-allowed", "path-not-found", "path-not-file"}
	noPath  = []string{"path-not-allowed", "path-not-found"}
	guarded = []string{"url-not-allowed", "url-address-forbidden"}
)

func either(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func (c *cases) empty() {
	c.add("empty/nothing", []byte{}, "empty")
	for name, v := range ordered(map[string]string{"space": " ", "line end": "\n", "tab": "\t", "NUL": "\x00", "BOM": "\ufeff", "quotes": `""`}) {
		c.add("empty/"+name, []byte(v), append(noText, "empty")...)
	}
	for _, n := range []int{2, 3, 100, 4096, 1 << 20, 10_000_000} {
		c.add(fmt.Sprintf("zeros/%d", n), make([]byte, n), "unknown-format", "too-large")
	}
	c.add("too large/text", fill(17<<20, 'a'), "too-large", "unknown-format", "bad-path")
	c.add("too large/jpeg", append(jpegImage(), make([]byte, 17<<20)...), "too-large")
}

// ordered iterates over a map in the order of its keys, so that a seed always gives the same cases.
func ordered[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

// noise adds random bytes, alone and after the signature of each kind of image.
func (c *cases) noise() {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(c.rand.Uint32())
		}
		return b
	}
	for i := range 20 {
		n := 1 << c.rand.IntN(14)
		b := append([]byte{0x80}, random(n)...) // no text, no signature
		c.add(fmt.Sprintf("noise/%d, %d bytes", i, n), b, "unknown-format")
	}
	for _, s := range []struct{ name, signature string }{
		{"jpeg", "\xff\xd8\xff"}, {"jpeg with JFIF", "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"},
		{"png", "\x89PNG\r\n\x1a\n"}, {"png with IHDR", "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"},
		{"gif87", "GIF87a"}, {"gif89", "GIF89a"}, {"webp", "RIFF\x00\x10\x00\x00WEBP"},
		{"webp lossy", "RIFF\x00\x10\x00\x00WEBPVP8 \x00\x0f\x00\x00"},
		{"webp lossless", "RIFF\x00\x10\x00\x00WEBPVP8L\x00\x0f\x00\x00\x2f"},
		{"bmp", "BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"},
	} {
		for i := range 4 {
			b := append([]byte(s.signature), random(40+c.rand.IntN(2000))...)
			c.add(fmt.Sprintf("noise behind %s/%d", s.name, i), b, either(broken, bomb)...)
		}
		c.add("zeros behind "+s.name, append([]byte(s.signature), make([]byte, 4096)...), either(broken, bomb)...)
	}
}
