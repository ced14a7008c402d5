package model

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"inceptor/savedmodel"
)

// An Attempt is what a version answers for an image with one way to make pixels.
type Attempt struct {
	Preprocessing *Preprocessing // nil: the model takes the image as it came
	Classes       []Class        // all that the model gives, the best first
	Err           error          // in place of Classes: it has no answer
}

// attemptPixels is the default of model.max-pixels.
const attemptPixels = 64_000_000

// Attempts loads the version in dir, a directory that holds a saved_model.pb, and
// classifies an image with each of the usual conventions for pixels that fits the
// model: all of them where nothing says which it is, or the one that the model or
// its inceptor.yaml states. The TensorFlow library must be open. Its error is that
// the version cannot be loaded.
func Attempts(ctx context.Context, o savedmodel.Options, dir string, given Given, image []byte) ([]Attempt, error) {
	c := Config{Name: filepath.Base(filepath.Dir(dir)), Optimize: optimizeOff, Batch: Batch{Max: 1}, MaxPixels: attemptPixels, Session: o}
	v, _, drop, err := loadOnce(ctx, c, candidate{dir: dir}, given)
	if err != nil {
		return nil, err
	}
	defer drop()
	v.topK = math.MaxInt
	if v.pixels == nil {
		return []Attempt{v.attempt(ctx, nil, image)}, nil
	}
	stated := *v.pixels
	usual := stated.usual()
	if stated.ScaleFrom != OriginAssumed {
		usual = []conversion{stated.conversion()}
	}
	var all []Attempt
	for _, convention := range usual {
		p := stated
		if stated.ScaleFrom == OriginAssumed {
			p.convert(convention, OriginMeasured)
		}
		if err := v.remake(p); err != nil {
			return nil, err
		}
		all = append(all, v.attempt(ctx, &p, image))
	}
	return all, nil
}

func (v *version) attempt(ctx context.Context, p *Preprocessing, image []byte) Attempt {
	answer, err := v.classify(ctx, image)
	return Attempt{Preprocessing: p, Classes: answer.Classes, Err: err}
}

// loadOnce loads a version that answers nobody; drop frees it.
func loadOnce(ctx context.Context, c Config, at candidate, given Given) (v *version, took Durations, drop func(), err error) {
	c.Session, c.Batch.Max = c.session(), c.MaxBatch()
	v, err = loader{
		config: c, decoding: newDecoding(c.MaxPixels), at: at, given: given,
		log: slog.New(slog.DiscardHandler), observer: Unobserved{}, took: &took, bound: boundOf,
		gate: new(atomic.Pointer[string]), late: new(<-chan struct{}),
	}.load(ctx)
	if err != nil {
		return nil, took, nil, err
	}
	return v, took, func() {
		v.drop()
		<-v.freed
	}, nil
}

// ExpectedFirst lists the attempts whose best class is the expected one, the most
// likely one first: that with the highest score, but 0…255 after all others.
func ExpectedFirst(attempts []Attempt, expected string) ([]int, error) {
	var rows []int
	known := false
	for i, one := range attempts {
		at := slices.IndexFunc(one.Classes, func(c Class) bool { return c.isCalled(expected) })
		known = known || at >= 0
		if at == 0 {
			rows = append(rows, i)
		}
	}
	switch {
	case !known:
		return nil, fmt.Errorf("the model has no class %q among those that it gives for the picture", expected)
	case rows == nil:
		return nil, fmt.Errorf("%q is the best class in none of the rows: try another picture, or write the file by hand", expected)
	}
	slices.SortStableFunc(rows, func(a, b int) int {
		return cmp.Or(compareBool(attempts[a].wide(), attempts[b].wide()), cmp.Compare(attempts[b].Classes[0].Score, attempts[a].Classes[0].Score))
	})
	return rows, nil
}

func (a Attempt) wide() bool { return a.Preprocessing != nil && a.Preprocessing.conversion().wide() }

// isCalled tells whether a class is called so: by its label, one of the synonyms
// that its label lists between commas, or its number.
func (c Class) isCalled(name string) bool {
	name = strings.TrimSpace(name)
	if c.Index >= 0 && name == strconv.Itoa(c.Index) {
		return true
	}
	return c.Label != "" && (strings.EqualFold(c.Label, name) || slices.ContainsFunc(strings.Split(c.Label, ","), func(synonym string) bool {
		return strings.EqualFold(strings.TrimSpace(synonym), name)
	}))
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
