package clip

import "testing"

// A text is cut between two letters, and is valid UTF-8.
func TestText(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"short", "short"},
		{"exactly 10", "exactly 10"},
		{"eleven char", "eleven cha…"},
		{"nine char\u00e9", "nine char…"}, // not in the middle of a letter
		{"bad \xff", "bad \ufffd"},
	} {
		if got := Text(test.in, 10); got != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
	}
}
