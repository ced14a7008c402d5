package corpus

import (
	"crypto/sha256"
	"testing"
)

func TestMutants(t *testing.T) {
	sum := func() (n int, digest [32]byte) {
		h, names, images := sha256.New(), map[string]bool{}, map[[32]byte]bool{}
		for name, b := range Mutants() {
			if names[name] {
				t.Errorf("%s occurs twice", name)
			}
			names[name], images[sha256.Sum256(b)] = true, true
			h.Write([]byte(name))
			h.Write(b)
		}
		t.Logf("%d mutants, %d different images", len(names), len(images))
		return len(images), [32]byte(h.Sum(nil))
	}
	n, first := sum()
	if n < 20_000 {
		t.Errorf("%d different images, want 20000", n)
	}
	if _, again := sum(); first != again {
		t.Error("the mutants differ from one time to the next")
	}
}
