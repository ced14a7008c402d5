package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// The gates that a version passes before it serves, in their order. The words
// are stable: metrics carry them.
const (
	GateRead      = "read"      // its files can be read
	GateComplete  = "complete"  // none is missing or short
	GateLoad      = "load"      // TensorFlow loads it
	GateSignature = "signature" // it takes what records hold, and has the classes of the version that serves
	GateWarmUp    = "warm-up"   // it answers its own warm-up requests, and every batch size
	GateGolden    = "golden"    // it answers its golden images as it should
	GateAgreement = "agreement" // it answers the last images as the version that serves
	GateTimeout   = "timeout"   // all this within model.gate.timeout
	GateMemory    = "memory"    // there is room for it
)

// A GateError says at which gate a version was refused.
type GateError struct {
	Gate string
	Err  error
}

func (e *GateError) Error() string { return e.Gate + ": " + e.Err.Error() }

func (e *GateError) Unwrap() error { return e.Err }

// transient tells whether the same files may pass another time: the fault was
// the machine's, not theirs.
func (e *GateError) transient() bool {
	var (
		status *savedmodel.Error
		file   *fs.PathError
	)
	switch {
	case e.Gate == GateRead, e.Gate == GateTimeout, e.Gate == GateMemory:
		return true
	case errors.As(e.Err, new(*OverdueError)): // a file server may be gone
		return true
	case errors.As(e.Err, &status):
		return status.Transient()
	case errors.As(e.Err, &file): // but a file that is missing must come first
		return !errors.Is(file, fs.ErrNotExist)
	}
	return false
}

func atGate(gate string, err error) error {
	if err == nil {
		return nil
	}
	return &GateError{gate, err}
}

// Golden images lie in a version's assets.extra/golden, with a list of what
// the version must say to each.
const goldenFile = "assets.extra/golden/golden.yaml"

// A Golden is one line of that list.
type Golden struct {
	Image string  `yaml:"image"` // file beside the list
	Label string  `yaml:"label"` // of the best class
	Floor float32 `yaml:"floor"` // that its score must reach
}

// readGolden reads the list of the version in dir, empty if there is none.
func readGolden(dir string) ([]Golden, error) {
	list := filepath.Join(dir, goldenFile)
	b, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var images []Golden
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&images); err != nil {
		return nil, fmt.Errorf("%s: %w", list, err)
	}
	return images, nil
}

// read reads the file of the version in dir.
func (g Golden) read(dir string) ([]byte, error) {
	list := filepath.Join(dir, goldenFile)
	if !filepath.IsLocal(g.Image) {
		return nil, fmt.Errorf("%s: %q is not beside it", list, g.Image)
	}
	return os.ReadFile(filepath.Join(filepath.Dir(list), g.Image))
}

// checkGolden classifies the golden images of the version in dir, if it has
// any.
func (v *version) checkGolden(ctx context.Context, dir string) error {
	images, err := readGolden(dir)
	if err != nil {
		return err
	}
	for _, want := range images {
		image, err := want.read(dir)
		if err != nil {
			return err
		}
		p, err := v.classify(ctx, image)
		if err != nil {
			return fmt.Errorf("%s: %w", want.Image, err)
		}
		if best, _ := p.best(); best.Label != want.Label || best.Score < want.Floor {
			return fmt.Errorf("%s is %q with %v, want %q with at least %v", want.Image, best.Label, best.Score, want.Label, want.Floor)
		}
	}
	return nil
}
