package savedmodel

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestWriteTextQuotes(t *testing.T) {
	evil := "\x1b[2J\n\tx\xff"
	tensors := map[string]TensorInfo{evil: {Name: evil}}
	info := &Info{
		Dir:       evil,
		Missing:   []string{"variables.index: malformed"},
		Graphs:    []MetaGraph{{TensorFlow: "1.15"}, {Tags: []string{evil}, TensorFlow: evil, Signatures: map[string]Signature{evil: {Method: evil, Inputs: tensors, Outputs: tensors}}}},
		Variables: []Variable{{Name: evil}},
		Assets:    []Asset{{File{assetsDir + "/" + evil, 1}, evil}},
		Extra:     []File{{extraDir + "/" + evil, 1}},
		Warmup:    &Warmup{Records: 1, Signatures: map[string]int{evil: 1}, Problem: "one"},
	}
	var out bytes.Buffer
	must(t, info.WriteText(&out))
	must(t, info.WriteVariables(&out))
	if bytes.ContainsFunc(out.Bytes(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || !utf8.Valid(out.Bytes()) {
		t.Errorf("control characters in\n%q", out.String())
	}
	if !strings.Contains(out.String(), "complete   NO\n           variables.index: malformed\n") {
		t.Errorf("nothing about what is missing in\n%s", out.String())
	}
	if !strings.Contains(out.String(), "\ngraph      no tags: written by TensorFlow 1.15") {
		t.Errorf("nothing about a graph without tags in\n%s", out.String())
	}
}

func TestByteCount(t *testing.T) {
	for n, want := range map[int64]string{
		0:             "0 B",
		999:           "999 B",
		1000:          "1.0 kB",
		999_949:       "999.9 kB",
		999_999:       "1.0 MB",
		89_503_517:    "89.5 MB",
		math.MaxInt64: "9.2 EB",
	} {
		if got := byteCount(n); got != want {
			t.Errorf("byteCount(%d) = %q, want %q", n, got, want)
		}
	}
}
