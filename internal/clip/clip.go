// Package clip shortens texts from outside.
package clip

import (
	"strings"
	"unicode/utf8"
)

// Text returns about n bytes of s as valid UTF-8, and an ellipsis if there were more.
func Text(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.ToValidUTF8(s[:n], "\uFFFD") + "…"
}
