package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/input"
)

type quantizeCmd struct {
	Dir string `arg:"" help:"Directory of a version, or a base directory, of which the newest version is taken." placeholder:"DIR" type:"existingdir"`
	// Images in folders below it count, too. Of many, some are taken from all over the folder.
	Images string `required:"" help:"Folder with images as the service will get them. 800 are enough." placeholder:"FOLDER" type:"existingdir"`
	// It must not exist. For a running service it is a new version: DIR/2 for a copy of DIR/1.
	To string `help:"Directory for a copy of the version with the ranges. Empty: they are added to the version." placeholder:"DIR"`

	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow." group:"TensorFlow"`
}

// Help is the long help.
func (*quantizeCmd) Help() string {
	return `Measures the ranges of the results of a version's layers, which int8 needs, and writes them to ` +
		`assets.extra/int8.yaml in the version's directory, or in a copy. With "model.precision int8" the ` +
		`service runs such a version in int8. ` +
		`The ranges come from a half of the images, 256 at most. The others, 2000 at most, are classified ` +
		`in float32 and in int8: this prints how well the answers agree, for each class, and which differ ` +
		`most, and how long an image takes. Nothing is written, and the exit status is 1, if fewer than ` +
		`99 % of the images have the same best class, or if the mean difference of scores is above 0.01. ` +
		`With fewer than 381 images to compare, 99 % cannot be shown: the ranges are written, unless the ` +
		`answers differ too often for that. ` +
		`Images that cannot be read are named and skipped. No other file of the version is changed.`
}

// The most images that are used.
const (
	maxCalibrated = 256
	maxMeasured   = 2000
	maxImageFiles = 1_000_000 // that are looked at
)

func (c *quantizeCmd) Run(ctx context.Context, a *app) error {
	folder, err := versionIn(c.Dir)
	if err != nil {
		return err
	}
	if err := c.checkTarget(folder.Dir); err != nil {
		return fmt.Errorf("nothing was measured: %w", err)
	}
	calibrate, measure, found, err := imagesIn(c.Images)
	if err != nil {
		return err
	}
	if err := savedmodel.OpenLibrary(c.TensorFlow.Library); err != nil {
		return err
	}
	files, err := newFileReader(input.Bare)
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	p := a.progress()
	defer p.close()
	q := infer.Quantizer{
		Options: c.options(folder), Number: folder.Version, Dir: folder.Dir,
		Calibrate: calibrate, Measure: measure,
		Read: func(ctx context.Context, name string) ([]byte, error) {
			return readFile(ctx, files, filepath.Join(c.Images, name))
		},
		Progress: p.show,
		Skipped: func(name string, err error) {
			p.close()
			fmt.Fprintf(a.stderr, "inceptor: skipped %s: %s\n", printable(name), printable(err.Error()))
		},
	}
	measured, err := q.Run(ctx)
	p.close()
	if ctx.Err() != nil {
		return errors.New("nothing was written: interrupted")
	}
	if err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	report := quantizeReport{measured, found, slices.Equal(calibrate, measure)}
	if err := report.print(a.stdout); err != nil {
		return err
	}
	if err := report.refusal(); err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	path, err := c.write(ctx, folder.Dir, measured.Calibration)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "wrote %s\n", printable(path))
	return nil
}

// options says how the version is loaded: as the service does by default.
func (c *quantizeCmd) options(folder infer.Folder) infer.Options {
	o := infer.Options{
		Model: filepath.Base(filepath.Dir(folder.Dir)), Batch: infer.Batch{Max: infer.Images.MaxBatch()},
		Session: c.TensorFlow.Options(),
	}
	o.Session.OwnThreads, o.Session.Optimize = true, true
	return o
}

// versionIn returns the version in dir: dir itself, or the newest one below it.
func versionIn(dir string) (infer.Folder, error) {
	if _, err := os.Stat(filepath.Join(dir, "saved_model.pb")); err == nil {
		full, err := filepath.Abs(dir)
		number, _ := strconv.ParseInt(filepath.Base(full), 10, 64) // 0 if it is no number
		return infer.Folder{Version: number, Dir: full}, err
	}
	versions, err := model.Config{Dir: dir}.Folders()
	if err != nil {
		return infer.Folder{}, err
	}
	if len(versions) == 0 {
		return infer.Folder{}, fmt.Errorf("%s has neither a saved_model.pb nor a version: name the directory of a version", dir)
	}
	return versions[len(versions)-1], nil
}

// checkTarget checks that the ranges can be written, before all the work.
func (c *quantizeCmd) checkTarget(version string) error {
	folder := version
	if c.To != "" {
		if _, err := os.Lstat(c.To); err == nil {
			return fmt.Errorf("--to: %s exists: name a directory that does not", c.To)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--to: %w", err)
		}
		folder = filepath.Dir(filepath.Clean(c.To))
	}
	f, err := os.CreateTemp(folder, ".inceptor-*.tmp")
	if err != nil {
		return fmt.Errorf("the ranges could not be written; --to writes a copy of the version: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// write writes the ranges into the version, or into a copy of it, and returns the file's path.
func (c *quantizeCmd) write(ctx context.Context, version string, ranges infer.Calibration) (path string, err error) {
	if c.To == "" {
		return infer.WriteCalibration(version, ranges)
	}
	to := filepath.Clean(c.To)
	temporary, err := os.MkdirTemp(filepath.Dir(to), ".inceptor-*.tmp") // no number, so no version
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temporary) }() // it is not there if it was renamed
	err = copyFiles(ctx, version, temporary)
	if err == nil {
		_, err = infer.WriteCalibration(temporary, ranges)
	}
	if err == nil {
		err = os.Chmod(temporary, 0o755) //nolint:gosec // for everybody to read
	}
	if err == nil {
		err = os.Rename(temporary, to)
	}
	return filepath.Join(to, infer.CalibrationFile), err
}

// copyFiles copies the files of a version into a folder. Links become files.
func copyFiles(ctx context.Context, version, to string) error {
	files, err := savedmodel.Files(version)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.FromSlash(f.Path)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, path)), 0o755); err != nil { //nolint:gosec // for everybody to read
			return err
		}
		if err := copyContent(filepath.Join(version, path), filepath.Join(to, path)); err != nil {
			return err
		}
	}
	return nil
}

func copyContent(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // for everybody to read
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// imagesIn lists files below a folder to calibrate with, and others to measure with, by their paths
// below it. Both lists are the same if there are fewer than four. found is how many there are.
func imagesIn(folder string) (calibrate, measure []string, found int, err error) {
	var names []string
	err = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), ".") && path != folder {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() { // a link to a file is one
			return nil //nolint:nilerr // a link that leads nowhere
		}
		if len(names) == maxImageFiles {
			return fmt.Errorf("%s has more than %d files: name a folder with fewer", folder, maxImageFiles)
		}
		name, err := filepath.Rel(folder, path)
		names = append(names, name)
		return err
	})
	if err != nil {
		return nil, nil, 0, err
	}
	if len(names) == 0 {
		return nil, nil, 0, fmt.Errorf("%s has no files", folder)
	}
	calibrate, measure = splitImages(names)
	return calibrate, measure, len(names), nil
}

// splitImages chooses images to calibrate with, and others to measure with, evenly from all of
// them: a folder may be sorted by class.
func splitImages(names []string) (calibrate, measure []string) {
	const fewest = 4
	if len(names) < fewest {
		return names, names
	}
	names = spread(names, 2*maxCalibrated+maxMeasured)
	chosen := spread(names, min(maxCalibrated, len(names)/2))
	for _, name := range names {
		if len(chosen) > 0 && name == chosen[0] {
			calibrate, chosen = append(calibrate, name), chosen[1:]
		} else {
			measure = append(measure, name)
		}
	}
	return calibrate, spread(measure, maxMeasured)
}

// spread returns at most n of all, at equal distances.
func spread(all []string, n int) []string {
	if len(all) <= n {
		return all
	}
	some := make([]string, n)
	for i := range some {
		some[i] = all[i*len(all)/n]
	}
	return some
}

// A quantizeReport prints what was measured.
type quantizeReport struct {
	infer.Quantized
	found int  // files in the folder
	same  bool // the images of the calibration were measured
}

// refusal returns why the ranges are not good enough; nil: they are, as far as can be seen.
func (r quantizeReport) refusal() error {
	_, upper := r.Agreement.Bounds()
	switch {
	case upper < infer.LeastAgreement:
		return fmt.Errorf("%d of %d images have the same best class in int8: with 95 %% confidence fewer than %g %% have it",
			r.Agreement.Same, r.Agreement.Records, 100*infer.LeastAgreement)
	case r.Agreement.MeanDifference() > infer.MaxScoreDifference:
		return fmt.Errorf("scores differ by %.2g in the mean, and %g is allowed", r.Agreement.MeanDifference(), infer.MaxScoreDifference)
	}
	return nil
}

func (r quantizeReport) print(out io.Writer) error {
	if r.same {
		fmt.Fprintf(out, "The same %d of %d files gave the ranges and were compared: too few for both, so the comparison shows little.\n", r.Calibration.Records, r.found)
	} else {
		fmt.Fprintf(out, "%d of %d files gave the ranges, and %d others were compared.\n", r.Calibration.Records, r.found, r.Agreement.Records)
	}
	for _, print := range []func(io.Writer){r.printClasses, r.printDifferences, r.printCosts, r.printMethods} {
		fmt.Fprintln(out)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		print(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%s\n", r.verdict())
	return err
}

func (r quantizeReport) printCosts(w io.Writer) {
	fmt.Fprintf(w, "COST\tFLOAT32\tINT8\t\n")
	fmt.Fprintf(w, "ms an image, one at a time\t%.1f\t%.1f\t%.1f times as fast\n", ms(r.Float.PerImage), ms(r.Int8.PerImage),
		float64(r.Float.PerImage)/float64(max(1, r.Int8.PerImage)))
	fmt.Fprintf(w, "MiB for load and warm-up\t%d\t%d\t\n", r.Float.Memory>>20, r.Int8.Memory>>20)
	fmt.Fprintf(w, "multiplications in int8\t0 %%\t%.1f %%\tof those of convolutions\n", 100*r.Multiplied)
	fmt.Fprintf(w, "on %d processors with %s\n", runtime.NumCPU(), strings.Join(cpuFeatures(), " "))
}

// printMethods lists how well each method has done on the images of the calibration.
func (r quantizeReport) printMethods(w io.Writer) {
	fmt.Fprintf(w, "RANGES BY\tSAME CLASS\tMEAN DIFFERENCE\t\n")
	for _, method := range infer.Methods() {
		a, ok := r.Methods[method]
		switch {
		case !ok:
			fmt.Fprintf(w, "%s\t\t\tthe version does not pass its gates\n", method)
			continue
		case method == r.Calibration.Method:
			fmt.Fprintf(w, "%s\t%d of %d\t%.2g\tchosen\n", method, a.Same, a.Records, a.MeanDifference())
		default:
			fmt.Fprintf(w, "%s\t%d of %d\t%.2g\t\n", method, a.Same, a.Records, a.MeanDifference())
		}
	}
}

// verdict says what the comparison shows.
func (r quantizeReport) verdict() string {
	text := "Of the compared images, " + strings.Replace(r.Agreement.String(), " records", "", 1) + "."
	if r.Agreement.LowerBound() >= infer.LeastAgreement {
		return text
	}
	return fmt.Sprintf("%s To show %g %% takes %d images, if all of them agree: compare more, if you can.",
		text, 100*infer.LeastAgreement, infer.RecordsNeeded(infer.LeastAgreement))
}

// shownDifferences is how many images with the largest differences are listed.
const shownDifferences = 5

func (r quantizeReport) printDifferences(w io.Writer) {
	worst := slices.Clone(r.Compared)
	slices.SortStableFunc(worst, func(a, b infer.Compared) int {
		return cmp.Or(cmp.Compare(different(b), different(a)), cmp.Compare(b.Difference, a.Difference))
	})
	fmt.Fprintf(w, "LARGEST DIFFERENCES\tFLOAT32\tINT8\tDIFFERENCE\n")
	for _, c := range worst[:min(shownDifferences, len(worst))] {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2g\n", printable(c.Name), printable(c.Float.String()), printable(c.Int8.String()), c.Difference)
	}
}

// different is 1 if the best classes differ.
func different(c infer.Compared) int {
	if infer.SameClass(c.Float, c.Int8) {
		return 0
	}
	return 1
}

// shownClassRows is how many classes are listed.
const shownClassRows = 20

// printClasses lists the best classes in float32: those with most differences first, then the most
// frequent ones.
func (r quantizeReport) printClasses(w io.Writer) {
	type row struct {
		name           string
		images, differ int
		sum, largest   float64
	}
	byName := map[string]*row{}
	var rows []*row
	for _, c := range r.Compared {
		name := cmp.Or(c.Float.Label, "class "+strconv.Itoa(c.Float.Index))
		if byName[name] == nil {
			byName[name] = &row{name: name}
			rows = append(rows, byName[name])
		}
		x := byName[name]
		x.images++
		x.differ += different(c)
		x.sum += c.Difference
		x.largest = max(x.largest, c.Difference)
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(b.differ, a.differ), cmp.Compare(b.images, a.images), cmp.Compare(a.name, b.name))
	})
	fmt.Fprintf(w, "BEST CLASS IN FLOAT32\tIMAGES\tSAME IN INT8\tMEAN DIFFERENCE\tLARGEST\n")
	for _, x := range rows[:min(shownClassRows, len(rows))] {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.2g\t%.2g\n", printable(x.name), x.images, x.images-x.differ, x.sum/float64(x.images), x.largest)
	}
	if more := len(rows) - shownClassRows; more > 0 {
		fmt.Fprintf(w, "and %d more classes\n", more)
	}
}
