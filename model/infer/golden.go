package infer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// GoldenFile lies in a version's directory, next to its golden images: a list of what the version
// must answer for each of them.
const GoldenFile = "assets.extra/golden/golden.yaml"

// A goldenRecord is an entry of GoldenFile.
type goldenRecord struct {
	Image string  `yaml:"image"` // name of a file next to the list
	Label string  `yaml:"label"` // of the best class
	Floor float32 `yaml:"floor"` // the least score of that class
}

// readGolden reads the list of the version in dir; empty: there is none.
func readGolden(dir string) ([]goldenRecord, error) {
	list := filepath.Join(dir, GoldenFile)
	b, err := readVersionFile(list, maxSettingsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var images []goldenRecord
	if err := decodeYAML(b, &images); err != nil {
		return nil, fmt.Errorf("%s: %w", list, err)
	}
	return images, nil
}

// read reads the file of the version in dir.
func (g goldenRecord) read(dir string) ([]byte, error) {
	list := filepath.Join(dir, GoldenFile)
	if !filepath.IsLocal(g.Image) {
		return nil, fmt.Errorf("%s: image: %q is not a file below %s", list, g.Image, filepath.Dir(list))
	}
	return readVersionFile(filepath.Join(filepath.Dir(list), g.Image), maxGoldenBytes)
}

// GoldenRecords reads the golden images, or other records, of the version in dir.
func GoldenRecords(dir string) ([][]byte, error) {
	list, err := readGolden(dir)
	if err != nil {
		return nil, err
	}
	records := make([][]byte, len(list))
	for i, g := range list {
		if records[i], err = g.read(dir); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// A goldenError says that a golden image got another answer than it should.
type goldenError struct{ text string }

func (e *goldenError) Error() string { return e.text }

// errGoldenNeedsScores refuses the golden images of a version whose answers have only arrays.
func errGoldenNeedsScores(dir string) error {
	return fmt.Errorf("golden images name classes, and answers of this version have none: leave %s out, or name the output with the scores, with output, in %s",
		filepath.Join(dir, GoldenFile), specPath(dir))
}

// passGolden checks the golden images of the version in dir, if it has any. If nothing says which
// pixels the model takes, it finds the convention with which they pass, and sets that.
func (a *pipeline) passGolden(ctx context.Context, dir string) error {
	images, err := readGolden(dir)
	if err != nil || len(images) == 0 {
		return err
	}
	if !a.hasScores() {
		return errGoldenNeedsScores(dir)
	}
	if a.preprocessing == nil || a.preprocessing.ScaleFrom != OriginAssumed {
		_, err := a.checkGolden(ctx, dir, images)
		return err
	}
	p := *a.preprocessing
	found, only, err := bestConvention(p.candidates(), func(c conversion) (float64, error) {
		p.convert(c, OriginMeasured)
		if err := a.setPreprocessing(p); err != nil {
			return 0, err
		}
		return a.checkGolden(ctx, dir, images)
	})
	if failed := (*goldenError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("no usual preprocessing passes: %w; %s, as the model wants it", err,
			suggest(specPath(dir), "input: {scale: …, mean: …, std: …}"))
	}
	if err != nil {
		return err
	}
	from := OriginMeasured
	if !only { // a higher score proves nothing: more contrast may raise it
		from = OriginAssumed
	}
	p.convert(found, from)
	return a.setPreprocessing(p)
}

// bestConvention returns the convention that try passes with the highest sum of scores. One with a
// wide range, which come last, wins only if no other one passes. only tells that no other one
// passes. An error of try that is not a *goldenError ends the search.
func bestConvention(conventions []conversion, try func(conversion) (sum float64, err error)) (best conversion, only bool, err error) {
	var (
		passed int
		most   float64
		failed []string
	)
	for _, c := range conventions {
		sum, err := try(c)
		bad := (*goldenError)(nil)
		switch {
		case errors.As(err, &bad):
			failed = append(failed, fmt.Sprintf("pixels %v: %v", c, err))
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
		return conversion{}, false, &goldenError{strings.Join(failed, "; ")}
	}
	return best, passed == 1, nil
}

// checkGolden classifies golden images of the version in dir, and returns the sum of their scores.
// An answer that is not as listed is a *goldenError.
func (a *pipeline) checkGolden(ctx context.Context, dir string, images []goldenRecord) (sum float64, err error) {
	for _, want := range images {
		image, err := want.read(dir)
		if err != nil {
			return 0, err
		}
		p, err := a.Classify(ctx, image)
		if guilty := (*InputError)(nil); errors.As(err, &guilty) && guilty.Reason == ReasonNotFinite {
			return 0, &goldenError{fmt.Sprintf("%s: %v", want.Image, err)}
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", want.Image, err)
		}
		best, _ := p.Best()
		if best.Label != want.Label && best.Label != plainLabel(want.Label) || best.Score < want.Floor {
			return 0, &goldenError{fmt.Sprintf("%s is %q with %v, want %q with at least %v", want.Image, best.Label, best.Score, want.Label, want.Floor)}
		}
		sum += float64(best.Score)
	}
	return sum, nil
}
