package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"inceptor/savedmodel"
)

// A Quantizer measures the ranges that a version needs for int8, and how much its answers in int8
// differ from those in float32.
type Quantizer struct {
	Options Options // how the version is loaded; Precision and Calibration are not used
	Number  int64   // of the version
	Dir     string  // its folder

	Calibrate, Measure []string // names of the images for the ranges, and of those for the comparison

	// Read returns the content of an image.
	Read func(ctx context.Context, name string) ([]byte, error)
	// Progress is told what is done now, and how many of all steps are done.
	Progress func(what string, done, total int)
	// Skipped is told of each image that cannot be read or classified, once.
	Skipped func(name string, err error)
}

// Quantized is what a Quantizer has measured.
type Quantized struct {
	Calibration Calibration          // with the better method
	Methods     map[Method]Agreement // on the images of the calibration, for those methods that pass the version's gates
	Agreement   Agreement            // on the measured images
	Compared    []Compared           // the measured images
	Float, Int8 Cost
	Multiplied  float64 // part of the convolutions' multiplications that runs in int8
}

// Compared has the best classes of an image, and the difference of Agreement.Add.
type Compared struct {
	Name        string
	Float, Int8 Class
	Difference  float64
}

// Cost is what a version takes in a precision.
type Cost struct {
	PerImage time.Duration // median of runs of one image
	Memory   uint64        // bytes for load and warm-up
}

// timedRuns is how many runs a median of times has, at least.
const timedRuns = 12

// Steps of progress for an image, about as many as it takes runs in int8.
const (
	calibrateSteps = 7 // two runs in float32, one of them with all results of layers
	trySteps       = 1
	compareSteps   = 4 // a run in float32, and one in int8
)

// Run measures. It takes MethodLeastError, unless the answers to the images of the calibration are
// clearly better with another method. The error says why the version cannot run in int8, or that no
// image could be used.
func (q Quantizer) Run(ctx context.Context) (Quantized, error) {
	r := &quantizing{Quantizer: q, bad: map[string]bool{}}
	r.steps = (calibrateSteps+len(Methods())*trySteps)*len(q.Calibrate) + compareSteps*max(timedRuns, len(q.Measure))
	r.Options.MaxPixels = cmp.Or(r.Options.MaxPixels, attemptPixels)
	want, err := r.calibrate(ctx)
	if err != nil {
		return Quantized{}, err
	}
	if err := r.choose(ctx, want); err != nil {
		return Quantized{}, err
	}
	return r.result, r.measure(ctx)
}

// A quantizing is one Run.
type quantizing struct {
	Quantizer
	result      Quantized
	bad         map[string]bool // images that were skipped
	done, steps int
}

func (r *quantizing) tell(what string) { r.Progress(what, r.done, r.steps) }

// each calls f with the content of each image. It skips an image that cannot be read, or for which
// f returns an *InputError.
func (r *quantizing) each(ctx context.Context, what string, steps int, names []string, f func(name string, content []byte) error) error {
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.tell(what)
		r.done += steps
		if r.bad[name] {
			continue
		}
		content, err := r.Read(ctx, name)
		unread := err != nil
		if !unread {
			err = f(name, content)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case unread, errors.As(err, new(*InputError)):
			r.bad[name] = true
			r.Skipped(name, err)
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// calibrate measures the ranges, and returns the predictions in float32 for the same images.
func (r *quantizing) calibrate(ctx context.Context) (want map[string]Prediction, err error) {
	float, release, err := r.load(ctx, savedmodel.PrecisionFloat32)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := float.NewCalibrator(ctx)
	if err != nil {
		return nil, err
	}
	want = map[string]Prediction{}
	err = r.each(ctx, "calibrating", calibrateSteps, r.Calibrate, func(name string, content []byte) error {
		p, err := float.Classify(ctx, content)
		if err != nil {
			return err
		}
		var guilty *InputError
		if err := c.Add(ctx, content); errors.As(err, &guilty) && guilty.Reason != ReasonNotFinite {
			return fmt.Errorf("the results of layers cannot be read: %v", err) //nolint:errorlint // the model has just taken the image
		} else if err != nil {
			return err
		}
		want[name] = p
		return nil
	})
	if err == nil && c.seen == 0 {
		err = errors.New("none of the images can be used")
	}
	r.result.Calibration = c.Calibration()
	return want, err
}

// choose tries all methods on the images of the calibration.
func (r *quantizing) choose(ctx context.Context, want map[string]Prediction) error {
	r.result.Methods = map[Method]Agreement{}
	var refused error
	for _, method := range Methods() {
		r.result.Calibration.Method = method
		a, err := r.try(ctx, want)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			refused = fmt.Errorf("with the method %s: %w", method, err)
		default:
			r.result.Methods[method] = a
		}
	}
	if len(r.result.Methods) == 0 {
		return refused
	}
	r.result.Calibration.Method = betterMethod(r.result.Methods)
	return nil
}

// try compares the answers in int8 with those in float32, on the images of the calibration.
func (r *quantizing) try(ctx context.Context, want map[string]Prediction) (Agreement, error) {
	v, release, err := r.load(ctx, savedmodel.PrecisionInt8)
	if err != nil {
		return Agreement{}, err
	}
	defer release()
	var a Agreement
	err = r.each(ctx, "trying "+string(r.result.Calibration.Method), trySteps, r.Calibrate, func(name string, content []byte) error {
		p, err := v.Classify(ctx, content)
		if err == nil {
			a.Add(want[name], p)
		}
		return err
	})
	return a, err
}

// betterMethod returns the first of Methods, unless another one has more equal classes or, if that
// is equal, less than half the difference of scores. A small lead proves nothing: MethodMax cuts
// off none of the results on which the ranges were measured, but does so with new images.
func betterMethod(tried map[Method]Agreement) (best Method) {
	for _, m := range Methods() {
		a, ok := tried[m]
		b := tried[best]
		if ok && (best == "" || a.Part() > b.Part() || a.Part() == b.Part() && 2*a.MeanDifference() < b.MeanDifference()) {
			best = m
		}
	}
	return best
}

// load loads the version in a precision.
func (r *quantizing) load(ctx context.Context, p savedmodel.Precision) (v *Version, release func(), err error) {
	r.tell("loading in " + p.String())
	o := r.Options
	o.Session.Precision, o.Calibration, o.NoFallback = p, &r.result.Calibration, true
	v, _, release, err = LoadOnce(ctx, o, r.Number, r.Dir, SpecOverrides{})
	return v, release, err
}

// measure compares the version in int8 with that in float32 on the other images, one after the
// other, so that both have the same share of what else the machine does. It loads both, so that
// both find the same memory in the process.
func (r *quantizing) measure(ctx context.Context) error {
	float, release, err := r.load(ctx, savedmodel.PrecisionFloat32)
	if err != nil {
		return err
	}
	defer release()
	v, releaseInt8, err := r.load(ctx, savedmodel.PrecisionInt8)
	if err != nil {
		return err
	}
	defer releaseInt8()
	r.result.Float.Memory, r.result.Int8.Memory, r.result.Multiplied = float.Memory(), v.Memory(), v.Int8()
	var floatTimes, int8Times []time.Duration
	run := func(content []byte) (want, got Prediction, err error) {
		if want, err = float.Classify(ctx, content); err != nil {
			return want, got, err
		}
		if got, err = v.Classify(ctx, content); err != nil {
			return want, got, err
		}
		floatTimes, int8Times = append(floatTimes, want.Timings.Infer), append(int8Times, got.Timings.Infer)
		return want, got, nil
	}
	var used []string
	err = r.each(ctx, "comparing", compareSteps, r.Measure, func(name string, content []byte) error {
		want, got, err := run(content)
		if err != nil {
			return err
		}
		used = append(used, name)
		difference, _ := r.result.Agreement.Add(want, got)
		a, _ := want.Best()
		b, _ := got.Best()
		r.result.Compared = append(r.result.Compared, Compared{name, a, b, difference})
		return nil
	})
	if err != nil {
		return err
	}
	if len(used) == 0 {
		return errors.New("none of the images for the comparison can be used")
	}
	for len(floatTimes) < timedRuns {
		more := used[:min(len(used), timedRuns-len(floatTimes))]
		before := len(floatTimes)
		if err := r.each(ctx, "measuring times", compareSteps, more, func(_ string, content []byte) error {
			_, _, err := run(content)
			return err
		}); err != nil {
			return err
		}
		if len(floatTimes) == before { // the files have gone
			return errors.New("the images can no longer be used")
		}
	}
	r.result.Float.PerImage, r.result.Int8.PerImage = median(floatTimes), median(int8Times)
	return nil
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
