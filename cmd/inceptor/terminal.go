package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Labels, keys, reasons and errors come from outside. Control characters in them could clear or
// retitle the user's terminal, or forge lines of output. So all output goes through a terminal, and
// text from outside that is a part of a line goes through printable first.

// A terminal passes text on to w, with control characters, and those that change the direction of
// text, as escapes. The escapes are JSON's, so that JSON keeps its meaning.
type terminal struct{ w io.Writer }

func (t terminal) Write(b []byte) (int, error) {
	if _, err := io.WriteString(t.w, escaped(string(b), "\n\t")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// printable returns text that is safe as a part of a line.
func printable(s string) string { return escaped(s, "") }

// escaped returns s with escapes for the characters that isControl tells, except those allowed.
func escaped(s, allowed string) string {
	unsafe := func(r rune) bool {
		return r == utf8.RuneError || isControl(r) && !strings.ContainsRune(allowed, r)
	}
	if !strings.ContainsFunc(s, unsafe) { // the usual case
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

// isControl tells whether a terminal may do something else than show a character: control
// characters, Unicode's line separators, and invisible formatting characters except the two
// joiners.
func isControl(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) ||
		unicode.Is(unicode.Cf, r) && r != nonJoiner && r != joiner
}
