package corpus

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
)

// Mutants yields more than 20,000 images of which one structural field, two,
// or the order of the blocks is changed: each length, size, depth, kind, offset
// and flag of each format, at its edges. The order and the images are the same
// each time. Some can be decoded: a decoder has to say which.
func Mutants() iter.Seq2[string, []byte] {
	return func(yield func(name string, image []byte) bool) {
		for _, s := range specimens() {
			if !yield(s.name+", as it is", slices.Clone(s.bytes)) {
				return
			}
			for _, mutate := range []func(func(string, []byte) bool) bool{s.single, s.pairs, s.reordered} {
				if !mutate(func(name string, b []byte) bool { return yield(s.name+", "+name, b) }) {
					return
				}
			}
		}
	}
}

// A specimen is an image that can be decoded, with its structure.
type specimen struct {
	name   string
	bytes  []byte
	fields []field
	blocks []block
	mend   func(b []byte) // makes checksums right again; nil: there are none
}

// A field is a number or a name in an image.
type field struct {
	name     string
	at, size int
	big      bool     // big-endian
	every    bool     // each of a byte's values is tried, not only edges and single bits
	words    []string // what it may be, if it is a name
}

// A block is a part of an image that can be left out or moved.
type block struct {
	name     string
	from, to int
}

// values are what a field is changed to.
func (s specimen) values(f field) [][]byte {
	old := s.bytes[f.at : f.at+f.size]
	var values [][]byte
	add := func(v []byte) {
		same := func(o []byte) bool { return string(o) == string(v) }
		if !same(old) && !slices.ContainsFunc(values, same) {
			values = append(values, v)
		}
	}
	for _, w := range f.words {
		add([]byte(w))
	}
	if f.words != nil {
		return values
	}
	if f.every {
		for v := range 256 {
			add([]byte{byte(v)})
		}
		return values
	}
	most := uint64(1)<<(8*f.size) - 1
	is, rest := f.number(old), uint64(len(s.bytes)-f.at-f.size)
	for bit := range 8 * f.size {
		add(f.put(is ^ 1<<bit))
	}
	for _, v := range []uint64{
		0, 1, 2, 3, is - 1, is + 1, is * 2, is / 2, is + 0x100, is + 0x10000,
		most, most - 1, most / 2, most/2 + 1, most/2 - 1, most - 8, 0x3fff, 0x4000, 0xffff, 0x10000, 0xffffff, 1_000_000,
		rest, rest - 1, rest + 1, rest - 4, rest - 12, uint64(len(s.bytes)),
	} {
		add(f.put(v & most))
	}
	return values
}

func (f field) number(b []byte) uint64 {
	var v uint64
	for i := range b {
		at := i
		if !f.big {
			at = len(b) - 1 - i
		}
		v = v<<8 | uint64(b[at])
	}
	return v
}

func (f field) put(v uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, v)[:f.size]
	if f.big {
		slices.Reverse(b)
	}
	return b
}

// describe tells a value: a name as text, a number as such.
func (f field) describe(v []byte) string {
	if f.words != nil {
		return fmt.Sprintf("%s = %q", f.name, v)
	}
	return fmt.Sprintf("%s = %#x", f.name, f.number(v))
}

func (s specimen) single(yield func(string, []byte) bool) bool {
	for _, f := range s.fields {
		for _, v := range s.values(f) {
			b := patched(s.bytes, f.at, v...)
			if !yield(f.describe(v), b) {
				return false
			}
			if s.mend != nil {
				b = slices.Clone(b)
				s.mend(b)
				if !yield(f.describe(v)+", checksums right", b) {
					return false
				}
			}
		}
	}
	return true
}

// pairs are two fields changed at once, some of all the possible ones.
func (s specimen) pairs(yield func(string, []byte) bool) bool {
	random := rand.New(rand.NewPCG(uint64(len(s.bytes)), 13))
	seen := map[string]bool{}
	for range 300 {
		f, g := s.fields[random.IntN(len(s.fields))], s.fields[random.IntN(len(s.fields))]
		vs, ws := s.values(f), s.values(g)
		v, w := vs[random.IntN(len(vs))], ws[random.IntN(len(ws))]
		name := f.describe(v) + ", " + g.describe(w)
		if f.at == g.at || seen[name] {
			continue
		}
		seen[name] = true
		b := patched(patched(s.bytes, f.at, v...), g.at, w...)
		if s.mend != nil {
			s.mend(b)
		}
		if !yield(name, b) {
			return false
		}
	}
	return true
}

// reordered leaves a block out, doubles it, moves it to the front, the back,
// or behind the next one, or ends the image in it.
func (s specimen) reordered(yield func(string, []byte) bool) bool {
	first := s.blocks[0].from
	for i, k := range s.blocks {
		before, it, after := s.bytes[:k.from], s.bytes[k.from:k.to], s.bytes[k.to:]
		many := make([]byte, 0, 40*len(it))
		for range 40 {
			many = append(many, it...)
		}
		changes := map[string][]byte{
			"left out":      slices.Concat(before, after),
			"twice":         slices.Concat(before, it, it, after),
			"40 times more": slices.Concat(before, many, it, after),
			"first":         slices.Concat(s.bytes[:first], it, s.bytes[first:k.from], after),
			"last":          slices.Concat(before, after, it),
			"end before":    slices.Clone(before),
			"end behind":    s.bytes[:k.to:k.to],
			"end inside":    s.bytes[: (k.from+k.to)/2 : (k.from+k.to)/2],
			"end near end":  s.bytes[: k.to-1 : k.to-1],
		}
		if i+1 < len(s.blocks) {
			next := s.blocks[i+1]
			changes["behind the next"] = slices.Concat(before, s.bytes[k.to:next.to], it, s.bytes[next.to:])
		}
		for name, b := range ordered(changes) {
			if !yield(fmt.Sprintf("%s (%d) %s", k.name, i, name), b) {
				return false
			}
		}
	}
	return true
}

// A builder notes the structure of an image.
type builder struct{ s specimen }

func (b *builder) block(name string, from, to int) {
	b.s.blocks = append(b.s.blocks, block{fmt.Sprintf("%s at %d", name, from), from, to})
}

func (b *builder) add(f field, format string, args ...any) {
	f.name = fmt.Sprintf(format, args...) + fmt.Sprintf(" at %d", f.at)
	if f.at+f.size <= len(b.s.bytes) {
		b.s.fields = append(b.s.fields, f)
	}
}

// little, big and every are fields of one number.
func (b *builder) little(at, size int, format string, args ...any) {
	b.add(field{at: at, size: size}, format, args...)
}

func (b *builder) big(at, size int, format string, args ...any) {
	b.add(field{at: at, size: size, big: true}, format, args...)
}

func (b *builder) every(at int, format string, args ...any) {
	b.add(field{at: at, size: 1, every: true}, format, args...)
}

// bytes are fields of one byte.
func (b *builder) bytes(from, to int, format string, args ...any) {
	for at := from; at < to; at++ {
		b.little(at, 1, format, args...)
	}
}

func (b *builder) word(at int, words []string, format string, args ...any) {
	b.add(field{at: at, size: len(words[0]), words: words}, format, args...)
}
