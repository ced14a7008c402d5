package infer

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

// An Attempt is a version's answer for an image, with one way to make pixels.
type Attempt struct {
	Preprocessing *Preprocessing // nil: the model takes the encoded image
	Classes       []Class        // all that the model returns, the best first
	Err           error          // if there is no answer
}

// attemptPixels is the default of model.max-pixels.
const attemptPixels = 64_000_000

// Attempts loads the version in dir, a directory with a saved_model.pb, and classifies an image
// with each of the usual conventions for pixels that fit the model, or only with the one that the
// model or its inceptor.yaml states; o replaces parts of that. The TensorFlow library must be open.
// An error means that the version cannot be loaded.
func Attempts(ctx context.Context, session savedmodel.Options, dir string, o SpecOverrides, image []byte) ([]Attempt, error) {
	session.OwnThreads, session.Optimize = true, false
	options := Options{Model: filepath.Base(filepath.Dir(dir)), Batch: Batch{Max: 1}, MaxPixels: attemptPixels, Session: session}
	v, _, release, err := LoadOnce(ctx, options, 0, dir, o)
	if err != nil {
		return nil, err
	}
	defer release()
	v.sig.TopK = math.MaxInt
	if v.preprocessing == nil || v.preprocessing.ScaleFrom != OriginAssumed {
		return []Attempt{attempt(ctx, v, image)}, nil
	}
	p := *v.preprocessing
	var all []Attempt
	for _, convention := range p.candidates() {
		p.convert(convention, OriginMeasured)
		if err := v.setPreprocessing(p); err != nil {
			return nil, err
		}
		all = append(all, attempt(ctx, v, image))
	}
	return all, nil
}

func attempt(ctx context.Context, v *Version, image []byte) Attempt {
	answer, err := v.Classify(ctx, image)
	return Attempt{Preprocessing: v.preprocessing, Classes: answer.Classes, Err: err}
}

// LoadOnce loads the version in dir without a log or an Observer, and returns where its time went.
// Call release to free it.
func LoadOnce(ctx context.Context, o Options, number int64, dir string, overrides SpecOverrides) (v *Version, took Durations, release func(), err error) {
	v, err = Loader{
		Options: o, Number: number, Dir: dir, overrides: overrides, DecodeLimits: NewDecodeLimits(o.MaxPixels),
		Log: slog.New(slog.DiscardHandler), Observer: unobserved{}, Took: &took,
		Gate: new(atomic.Pointer[string]), Late: new(<-chan struct{}),
	}.Load(ctx)
	if err != nil {
		return nil, took, nil, err
	}
	return v, took, func() {
		v.Release()
		<-v.Freed()
	}, nil
}

type unobserved struct{}

func (unobserved) BatchRun(int64, Run)    {}
func (unobserved) RunOverdue(int64, bool) {}

// ExpectedFirst returns the indices of the attempts whose best class is the expected one, the most
// likely attempt first: the one with the highest score, but those with wide ranges last.
func ExpectedFirst(attempts []Attempt, expected string) ([]int, error) {
	var matching []int
	known := false
	for i, one := range attempts {
		rank := slices.IndexFunc(one.Classes, func(c Class) bool { return c.hasName(expected) })
		known = known || rank >= 0
		if rank == 0 {
			matching = append(matching, i)
		}
	}
	switch {
	case !known:
		return nil, fmt.Errorf("the model has no class %q among those that it returns for the picture: write one of its labels, or a number", expected)
	case matching == nil:
		return nil, fmt.Errorf("%q is the best class in none of the rows: try another picture, or write the file by hand", expected)
	}
	slices.SortStableFunc(matching, func(a, b int) int {
		if wide := attempts[a].wide(); wide != attempts[b].wide() {
			if wide {
				return 1
			}
			return -1
		}
		return cmp.Compare(attempts[b].Classes[0].Score, attempts[a].Classes[0].Score)
	})
	return matching, nil
}

func (a Attempt) wide() bool { return a.Preprocessing != nil && a.Preprocessing.conversion().wide() }

// hasName tells whether a person may mean the class by a name: its label, one of the synonyms that
// its label lists between commas, or its number.
func (c Class) hasName(name string) bool {
	name = strings.TrimSpace(name)
	if c.Index >= 0 && name == strconv.Itoa(c.Index) {
		return true
	}
	return c.Label != "" && (strings.EqualFold(c.Label, name) || slices.ContainsFunc(strings.Split(c.Label, ","), func(synonym string) bool {
		return strings.EqualFold(strings.TrimSpace(synonym), name)
	}))
}
