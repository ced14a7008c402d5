package model

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	base := t.TempDir()
	for v := range int64(3) {
		tinyOf(v+1).write(t, filepath.Join(base, strconv.FormatInt(v+1, 10)))
	}
	b := runTiny(t, base)
	b.awaitVersion(3)
	b.put(10, tiny{bias: 2, class: 1})
	b.await("refusal", func() bool { return len(b.refusals(10)) > 0 })
	b.must(os.RemoveAll(b.dir(3)))
	b.await("removal", func() bool { return len(b.Versions()) == 4 && b.scanned(3) })
	states := map[int64]string{}
	for _, s := range b.Versions() {
		states[s.Version] = s.State
		switch s.Version {
		case 10:
			if s.Gate != GateSignature || !strings.Contains(s.Reason, "2 classes") || s.Since.IsZero() || !s.Retry.IsZero() {
				t.Errorf("refused: %+v", s)
			}
		case 3:
			if !strings.HasPrefix(s.Digest, "sha256:") || s.Since.IsZero() {
				t.Errorf("serving: %+v", s)
			}
		}
	}
	want := map[int64]string{10: StateRefused, 3: StateServing, 2: StateUnloaded, 1: StateUnloaded}
	if !maps.Equal(states, want) {
		t.Errorf("got %v, want %v", states, want)
	}
}

// scanned tells whether the manager has seen that a version is gone.
func (b *bench) scanned(gone int64) bool {
	b.Manager.mu.Lock()
	defer b.Manager.mu.Unlock()
	k := b.known[gone]
	return k == nil || !k.there
}
