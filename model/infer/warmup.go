package infer

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/savedmodel"
)

// warmUp runs the version's own warm-up requests, and then made-up records in each of its batch
// sizes. TensorFlow sets up kernels for each new shape, and the first record should not wait
// for that. The error is that the model cannot run, or that its scores are not finite.
// perImage is the time for one image in the largest batch, with nothing else running.
func (v *Version) warmUp(ctx context.Context, dir string) (perImage time.Duration, err error) {
	own, err := v.warmUpRequests(ctx, dir)
	if err != nil {
		return 0, err
	}
	if v.sig.content.Image() && v.decode == nil {
		err = v.findSamples(ctx)
	}
	for _, n := range v.BatchSizes() {
		if err != nil {
			break
		}
		if err = ctx.Err(); err == nil {
			perImage, err = v.tryMadeUp(n)
		}
		if formats := v.samples; len(formats) > 1 {
			for i := 0; i < len(formats) && isRefusal(err); i++ { // try each format alone
				v.samples = formats[i : i+1]
				perImage, err = v.tryMadeUp(n)
			}
		}
	}
	if err == nil && len(v.samples) > 0 {
		v.run.filler = v.samples[0].bytes
	}
	if err == nil {
		start := time.Now()
		err = v.fillLanes()
		v.longest = max(v.longest, time.Since(start))
		return perImage, err
	}
	if (own > 0 || !v.sig.content.Image()) && isRefusal(err) {
		v.log.Warn("the model refuses made-up records; warmed up with its own requests only",
			"model", v.info.Model, "version", v.info.Version, "requests", own, "err", err)
		return 0, nil
	}
	return 0, err
}

// missingVariable matches TensorFlow's message about a variable without a value.
var missingVariable = regexp.MustCompile(`Could not find variable (.+?)\. This could mean`)

// lostVariable explains an error of TensorFlow about a variable without a value, and returns
// any other error unchanged.
func lostVariable(err error) error {
	status := (*savedmodel.Error)(nil)
	if !errors.As(err, &status) {
		return err
	}
	found := missingVariable.FindStringSubmatch(status.Message)
	if found == nil {
		return err
	}
	return errLost(found[1])
}

// errLost returns the error of a version in which a variable has no value after the load.
func errLost(variable string) error {
	return fmt.Errorf("TensorFlow's loader has no value for the variable %q: "+
		"Keras 3 models must be written by model.export(DIR), not tf.saved_model.save", variable)
}

// isRefusal reports whether an error means that the model refuses its input.
func isRefusal(err error) bool {
	guilty := (*InputError)(nil)
	return errors.Is(err, errSamples) || errors.As(blameInput(err, ReasonModelRefused), &guilty) && guilty.Reason == ReasonModelRefused
}

// tryMadeUp runs a batch of made-up records, and returns the time for each of them.
func (v *Version) tryMadeUp(n int) (perImage time.Duration, err error) {
	items, err := v.madeUpItems(n)
	start := time.Now()
	if err == nil {
		err = v.tryBatch(items)
	}
	if err != nil {
		return 0, fmt.Errorf("batch of %d: %w", n, err)
	}
	took := time.Since(start)
	v.longest = max(v.longest, took)
	return took / time.Duration(n), nil
}

// findSamples finds the made-up pictures that a model of encoded images accepts. If it
// accepts none, the error lists its reasons.
func (v *Version) findSamples(ctx context.Context) error {
	var reasons []string
	formats := map[string][]string{} // refused, by reason
	for _, made := range []func() []sampleImage{usualSamples, rareSamples} {
		var accepted []sampleImage
		for _, p := range made() {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.samples = []sampleImage{p}
			_, err := v.tryMadeUp(1)
			switch {
			case err == nil:
				accepted = append(accepted, p)
			case isRefusal(err):
				why := err.Error()
				if formats[why] == nil {
					reasons = append(reasons, why)
				}
				formats[why] = append(formats[why], p.format)
			default:
				return err
			}
		}
		if v.samples = accepted; accepted != nil {
			return nil
		}
	}
	for i, why := range reasons {
		reasons[i] = fmt.Sprintf("%s of %d×%d: %s", strings.Join(formats[why], ", "), sampleWidth, sampleHeight, why)
	}
	return fmt.Errorf("%w (%s): put a request that it takes into %s", errSamples, strings.Join(reasons, "; "), savedmodel.WarmupFile)
}

var errSamples = errors.New("the model refuses every made-up picture")

// fillLanes runs one of the largest batches in each lane at the same time. No later run takes
// more memory.
func (v *Version) fillLanes() error {
	var g errgroup.Group
	for range Lanes {
		g.Go(func() error {
			items, err := v.madeUpItems(v.MaxBatch())
			if err != nil {
				return err
			}
			return v.tryBatch(items)
		})
	}
	return g.Wait()
}

// BatchSizes returns the batch sizes to try the version with.
func (v *Version) BatchSizes() []int { return batchSizes(v.MaxBatch(), v.sig.batch) }

// batchSizes returns the powers of two below most, and most. If fixed is not 0, it returns that
// alone.
func batchSizes(most, fixed int) (sizes []int) {
	if fixed > 0 {
		return []int{fixed}
	}
	for n := 1; n < most; n *= 2 {
		sizes = append(sizes, n)
	}
	return append(sizes, most)
}

// tryBatch runs a batch without the queue, checks the result, and closes the items.
func (v *Version) tryBatch(items []item) error {
	var got batchResult
	err := recoverPanic(func() (err error) { // this may be a goroutine of its own
		got, err = v.run.batch(items)
		return err
	})
	for _, it := range items {
		it.close()
	}
	if err != nil {
		return err
	}
	return v.checkResult(got)
}

// checkResult checks that every record of a batch can be answered.
func (v *Version) checkResult(got batchResult) error {
	if err := v.sig.checkClasses(got); err != nil {
		return err
	}
	for i := range got.records() {
		var r result
		if err := r.setFrom(got, i); err != nil {
			return err
		}
		row := r.scores
		if row == nil {
			continue // there are no classes
		}
		if got.classes != nil {
			if err := checkIndices(len(v.labels), got.classes[i]); err != nil {
				return err
			}
			continue // the index of a score is not its class
		}
		if v.classes == 0 { // the signature does not say
			v.classes = len(row)
		}
		if len(row) != v.classes {
			return fmt.Errorf("%d scores for %d classes", len(row), v.classes)
		}
		if err := checkLabels(len(v.labels), len(row)); err != nil {
			return err
		}
	}
	return nil
}

// madeUpItems returns a batch of made-up records.
func (v *Version) madeUpItems(n int) ([]item, error) {
	items := make([]item, n)
	for i := range items {
		switch {
		case v.sig.content == Rows:
			items[i].row = blankRow(v.sig.feeds, nil)
			continue
		case v.sig.content == Examples:
			items[i].encoded = []byte{}
			continue
		case v.sig.dtype == savedmodel.String:
			items[i].encoded = v.samples[i%len(v.samples)].bytes
			continue
		}
		var err error
		if i == 0 {
			items[i].pixels, err = v.decoder.textured()
		} else {
			items[i].pixels, err = copyOf(items[0].pixels)
		}
		if err != nil {
			for _, it := range items[:i+1] {
				it.close()
			}
			return nil, err
		}
	}
	return items, nil
}

func copyOf(t *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	c, err := savedmodel.NewTensor(t.DType(), t.Shape()...)
	if err == nil {
		copy(c.Bytes(), t.Bytes())
	}
	return c, err
}
