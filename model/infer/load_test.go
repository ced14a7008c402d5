package infer

import (
	"testing"

	"inceptor/model/internal/modeltest"
)

// load returns the version in dir, after its gates.
func load(t testing.TB, dir string) *Version {
	t.Helper()
	modeltest.OpenLibrary(t)
	o := Options{Model: "tiny", Batch: Batch{Max: 2}, MaxPixels: 40e6}
	o.Session.OwnThreads = true
	v, _, release, err := LoadOnce(t.Context(), o, 1, dir, SpecOverrides{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return v
}
