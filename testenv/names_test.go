package testenv

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// unexported is a word that only identifiers are written like.
	unexported = regexp.MustCompile(`\b[a-z]+[A-Z][a-zA-Z0-9]*\b`)
	// qualified is an exported name after that of a package.
	qualified = regexp.MustCompile(`(?:^|[^\w./-])([a-z]\w*)\.([A-Z]\w*)`)
)

// A comment that names an identifier names one that there is, in code or in a string.
func TestCommentsName(t *testing.T) {
	n := names{written: map[string]bool{}, packages: map[string]map[string]bool{}}
	comments := map[string]string{} // by position
	for _, path := range tracked(t, "*.go") {
		text, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		n.read(path, text, comments)
	}
	for at, comment := range comments {
		for _, name := range n.unknown(comment) {
			t.Errorf("%s: no code has %s", at, name)
		}
	}
}

// names are the identifiers of the project.
type names struct {
	written  map[string]bool            // in code, and the words of strings
	packages map[string]map[string]bool // in code, by the package's name
}

// read adds the names in a file, and its comments to comments.
func (n names) read(path string, text []byte, comments map[string]string) {
	set := token.NewFileSet()
	var s scanner.Scanner
	s.Init(set.AddFile(path, set.Base(), len(text)), text, nil, scanner.ScanComments)
	var of map[string]bool
	before := token.ILLEGAL
	for {
		pos, kind, literal := s.Scan()
		switch kind {
		case token.EOF:
			return
		case token.COMMENT:
			comments[set.Position(pos).String()] = literal
		case token.STRING:
			for _, word := range unexported.FindAllString(literal, -1) {
				n.written[word] = true
			}
		case token.IDENT:
			if before == token.PACKAGE {
				name := strings.TrimSuffix(literal, "_test")
				if n.packages[name] == nil {
					n.packages[name] = map[string]bool{}
				}
				of = n.packages[name]
			}
			n.written[literal] = true
			of[literal] = true
		}
		before = kind
	}
}

// unknown returns what a comment names and the project does not have.
func (n names) unknown(comment string) (unknown []string) {
	for _, word := range unexported.FindAllString(comment, -1) {
		if !n.written[word] {
			unknown = append(unknown, word)
		}
	}
	for _, m := range qualified.FindAllStringSubmatch(comment, -1) {
		if of, ok := n.packages[m[1]]; ok && !of[m[2]] {
			unknown = append(unknown, m[1]+"."+m[2])
		}
	}
	return unknown
}

func TestUnknownNames(t *testing.T) {
	n := names{written: map[string]bool{}, packages: map[string]map[string]bool{}}
	n.read("house.go", []byte(`package house; func openDoor() { log("bellRings") }; type Door int`), nil)
	for comment, want := range map[string]string{
		"// openDoor opens a house.Door of the TensorFlow kind": "",
		"// bellRings is in a string":                           "",
		"// see shutDoor":                                       "shutDoor",
		"/* see house.Window, and not tls.Config */":            "house.Window",
	} {
		if got := strings.Join(n.unknown(comment), " "); got != want {
			t.Errorf("%s: got %q, want %q", comment, got, want)
		}
	}
}
