package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Labels, keys, reasons and errors come from outside, and a terminal obeys
// what is in them: it would be cleared, retitled, or show a line that nobody
// wrote. All output goes through a terminal; what is a part of a line goes
// through printable as well.

// A terminal writes text on, with what would be a command to a terminal, or
// would change the order of what is read, as an escape. Those are JSON's too,
// so that JSON stays the same text.
type terminal struct{ w io.Writer }

func (t terminal) Write(b []byte) (int, error) {
	if _, err := io.WriteString(t.w, escaped(string(b), "\n\t")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// printable is text as a part of a line.
func printable(s string) string { return escaped(s, "") }

// escaped is s with escapes for what a terminal may not show as it is, but for
// what is allowed.
func escaped(s, allowed string) string {
	unsafe := func(r rune) bool { return r == utf8.RuneError || obeyed(r) && !strings.ContainsRune(allowed, r) }
	if !strings.ContainsFunc(s, unsafe) { // mostly
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unsafe(r) || r == utf8.RuneError:
			b.WriteString(s[i : i+n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// obeyed tells whether a terminal may do something else with a character than
// to show it: control characters, line ends of Unicode, and invisible ones that
// format, but for the two that join letters.
func obeyed(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) ||
		unicode.Is(unicode.Cf, r) && r != nonJoiner && r != joiner
}
