package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

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
	b, err := readVersionFile(list, maxSettingsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var images []Golden
	if err := decodeYAML(b, &images); err != nil {
		return nil, fmt.Errorf("%s: %w", list, err)
	}
	return images, nil
}

// read reads the file of the version in dir.
func (g Golden) read(dir string) ([]byte, error) {
	list := filepath.Join(dir, goldenFile)
	if !filepath.IsLocal(g.Image) {
		return nil, fmt.Errorf("%s: image: %q is not a file below %s", list, g.Image, filepath.Dir(list))
	}
	return readVersionFile(filepath.Join(filepath.Dir(list), g.Image), maxGoldenBytes)
}

// A goldenError says that a golden image was not answered as it should be.
type goldenError struct{ text string }

func (e *goldenError) Error() string { return e.text }

// passGolden checks the golden images of the version in dir, if it has any. Where
// nothing says what pixels the model takes, it measures with which conversion
// they pass; convert is how the answerer changes to that.
func (a *answerer) passGolden(ctx context.Context, dir string, convert func(Preprocessing) error) error {
	images, err := readGolden(dir)
	if err != nil || len(images) == 0 {
		return err
	}
	if !a.scores {
		return noGolden(dir)
	}
	if a.pixels == nil || a.pixels.ScaleFrom != OriginAssumed {
		_, err := a.checkGolden(ctx, dir, images)
		return err
	}
	p := *a.pixels
	found, only, err := measure(p.usual(), func(c conversion) (float64, error) {
		p.convert(c, OriginMeasured)
		if err := convert(p); err != nil {
			return 0, err
		}
		return a.checkGolden(ctx, dir, images)
	})
	if failed := (*goldenError)(nil); errors.As(err, &failed) {
		return fmt.Errorf(`no usual preprocessing passes: %w; write "input: {scale: …, mean: …, std: …}", as the model wants it, into %s`,
			err, filepath.Join(dir, specFile))
	}
	if err != nil {
		return err
	}
	from := OriginMeasured
	if !only { // scores alone do not tell: more contrast may make a model surer of its answer
		from = OriginAssumed
	}
	p.convert(found, from)
	return convert(p)
}

// noGolden refuses the golden images of a version that has arrays alone.
func noGolden(dir string) error {
	return fmt.Errorf("golden images name classes, and answers of this version have none: leave %s out, or name the output with the scores, with output, in %s",
		filepath.Join(dir, goldenFile), filepath.Join(dir, specFile))
}

// measure is the convention with which try passes with the highest sum of scores; a
// wide one, which come last, only if no other one passes. It tells whether try passes
// with no other one. An error that is no *goldenError is final.
func measure(conventions []conversion, try func(conversion) (sum float64, err error)) (best conversion, only bool, err error) {
	var (
		passed int
		most   float64
		failed []error
	)
	for _, c := range conventions {
		sum, err := try(c)
		bad := (*goldenError)(nil)
		switch {
		case errors.As(err, &bad):
			failed = append(failed, fmt.Errorf("pixels %v: %w", c, err))
		case err != nil:
			return conversion{}, false, err
		default:
			if passed == 0 || sum > most && c.wide() == best.wide() {
				most, best = sum, c
			}
			passed++
		}
	}
	if passed == 0 {
		return conversion{}, false, &goldenError{joined(failed)}
	}
	return best, passed == 1, nil
}

// joined is the texts of errors in one line.
func joined(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// checkGolden classifies golden images of the version in dir, and returns the
// sum of their scores. An answer that is not as it should be is a *goldenError.
func (a *answerer) checkGolden(ctx context.Context, dir string, images []Golden) (sum float64, err error) {
	for _, want := range images {
		image, err := want.read(dir)
		if err != nil {
			return 0, err
		}
		p, err := a.classify(ctx, image)
		if guilty := (*InputError)(nil); errors.As(err, &guilty) && guilty.Reason == ReasonNotFinite {
			return 0, &goldenError{fmt.Sprintf("%s: %v", want.Image, err)}
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", want.Image, err)
		}
		best, _ := p.best()
		if best.Label != want.Label && best.Label != plainLabel(want.Label) || best.Score < want.Floor {
			return 0, &goldenError{fmt.Sprintf("%s is %q with %v, want %q with at least %v", want.Image, best.Label, best.Score, want.Label, want.Floor)}
		}
		sum += float64(best.Score)
	}
	return sum, nil
}
